"""Every PromQL of the dashboard API, by name.

A query is a template; what fills it comes from this service, never from a caller:

* `$job`: matcher for the service's own series, `job="<service.name>"`.
* `$stage`, `$breaker`: empty, or `,stage="…"` / `,name="…"` with a word of the vocabulary.
* `$window`: length of the asked window; `$rate`: range of a chart's rates (`window.py`).

Metrics arrive by push, so a dead process leaves no stale marker: gauges are read with
`last_over_time(…[2m])` and stop counting two minutes after the last export instead of five.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Template
from typing import Final

from .window import Window


@dataclass(frozen=True)
class Query:
    """A named question. `over_time` asks for a chart (one value per step), else for one value."""

    name: str
    promql: str
    over_time: bool = False

    def render(self, window: Window, *, service: str) -> str:
        """The PromQL for a window.

        Args:
            service: `service.name`, which Prometheus stores as `job`.
        """
        job = service.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        return Template(self.promql).substitute(
            job=f'job="{job}"',
            stage=f',stage="{window.stage}"' if window.stage else "",
            breaker=f',name="{window.stage}"' if window.stage else "",
            window=f"{window.seconds}s",
            rate=f"{window.rate_s}s",
        )


def _each(*queries: Query) -> dict[str, Query]:
    return {query.name: query for query in queries}


QUERIES: Final = _each(
    # performance
    Query(
        "requests",
        "sum by (outcome, source, error_type) (increase(transcript_requests_total{$job}[$window]))",
    ),
    Query(
        "request_p50",
        "histogram_quantile(0.5,"
        " sum(increase(transcript_request_duration_seconds{$job}[$window])))",
    ),
    Query(
        "request_p95",
        "histogram_quantile(0.95,"
        " sum(increase(transcript_request_duration_seconds{$job}[$window])))",
    ),
    Query(
        "stage_attempts",
        "sum by (stage, outcome, error_type)"
        " (histogram_count(increase(transcript_stage_duration_seconds{$job$stage}[$window])))",
    ),
    Query(
        "stage_p50",
        "histogram_quantile(0.5, sum by (stage)"
        " (increase(transcript_stage_duration_seconds{$job$stage}[$window])))",
    ),
    Query(
        "stage_p95",
        "histogram_quantile(0.95, sum by (stage)"
        " (increase(transcript_stage_duration_seconds{$job$stage}[$window])))",
    ),
    Query(
        "stage_skipped",
        "sum by (stage, reason) (increase(transcript_stage_skipped_total{$job$stage}[$window]))",
    ),
    Query(
        "request_rate",
        "sum by (outcome) (rate(transcript_requests_total{$job}[$rate]))",
        over_time=True,
    ),
    Query(
        "stage_p50_over_time",
        "histogram_quantile(0.5, sum by (stage)"
        " (rate(transcript_stage_duration_seconds{$job$stage}[$rate])))",
        over_time=True,
    ),
    Query(
        "stage_p95_over_time",
        "histogram_quantile(0.95, sum by (stage)"
        " (rate(transcript_stage_duration_seconds{$job$stage}[$rate])))",
        over_time=True,
    ),
)

# Selectors whose exemplars (single measured requests with their trace ids) are asked for.
EXEMPLARS: Final = _each(
    Query("request_exemplars", "transcript_request_duration_seconds{$job}"),
)
