"""Why a row of docs/performance.md misses its goal, or did not repeat: one sentence each.

By hand, and only for rows that need one; tests/contract/test_performance_page.py holds that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_SHARED = (
    "counted as PSS, which divides what Chromiums share by how many run: those of other tests came "
    "and went during both runs."
)

REASONS: Final[dict[str, str]] = {
    "browser: acquire a page, P50": (
        "3 and 4 ms beside 625 and 652, on a machine where thirty processes waited for two cores: "
        "a thread's turn is most of it. Both are below a fifth of the goal."
    ),
    "browser: acquire and load a page, P95": (
        "of twenty-five turns it is the second slowest. There are sixty now."
    ),
    "browser: memory of a context with a loaded page": _SHARED,
    "browser: memory of an idle context": _SHARED,
    "capacity: logs, CPU of the store for one record": (
        "2.1 and 2.5 µs. VictoriaLogs merges its parts in the background, within the measured "
        "minute or after it; that this is why was not shown."
    ),
    "capacity: logs, the Collector's answer at that rate": (
        "58 and 45 ms at 52,000 a second, where the next step is refused: the Collector takes 1.2 "
        "of two cores then and the sender half of one, so every answer waits its turn."
    ),
    "dashboard: cache hit, whole handler, P95": (
        "0.63 ms on two quiet cores. The other is the best of ten rounds where thirty processes "
        "waited for them."
    ),
    "dashboard: time of a miss in which no query was running, P95": (
        "eight answers are parsed, joined and written in Python by threads that take turns: 3.0 ms "
        "of 70 on two quiet cores, twice that part where thirty processes waited for them. The "
        "CPU time of a miss is the same."
    ),
    "growth: performance, a miss after 1,000,000 requests, median": (
        "17 and 15 ms; its peer, asked in the engines' first minute, took 12 and 14."
    ),
    "growth: the newest traces, a miss after 1,000,000 requests, median": (
        "27 and 23 ms; its peer, asked in the engines' first minute, took 16 and 18."
    ),
    "growth: traces of which there are none, a miss after 1,000,000 requests, median": (
        "2.4 and 2.2 s beside 8 and 9 ms. Jaeger reads its index of the whole window, and nothing "
        "stands in that of the peer."
    ),
    "telemetry: CPU of our telemetry in a request (uncached)": (
        "1.018 and 0.965, and 0.989 in a run before: as much as instrumentation that masks "
        "nothing, bounds no attribute and does not count what it loses."
    ),
    "telemetry: uncached request over HTTP, P50": (
        "the peer has no telemetry at all, and YouTube's stand-in answers at once: 1.2 ms of 11.5, "
        "most of it the instrumentations of requests and Flask. With YouTube's usual pauses a "
        "transcript takes 267 ms, of which that is less than 1 %."
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
