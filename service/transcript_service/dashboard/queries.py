"""Every PromQL and LogQL of the dashboard API, by name.

A query is a template; what fills it comes from this service, never from a caller:

* `$job`: matcher for the service's own series, `job="<service.name>"`.
* `$stage`, `$breaker`: empty, or `,stage="…"` / `,name="…"` with a word of the vocabulary.
* `$window`: length of the asked window; `$rate` and `$gauge`: the ranges that charts of
  counters and of gauges look at for one point (`window.py`); `$span`, `$seconds`: the range of
  an increase that is made a rate by dividing, which records are not by themselves.

Metrics arrive by push, so a dead process leaves no stale marker: gauges are read with
`last_over_time(…[2m])` and stop counting two minutes after the last export instead of five.

A week of the stages' histograms is some million samples, which take Prometheus longer than a
query may. Windows of seven hours and more, whose charts have no finer steps, therefore ask
the 5-minute records of prometheus/rules/transcripts.yml, which are forty times fewer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from string import Template
from typing import Final, Literal

from ..telemetry.instruments import REGISTRY, Gauge, Instrument, UpDownCounter
from .window import Window

RECORDED_EVERY_S: Final = 300
_RECORDS: Final = {
    "transcript_request_duration_seconds": "job:transcript_request_duration_seconds:increase5m",
    "transcript_stage_duration_seconds": "job_stage:transcript_stage_duration_seconds:increase5m",
}
# By stage alone, for quantiles: they do not tell attempts apart.
_SUMMED: Final = "job_stage:transcript_stage_duration_seconds:sum_increase5m"
_RECORDED: Final = re.compile(rf"(?:increase|rate)\(({'|'.join(_RECORDS)})\{{")


@dataclass(frozen=True)
class Query:
    """A named question: for single values, for charts (a value per step) or for exemplars.

    `of_stage` is what is asked instead where a stage was chosen.
    """

    name: str
    promql: str
    kind: Literal["value", "chart", "exemplars"] = "value"
    of_stage: Query | None = None

    @cached_property
    def recorded(self) -> str | None:
        """The same question to the 5-minute records, where there are any.

        Sums of them stand for rates too: quantiles do not change by a factor.
        """
        promql, found = _RECORDED.subn(
            lambda histogram: f"sum_over_time({_RECORDS[histogram[1]]}{{", self.promql
        )
        if "histogram_quantile" in promql:
            promql = promql.replace(_RECORDS["transcript_stage_duration_seconds"], _SUMMED)
        return promql if found else None

    def renderings(self, window: Window, *, service: str) -> Iterator[str]:
        """The PromQL for a window; where several, the next one where one finds nothing.

        Without rules, and in the first minutes with them, there are no records; then there
        are few samples as well.

        Args:
            service: `service.name`, which Prometheus stores as `job`.
        """
        asked = self.of_stage if self.of_stage is not None and window.stage else self
        long = window.step_s >= RECORDED_EVERY_S
        # Of records only as many as belong to one step; of samples enough for a rate.
        span = window.step_s if long else window.rate_s
        for promql in filter(None, (asked.recorded if long else None, asked.promql)):
            yield Template(promql).substitute(
                job=f'job="{_quoted(service)}"',
                stage=f',stage="{window.stage}"' if window.stage else "",
                breaker=f',name="{window.stage}"' if window.stage else "",
                window=f"{window.seconds}s",
                rate=f"{window.rate_s}s",
                gauge=f"{window.gauge_s}s",
                span=f"{span}s",
                seconds=span,
            )


def _quoted(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _quantiles(histogram: str, by: str = "", *, over: str = "increase({}[$window])") -> str:
    """Median and 95th percentile, `p50` and `p95` in the label `quantile`."""
    summed = f"sum by ({by}) ({over.format(histogram)})"
    return " or ".join(
        f'label_replace(histogram_quantile({q}, {summed}), "quantile", "{word}", "", "")'
        for word, q in (("p50", 0.5), ("p95", 0.95))
    )


PERFORMANCE: Final = (
    Query(
        "requests",
        "sum by (outcome, source, error_type) (increase(transcript_requests_total{$job}[$window]))"
        " > 0",
    ),
    # of whole requests, which have no stage, and of stages
    Query(
        "times",
        f"{_quantiles('transcript_request_duration_seconds{$job}')}"
        f" or {_quantiles('transcript_stage_duration_seconds{$job$stage}', 'stage')}",
    ),
    Query(
        "stage_attempts",
        "sum by (stage, outcome, error_type)"
        " (histogram_count(increase(transcript_stage_duration_seconds{$job$stage}[$window])))",
    ),
    Query(
        "stage_skipped",
        "sum by (stage, reason) (increase(transcript_stage_skipped_total{$job$stage}[$window]))"
        " > 0",
    ),
    Query(
        "request_rate",
        "sum by (outcome) (rate(transcript_requests_total{$job}[$rate]))",
        kind="chart",
        of_stage=Query(
            "request_rate",
            "sum by (outcome)"
            " (histogram_count(increase(transcript_stage_duration_seconds{$job$stage}[$span])))"
            " / $seconds",
        ),
    ),
    Query(
        "times_over_time",
        _quantiles(
            "transcript_stage_duration_seconds{$job$stage}", "stage", over="rate({}[$rate])"
        ),
        kind="chart",
    ),
    # what charts are marked with
    Query(
        "marks",
        "count by (service_version) (last_over_time(target_info{$job}[$gauge]))"
        " or max by (fault) (last_over_time(demo_fault[$gauge])) > 0",
        kind="chart",
    ),
    # single measured requests with their trace ids
    Query(
        "request_exemplars",
        "transcript_request_duration_seconds{$job}",
        kind="exemplars",
        of_stage=Query("request_exemplars", "transcript_stage_duration_seconds{$job$stage}"),
    ),
)
CIRCUIT_BREAKER: Final = (
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
        "breaker_recovery",
        _quantiles("circuit_breaker_recovery_duration_seconds{$job$breaker}", "name"),
    ),
    Query(
        "breaker_state_over_time",
        "max by (name, state) (max_over_time(circuit_breaker_state{$job$breaker}[$gauge])) > 0",
        kind="chart",
    ),
)
BROWSER_CONTEXTS: Final = (
    Query("contexts", "sum by (profile, state) (last_over_time(browser_contexts{$job}[2m]))"),
    Query("contexts_limit", "sum(last_over_time(browser_contexts_limit{$job}[2m]))"),
    Query(
        "browser_memory",
        "sum by (instance) (last_over_time(browser_memory_usage_bytes{$job}[2m]))",
    ),
    # above which an alert fires (prometheus/rules/browser.yml)
    Query("browser_memory_threshold", "max(threshold:browser_memory:bytes)"),
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
    Query("context_wait", _quantiles("browser_context_wait_duration_seconds{$job}")),
    Query(
        "context_age_p95",
        "histogram_quantile(0.95, sum(increase(browser_context_age_seconds{$job}[$window])))",
    ),
    Query("context_uses_mean", "histogram_avg(sum(increase(browser_context_uses{$job}[$window])))"),
    Query(
        "contexts_over_time",
        "sum by (state) (last_over_time(browser_contexts{$job}[$gauge]))",
        kind="chart",
    ),
    Query(
        "browser_memory_over_time",
        "sum(last_over_time(browser_memory_usage_bytes{$job}[$gauge]))",
        kind="chart",
    ),
)
PROXY: Final = (
    Query("proxies", "sum by (state) (last_over_time(proxy_pool_proxies{$job}[2m]))"),
    Query("proxy_rotations", "sum by (reason) (increase(proxy_rotations_total{$job}[$window]))"),
    Query(
        "proxy_preflights",
        "sum by (proxy, outcome)"
        " (histogram_count(increase(proxy_preflight_duration_seconds{$job}[$window])))",
    ),
    Query("proxy_preflight_times", _quantiles("proxy_preflight_duration_seconds{$job}", "proxy")),
    Query(
        "proxied_attempts",
        "sum by (proxy_used, outcome)"
        " (histogram_count(increase(transcript_stage_duration_seconds{$job$stage}[$window])))",
    ),
    Query(
        "proxies_over_time",
        "sum by (state) (last_over_time(proxy_pool_proxies{$job}[$gauge]))",
        kind="chart",
    ),
)
# Always about now, whatever the window.
HEALTH: Final = (
    Query("workers", "count(count by (instance) (last_over_time(target_info{$job}[2m])))"),
    Query("telemetry_age", "time() - max(timestamp(target_info{$job}))"),
    Query(
        "recent_requests",
        "sum by (outcome, error_type) (increase(transcript_requests_total{$job}[5m]))",
    ),
    Query(
        "breakers_now", "max by (name, state) (last_over_time(circuit_breaker_state{$job}[2m])) > 0"
    ),
    # As the alert has it (prometheus/rules/breakers.yml): an open breaker hurts who asks it.
    Query(
        "breaker_calls_now",
        "sum by (name) (increase("
        'circuit_breaker_calls_total{$job,kind=~"not_permitted|failed"}[10m])) > 0',
    ),
    # The share of each job's targets that answer, and, behind a balancer, each service's (its name
    # stands in another label).
    Query(
        "engines",
        "avg by (job) (up or label_join("
        'haproxy_server_status{proxy="services",state="UP"}, "job", "", "server"))',
    ),
    # severity none: the alert that always fires, to show that alerting works
    Query("firing", 'count by (severity) (ALERTS{alertstate="firing",severity!="none"})'),
    Query(
        "redaction_failures",
        "sum(increase(telemetry_redaction_failures_total{$job}[$window]))",
    ),
    Query("logs_suppressed", "sum(increase(logs_suppressed_total{$job}[$window]))"),
)


def _current(instrument: Instrument) -> Query:
    """The current series of one instrument, one per worker."""
    selector = f"{instrument.prometheus_name}{{$job}}"
    if isinstance(instrument, Gauge | UpDownCounter):
        return Query(instrument.name, f"last_over_time({selector}[2m])")
    return Query(instrument.name, selector)


EXPORT: Final = tuple(map(_current, REGISTRY.values()))


# How requests and their stages ended.
STAGE_ENDED: Final = '_msg:="transcript.stage.finished"'
ENDED: Final = '_msg:in("transcript.stage.finished","transcript.request.finished")'
FAILED: Final = '-outcome:in("success","no_captions")'


# When a breaker left `closed` last, and when it opened last.
OPENED: Final = '_msg:="circuit_breaker.state_changed"'
OPENINGS: Final = (
    "stats by (breaker) row_max(_time, _time, service.instance.id, trace_id, reason,"
    ' failure_rate, slow_call_rate) if (from_state:="closed") opening,'
    ' max(_time) if (to_state:="open") last_opened'
)


def logsql(service: str, *filters: str, **fields: str | Sequence[str] | None) -> str:
    """The LogsQL for a service's lines in which fields have a value, or one of several.

    Values are words of the vocabulary, or ids that were checked; `None` and nothing is any.
    """
    parts = [f'{{"service.name"="{_quoted(service)}"}}', *filters]
    for name, value in fields.items():
        if isinstance(value, str):
            parts.append(f'{name}:="{value}"')
        elif value:
            words = ",".join(f'"{word}"' for word in value)
            parts.append(f"{name}:in({words})")
    return " ".join(parts)
