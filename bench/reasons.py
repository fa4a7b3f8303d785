"""Why a row of docs/performance.md misses its goal, or did not repeat: one sentence each.

By hand, and only for rows that need one; tests/contract/test_performance_page.py holds that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_MOMENT = (
    "asked fifteen times within a second, while the engines were still merging what they had "
    "just been sent. The benchmark now waits until they rest, and asks thirty times."
)

REASONS: Final[dict[str, str]] = {
    "dashboard: time of a miss in which no query was running, P95": (
        "eight answers are parsed, joined and written in Python by threads that take turns. The "
        "95th percentile of 120 is as much the scheduler's: on a machine with other work to do it "
        "was 3.7 ms."
    ),
    "growth: performance, a miss after 1,000,000 requests, median": _MOMENT,
    "growth: performance, a miss after 10,000 requests, median": _MOMENT,
    "growth: traces of which there are none, a miss after 10,000 requests, median": _MOMENT,
    "service: start to the first transcript, one worker": (
        "the median of five starts, in two runs between which the machine's speed doubled. It is "
        "now of fifteen pairs, and two such runs differed by 2 %."
    ),
    "telemetry: CPU of our telemetry in a request (uncached)": (
        "one per cent more than instrumentation that masks nothing, bounds no attribute and does "
        "not count what it loses."
    ),
    "telemetry: log line, masked, with trace and context": (
        "1.93 in the run before: the peer neither masks nor adds ids. Both are within 5 %."
    ),
    "telemetry: registry counter": (
        "the best of five rounds was too few. Now it is the best of twenty."
    ),
    "telemetry: uncached request over HTTP, P50": (
        "the peer has no telemetry at all, and YouTube's stand-in answers at once: 2 ms of 18. "
        "With YouTube's usual pauses a transcript takes 267 ms, and 2 ms are less than 1 % of it."
    ),
}

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
