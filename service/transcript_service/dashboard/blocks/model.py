"""What every block consists of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..answers import Answers

# The data of a block, or `None` when nothing was measured in the window.
Build = Callable[[Answers], dict[str, Any] | None]


@dataclass(frozen=True)
class Block:
    """A part of the dashboard.

    Attributes:
        name: key in `/metrics`.
        scope: what a token must hold to see it.
        queries: names in `queries.QUERIES`.
        exemplars_of: names in `queries.EXEMPLARS`.
        build: shapes the answers.
    """

    name: str
    scope: str
    queries: tuple[str, ...]
    build: Build
    exemplars_of: tuple[str, ...] = ()


def ratio(part: float | None, whole: float | None) -> float | None:
    """`part / whole`, `None` where there is nothing to divide by."""
    return part / whole if whole and part is not None else None
