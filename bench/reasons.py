"""Why a row of docs/performance.md misses its goal, or did not repeat: one sentence each.

By hand, and only for rows that need one; tests/contract/test_performance_page.py holds that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_MOMENT = (
    "both runs asked fifteen times within a second, while the engines were still merging what "
    "they had just been sent. The benchmark has learnt to wait until they rest, and to ask thirty "
    "times; it was not run to its end since."
)
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
    "capacity: traces, CPU of the store for one record": (
        "Jaeger merges with time, too: 39 µs at 16,000 a second and 36 at 20,000 in the same run."
    ),
    "capacity: traces, highest rate that loses nothing for 60 s": (
        "one step of 4,000 between what held and what did not. The steps are half as long now."
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
    "growth: performance, a miss after 1,000,000 requests, median": _MOMENT,
    "growth: performance, a miss after 10,000 requests, median": _MOMENT,
    "growth: traces of which there are none, a miss after 10,000 requests, median": _MOMENT,
    "telemetry: CPU of our telemetry in a request (uncached)": (
        "one per cent more than instrumentation that masks nothing, bounds no attribute and does "
        "not count what it loses."
    ),
    "telemetry: log line, masked, with trace and context": (
        "the peer neither masks nor adds ids: 2.00 to 2.02 in three runs, 1.93 in one before them."
    ),
    "telemetry: uncached request over HTTP, P50": (
        "the peer has no telemetry at all, and YouTube's stand-in answers at once: 2.3 ms of 19.7, "
        "most of it the instrumentations of requests and Flask. With YouTube's usual pauses a "
        "transcript takes 267 ms, of which 2.3 are less than 1 %."
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
