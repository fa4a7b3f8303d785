"""What every breaker does now, what it did in the window, and how long it took to recover."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ...rfc3339 import rfc3339
from ...telemetry.vocabulary import STAGES, BreakerState, Stage
from ..answers import Answers, stretches
from ..shapes import Breaker, CircuitBreaker, StateSegment

# Workers may disagree; a reader has to see the one that is worst off.
WORST_FIRST: Final[tuple[BreakerState, ...]] = (
    "forced_open",
    "open",
    "half_open",
    "closed",
    "metrics_only",
    "disabled",
)


def worst_state(states: Iterable[str]) -> BreakerState | None:
    """The state to show for a breaker that has several, or `None` without any."""
    found = set(states)
    return next((state for state in WORST_FIRST if state in found), None)


def build(answers: Answers) -> CircuitBreaker | None:
    if answers.gone_quiet("breaker_state", "breaker_calls") and not answers.series(
        "breaker_state_over_time"
    ):
        return None
    names = {  # a stage that is switched off has series as well, all zero
        sample.labels.get("name")
        for query in ("breaker_state", "breaker_calls")
        for sample in answers.samples(query)
        if sample.value
    }
    return {
        "breakers": [_breaker(answers, name) for name in STAGES if name in names],
        "timeline": [
            {"name": name, "segments": segments}
            for name in STAGES
            if (segments := _segments(answers, name))
        ],
    }


def _breaker(answers: Answers, name: Stage) -> Breaker:
    states = answers.tally("breaker_state", "state", name=name)
    moves = answers.by("breaker_transitions", "from", "to", name=name)
    recovery = answers.by("breaker_recovery", "quantile", name=name)
    return {
        "name": name,
        "state": worst_state(states or ()),
        "workers": states,
        "calls": answers.tally("breaker_calls", "kind", name=name),
        "transitions": None
        if "breaker_transitions" in answers.failures
        else [
            {"from": before, "to": after, "count": count}
            for (before, after), count in moves.items()
            if count > 0
        ],
        "recovery_p50_s": recovery.get(("p50",)),
        "recovery_p95_s": recovery.get(("p95",)),
        "opening": None,  # metrics do not tell it; the log does
    }


def _segments(answers: Answers, name: str) -> list[StateSegment]:
    """The chart's raster as stretches of one state; where nothing was reported there is a gap.

    A point of the raster says what was seen in the step that ends there.
    """
    steps = answers.window.chart_steps
    seen: list[set[str]] = [set() for _ in steps]
    for series in answers.series("breaker_state_over_time"):
        if series.labels.get("name") == name:
            for states, value in zip(seen, series.values, strict=True):
                if value is not None:
                    states.add(series.labels.get("state", ""))
    return [
        {"state": state, "start": rfc3339(steps[max(first - 1, 0)]), "end": rfc3339(steps[last])}
        for state, first, last in stretches(map(worst_state, seen))
    ]
