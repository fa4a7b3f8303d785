"""What every block consists of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..answers import Answers
from ..queries import Query

# The data of a block, or `None` when nothing was measured in the window.
Build = Callable[[Answers], Mapping[str, Any] | None]


@dataclass(frozen=True)
class Block:
    """A part of the dashboard.

    Attributes:
        name: key in `/metrics`.
        scope: what a token must hold to see it.
        about: what it answers, for the API's description.
        shape: of its data.
        queries: what it asks.
        exemplars_of: the selectors whose exemplars it asks for.
        build: shapes the answers.
    """

    name: str
    scope: str
    about: str
    shape: Any
    queries: Mapping[str, Query]
    build: Build
    exemplars_of: Mapping[str, Query] = field(default_factory=dict)


def gone_quiet(answers: Answers, *names: str) -> bool:
    """Whether these queries were answered and none of them has a value."""
    return not any(
        name in answers.failures or any(s.value is not None for s in answers.samples.get(name, ()))
        for name in names
    )


def ratio(part: float | None, whole: float | None) -> float | None:
    """`part / whole`, `None` where there is nothing to divide by."""
    return part / whole if whole and part is not None else None
