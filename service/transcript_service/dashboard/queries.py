"""Every PromQL and LogQL of the dashboard API, by name.

A query is a template; what fills it comes from this service, never from a caller:

* `$job`: matcher for the service's own series, `job="<service.name>"`.
* `$stage`, `$breaker`: empty, or `,stage="…"` / `,name="…"` with a word of the vocabulary.
* `$window`: length of the asked window; `$rate` and `$gauge`: the ranges that charts of
  counters and of gauges look at for one point (`window.py`).

Metrics arrive by push, so a dead process leaves no stale marker: gauges are read with
`last_over_time(…[2m])` and stop counting two minutes after the last export instead of five.

A week of the stages' histograms is some million samples, which take Prometheus longer than a
query may. Windows of twelve hours and more, whose charts have no finer steps, therefore ask
the 5-minute records of prometheus/rules/transcripts.yml, which are forty times fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import Template
from typing import Final

from ..telemetry.instruments import REGISTRY, Gauge, Instrument, UpDownCounter
from ..telemetry.prometheus_names import prometheus_name
from .window import Window

RECORDED_EVERY_S: Final = 300


@dataclass(frozen=True)
class Query:
    """A named question. `over_time` asks for a chart (one value per step), else for one value.

    `recorded` is the same question to the 5-minute records, where there are any.
    """

    name: str
    promql: str
    over_time: bool = False
    recorded: str | None = None

    def renderings(self, window: Window, *, service: str) -> tuple[str, ...]:
        """The PromQL for a window; where several, the next one where one finds nothing.

        Without rules, and in the first minutes with them, there are no records; then there
        are few samples as well.

        Args:
            service: `service.name`, which Prometheus stores as `job`.
        """
        if self.recorded is None or window.step_s < RECORDED_EVERY_S:
            return (self._filled(self.promql, window, service),)
        return (
            self._filled(self.recorded, window, service),
            self._filled(self.promql, window, service),
        )

    def render(self, window: Window, *, service: str) -> str:
        """The PromQL for a window that is asked first."""
        return self.renderings(window, service=service)[0]

    @staticmethod
    def _filled(promql: str, window: Window, service: str) -> str:
        return Template(promql).substitute(
            job=f'job="{_quoted(service)}"',
            stage=f',stage="{window.stage}"' if window.stage else "",
            breaker=f',name="{window.stage}"' if window.stage else "",
            window=f"{window.seconds}s",
            rate=f"{window.rate_s}s",
            gauge=f"{window.gauge_s}s",
        )


def _quoted(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _each(*queries: Query) -> dict[str, Query]:
    return {query.name: query for query in queries}


QUERIES: Final = _each(
    # performance
    Query(
        "requests",
        "sum by (outcome, source, error_type) (increase(transcript_requests_total{$job}[$window]))"
        " > 0",
    ),
    Query(
        "request_p50",
        "histogram_quantile(0.5,"
        " sum(increase(transcript_request_duration_seconds{$job}[$window])))",
        recorded="histogram_quantile(0.5,"
        " sum(sum_over_time(job:transcript_request_duration_seconds:increase5m{$job}[$window])))",
    ),
    Query(
        "request_p95",
        "histogram_quantile(0.95,"
        " sum(increase(transcript_request_duration_seconds{$job}[$window])))",
        recorded="histogram_quantile(0.95,"
        " sum(sum_over_time(job:transcript_request_duration_seconds:increase5m{$job}[$window])))",
    ),
    Query(
        "stage_attempts",
        "sum by (stage, outcome, error_type)"
        " (histogram_count(increase(transcript_stage_duration_seconds{$job$stage}[$window])))",
        recorded="sum by (stage, outcome, error_type)"
        " (histogram_count(sum_over_time("
        "job_stage:transcript_stage_duration_seconds:increase5m{$job$stage}[$window])))",
    ),
    Query(
        "stage_p50",
        "histogram_quantile(0.5, sum by (stage)"
        " (increase(transcript_stage_duration_seconds{$job$stage}[$window])))",
        recorded="histogram_quantile(0.5, sum by (stage)"
        " (sum_over_time("
        "job_stage:transcript_stage_duration_seconds:increase5m{$job$stage}[$window])))",
    ),
    Query(
        "stage_p95",
        "histogram_quantile(0.95, sum by (stage)"
        " (increase(transcript_stage_duration_seconds{$job$stage}[$window])))",
        recorded="histogram_quantile(0.95, sum by (stage)"
        " (sum_over_time("
        "job_stage:transcript_stage_duration_seconds:increase5m{$job$stage}[$window])))",
    ),
    Query(
        "stage_skipped",
        "sum by (stage, reason) (increase(transcript_stage_skipped_total{$job$stage}[$window]))"
        " > 0",
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
        recorded="histogram_quantile(0.5, sum by (stage)"
        " (sum_over_time("
        "job_stage:transcript_stage_duration_seconds:increase5m{$job$stage}[$rate])))",
        over_time=True,
    ),
    Query(
        "stage_p95_over_time",
        "histogram_quantile(0.95, sum by (stage)"
        " (rate(transcript_stage_duration_seconds{$job$stage}[$rate])))",
        recorded="histogram_quantile(0.95, sum by (stage)"
        " (sum_over_time("
        "job_stage:transcript_stage_duration_seconds:increase5m{$job$stage}[$rate])))",
        over_time=True,
    ),
    # circuit breaker
    Query(
        "breaker_state",
        "sum by (name, state) (last_over_time(circuit_breaker_state{$job$breaker}[2m]))",
    ),
    Query(
        "breaker_transitions",
        "sum by (name, from, to)"
        " (increase(circuit_breaker_transitions_total{$job$breaker}[$window]))",
    ),
    Query(
        "breaker_calls",
        "sum by (name, kind) (increase(circuit_breaker_calls_total{$job$breaker}[$window]))",
    ),
    Query(
        "breaker_recovery_p50",
        "histogram_quantile(0.5, sum by (name)"
        " (increase(circuit_breaker_recovery_duration_seconds{$job$breaker}[$window])))",
    ),
    Query(
        "breaker_recovery_p95",
        "histogram_quantile(0.95, sum by (name)"
        " (increase(circuit_breaker_recovery_duration_seconds{$job$breaker}[$window])))",
    ),
    Query(
        "breaker_state_over_time",
        "max by (name, state) (max_over_time(circuit_breaker_state{$job$breaker}[$gauge])) > 0",
        over_time=True,
    ),
    # browser contexts
    Query("contexts", "sum by (profile, state) (last_over_time(browser_contexts{$job}[2m]))"),
    Query("contexts_limit", "sum(last_over_time(browser_contexts_limit{$job}[2m]))"),
    Query("browser_memory", "sum(last_over_time(browser_memory_usage_bytes{$job}[2m]))"),
    Query(
        "contexts_created",
        "sum by (profile) (increase(browser_contexts_created_total{$job}[$window]))",
    ),
    Query(
        "contexts_closed",
        "sum by (reason) (increase(browser_contexts_closed_total{$job}[$window]))",
    ),
    Query(
        "context_leases",
        "sum by (reused) (increase(browser_context_leases_total{$job}[$window]))",
    ),
    Query(
        "context_wait_p50",
        "histogram_quantile(0.5,"
        " sum(increase(browser_context_wait_duration_seconds{$job}[$window])))",
    ),
    Query(
        "context_wait_p95",
        "histogram_quantile(0.95,"
        " sum(increase(browser_context_wait_duration_seconds{$job}[$window])))",
    ),
    Query(
        "context_age_p95",
        "histogram_quantile(0.95, sum(increase(browser_context_age_seconds{$job}[$window])))",
    ),
    Query("context_uses_mean", "histogram_avg(sum(increase(browser_context_uses{$job}[$window])))"),
    Query(
        "contexts_over_time",
        "sum by (state) (last_over_time(browser_contexts{$job}[$gauge]))",
        over_time=True,
    ),
    Query(
        "browser_memory_over_time",
        "sum(last_over_time(browser_memory_usage_bytes{$job}[$gauge]))",
        over_time=True,
    ),
    # proxies
    Query("proxies", "sum by (state) (last_over_time(proxy_pool_proxies{$job}[2m]))"),
    Query("proxy_rotations", "sum by (reason) (increase(proxy_rotations_total{$job}[$window]))"),
    Query(
        "proxy_preflights",
        "sum by (proxy, outcome)"
        " (histogram_count(increase(proxy_preflight_duration_seconds{$job}[$window])))",
    ),
    Query(
        "proxy_preflight_p50",
        "histogram_quantile(0.5, sum by (proxy)"
        " (increase(proxy_preflight_duration_seconds{$job}[$window])))",
    ),
    Query(
        "proxy_preflight_p95",
        "histogram_quantile(0.95, sum by (proxy)"
        " (increase(proxy_preflight_duration_seconds{$job}[$window])))",
    ),
    Query(
        "proxied_attempts",
        "sum by (proxy_used, outcome)"
        " (histogram_count(increase(transcript_stage_duration_seconds{$job$stage}[$window])))",
        recorded="sum by (proxy_used, outcome)"
        " (histogram_count(sum_over_time("
        "job_stage:transcript_stage_duration_seconds:increase5m{$job$stage}[$window])))",
    ),
    Query(
        "proxies_over_time",
        "sum by (state) (last_over_time(proxy_pool_proxies{$job}[$gauge]))",
        over_time=True,
    ),
    # health: always about now, whatever the window
    Query("workers", "count(count by (instance) (last_over_time(target_info{$job}[2m])))"),
    Query("telemetry_age", "time() - max(timestamp(target_info{$job}))"),
    Query(
        "recent_requests",
        "sum by (outcome, error_type) (increase(transcript_requests_total{$job}[5m]))",
    ),
    Query(
        "breakers_now", "max by (name, state) (last_over_time(circuit_breaker_state{$job}[2m])) > 0"
    ),
    Query("engines", "min by (job) (up)"),
    # severity none: the alert that always fires, to show that alerting works
    Query("firing", 'count by (severity) (ALERTS{alertstate="firing",severity!="none"})'),
    Query(
        "redaction_failures",
        "sum(increase(telemetry_redaction_failures_total{$job}[$window]))",
    ),
    Query("logs_suppressed", "sum(increase(logs_suppressed_total{$job}[$window]))"),
)

# Selectors whose exemplars (single measured requests with their trace ids) are asked for.
EXEMPLARS: Final = _each(
    Query("request_exemplars", "transcript_request_duration_seconds{$job}"),
)


def export_query(instrument: Instrument) -> Query:
    """The current series of one instrument, one per worker."""
    selector = f"{prometheus_name(instrument)}{{$job}}"
    if isinstance(instrument, Gauge | UpDownCounter):
        return Query(instrument.name, f"last_over_time({selector}[2m])")
    return Query(instrument.name, selector)


EXPORT: Final = _each(*(export_query(instrument) for instrument in REGISTRY.values()))

LOGS_OF_TRACE: Final = '{"service.name"="$service"} trace_id:="$trace"'


def logs_of_trace(trace_id: str, *, service: str) -> str:
    """The LogsQL for the log lines of one trace, whose id has been checked to be hex."""
    return Template(LOGS_OF_TRACE).substitute(service=_quoted(service), trace=trace_id)


def log_lines(
    *,
    service: str,
    severities: Sequence[str] = (),
    stage: str | None = None,
    video: str | None = None,
) -> str:
    """The LogsQL for a service's lines of some severities, about a stage and a checked video id."""
    parts = [f'{{"service.name"="{_quoted(service)}"}}']
    if severities:
        words = ",".join(f'"{severity}"' for severity in severities)
        parts.append(f"severity_text:in({words})")
    if stage:
        parts.append(f'stage:="{stage}"')
    if video:
        parts.append(f'video_id:="{video}"')
    return " ".join(parts)


_ENDED: Final = '_msg:in("transcript.stage.finished","transcript.request.finished")'


def ends_of_traces(trace_ids: Sequence[str], *, service: str) -> str:
    """The LogsQL for how the requests of some traces and their stages ended; ids are hex."""
    ids = ",".join(f'"{trace_id}"' for trace_id in trace_ids)
    return f'{{"service.name"="{_quoted(service)}"}} {_ENDED} trace_id:in({ids})'


def failed_events(*, service: str, stage: str | None = None) -> str:
    """The LogsQL for the ends of requests and stages that were no success."""
    parts = [
        f'{{"service.name"="{_quoted(service)}"}}',
        _ENDED,
        '-outcome:in("success","no_captions")',
    ]
    if stage:
        parts.append(f'stage:="{stage}"')
    return " ".join(parts)
