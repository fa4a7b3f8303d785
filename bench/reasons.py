"""Why a row of docs/performance.md misses its goal, or did not repeat: one sentence each.

By hand, and only for rows that need one; tests/contract/test_performance_page.py holds that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

REASONS: Final[dict[str, str]] = {}

REPEATS: Final = 0.15
"""A second run repeats the first where it differs by no more than this part of it."""


def change(row: Mapping[str, Any]) -> float | None:
    """How much the ratio, or the value where there is no peer, differs from the run before.

    As a part of the run before; `None` where there was none.
    """
    what = "value" if row["ratio"] is None else "ratio"
    before = row.get(f"{what}_before")
    return row[what] / before - 1 if before else None


def needs_reason(row: Mapping[str, Any]) -> bool:
    """Whether it misses its goal, or did not repeat."""
    return row["met"] is False or abs(change(row) or 0.0) > REPEATS
