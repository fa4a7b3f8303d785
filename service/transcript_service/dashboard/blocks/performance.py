"""How many requests, how many succeeded, how long they and their stages took."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from ...rfc3339 import rfc3339
from ...telemetry.vocabulary import CALLER_ERRORS, STAGES
from ..answers import Answers, ratio, stretches
from ..prometheus import Exemplar
from ..shapes import Mark, Performance, Point, Request, Requests, StageNumbers
from ..window import Window

_LISTED: Final = 20  # slowest and failed requests shown
_POINTS: Final = 120  # at most on a chart, each the slowest of its stretch


def success_ratio(counts: Mapping[tuple[str, ...], float]) -> float | None:
    """The share that succeeded of what could have succeeded.

    Args:
        counts: by outcome and error type. Videos without captions and callers' mistakes
            say nothing about the service and stay out, as in the availability objective. A
            request that was turned away because breakers are open (`skipped`) has failed.
    """
    able = sum(
        count
        for (outcome, error_type), count in counts.items()
        if outcome != "no_captions" and error_type not in CALLER_ERRORS
    )
    good = sum(count for (outcome, _), count in counts.items() if outcome == "success")
    return ratio(good, able)


def build(answers: Answers) -> Performance | None:
    requests = _requests(answers)
    stages = _stages(answers)
    exemplars: Sequence[Exemplar] = answers.found.get("request_exemplars", ())
    if not answers.failures and not requests["total"] and not stages:
        return None
    return {
        "requests": requests,
        "stages": stages,
        "slow_requests": _listed(sorted(exemplars, key=lambda found: -found.value)),
        "failed_requests": _listed(
            sorted(
                (e for e in exemplars if e.labels.get("outcome") not in ("success", "no_captions")),
                key=lambda found: -found.at,
            )
        ),
        "points": _points(exemplars, answers.window),
        "marks": [*_marks(answers)],
        "series": [
            *answers.chart("request_rate", "1/s"),
            *answers.chart("times_over_time", "s", as_="stage_{}"),
        ],
    }


def _requests(answers: Answers) -> Requests:
    ends = answers.by("requests", "outcome", "error_type")
    total = None if "requests" in answers.failures else sum(ends.values())
    times = answers.by("times", "stage", "quantile")
    return {
        "total": total,
        "rate_per_s": None if total is None else total / answers.window.seconds,
        "success_ratio": success_ratio(ends),
        "p50_s": times.get(("", "p50")),
        "p95_s": times.get(("", "p95")),
        "outcomes": answers.tally("requests", "outcome"),
        "sources": answers.tally("requests", "source", outcome="success"),
        "errors": answers.tally("requests", "error_type"),
    }


def _stages(answers: Answers) -> list[StageNumbers]:
    stages: list[StageNumbers] = []
    for stage in STAGES:
        ends = answers.by("stage_attempts", "outcome", "error_type", stage=stage)
        skipped = answers.tally("stage_skipped", "reason", stage=stage)
        times = answers.by("times", "quantile", stage=stage)
        if ends or skipped or times:
            stages.append(
                {
                    "stage": stage,
                    "attempts": None
                    if "stage_attempts" in answers.failures
                    else sum(ends.values()),
                    "success_ratio": success_ratio(ends),
                    "p50_s": times.get(("p50",)),
                    "p95_s": times.get(("p95",)),
                    "outcomes": answers.tally("stage_attempts", "outcome", stage=stage),
                    "errors": answers.tally("stage_attempts", "error_type", stage=stage),
                    "skipped": skipped,
                }
            )
    return stages


def _points(exemplars: Sequence[Exemplar], window: Window) -> list[Point]:
    slots: dict[int, Exemplar] = {}
    for found in exemplars:
        slot = int((found.at - window.now) / window.seconds * _POINTS)
        if slot not in slots or found.value > slots[slot].value:
            slots[slot] = found
    return [
        {
            "trace_id": found.trace_id,
            "at": rfc3339(found.at, "milliseconds"),
            "duration_s": found.value,
            "outcome": found.labels.get("outcome"),
        }
        for _, found in sorted(slots.items())
    ]


def _marks(answers: Answers) -> Iterator[Mark]:
    """Versions that began while another was known, and the demo's faults."""
    steps = answers.window.chart_steps
    began: dict[str, int] = {}
    for series in answers.series("marks"):
        for _, first, last in stretches(series.values):
            if (fault := series.labels.get("fault")) is None:
                began.setdefault(series.labels.get("service_version", ""), steps[first])
            else:
                start, end = rfc3339(steps[first]), rfc3339(steps[last])
                yield {"kind": "demo_fault", "name": fault, "start": start, "end": end}
    earliest = min(began.values(), default=0)  # the first one ever seen is no deploy
    for version, at in began.items():
        if at > earliest:
            yield {"kind": "deploy", "name": version, "start": rfc3339(at), "end": None}


def _listed(exemplars: list[Exemplar]) -> list[Request]:
    seen: dict[str, Exemplar] = {}
    for found in exemplars:
        seen.setdefault(found.trace_id, found)
    return [
        {
            "trace_id": found.trace_id,
            "duration_s": found.value,
            "at": rfc3339(found.at),
            "outcome": found.labels.get("outcome"),
            "source": found.labels.get("source"),
            # Metrics do not have these; the log does.
            "video_id": None,
            "stage": None,
            "error_type": None,
            "worker": found.labels.get("instance"),
        }
        for found in list(seen.values())[:_LISTED]
    ]
