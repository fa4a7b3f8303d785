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
from functools import cached_property, partial
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


def _counted(counter: str, by: str = "") -> str:
    """What a counter counted in the window."""
    return f"sum by ({by}) (increase({counter}[$window]))"


def _measured(histogram: str, by: str) -> str:
    """How many measurements a histogram got in the window."""
    return f"sum by ({by}) (histogram_count(increase({histogram}[$window])))"


def _held(gauge: str, by: str = "", *, over: str = "2m") -> str:
    """What a gauge showed last, added up over workers."""
    return f"sum by ({by}) (last_over_time({gauge}[{over}]))"


def _quantiles(histogram: str, by: str = "", *, over: str = "increase({}[$window])") -> str:
    """Median and 95th percentile, `p50` and `p95` in the label `quantile`."""
    summed = f"sum by ({by}) ({over.format(histogram)})"
    return " or ".join(
        f'label_replace(histogram_quantile({q}, {summed}), "quantile", "{word}", "", "")'
        for word, q in (("p50", 0.5), ("p95", 0.95))
    )


_chart = partial(Query, kind="chart")
_STAGE_TIMES: Final = "transcript_stage_duration_seconds{$job$stage}"

PERFORMANCE: Final = (
    Query(
        "requests",
        f"{_counted('transcript_requests_total{$job}', 'outcome, source, error_type')} > 0",
    ),
    # of whole requests, which have no stage, and of stages
    Query(
        "times",
        f"{_quantiles('transcript_request_duration_seconds{$job}')}"
        f" or {_quantiles(_STAGE_TIMES, 'stage')}",
    ),
    Query("stage_attempts", _measured(_STAGE_TIMES, "stage, outcome, error_type")),
    Query(
        "stage_skipped",
        f"{_counted('transcript_stage_skipped_total{$job$stage}', 'stage, reason')} > 0",
    ),
    _chart(
        "request_rate",
        "sum by (outcome) (rate(transcript_requests_total{$job}[$rate]))",
        of_stage=Query(
            "request_rate",
            f"sum by (outcome) (histogram_count(increase({_STAGE_TIMES}[$span]))) / $seconds",
        ),
    ),
    _chart("times_over_time", _quantiles(_STAGE_TIMES, "stage", over="rate({}[$rate])")),
    # what charts are marked with
    _chart(
        "marks",
        "count by (service_version) (last_over_time(target_info{$job}[$gauge]))"
        " or max by (fault) (last_over_time(demo_fault[$gauge])) > 0",
    ),
    # single measured requests with their trace ids
    Query(
        "request_exemplars",
        "transcript_request_duration_seconds{$job}",
        kind="exemplars",
        of_stage=Query("request_exemplars", _STAGE_TIMES),
    ),
)
CIRCUIT_BREAKER: Final = (
    Query("breaker_state", _held("circuit_breaker_state{$job$breaker}", "name, state")),
    Query(
        "breaker_transitions",
        _counted("circuit_breaker_transitions_total{$job$breaker}", "name, from, to"),
    ),
    Query("breaker_calls", _counted("circuit_breaker_calls_total{$job$breaker}", "name, kind")),
    Query(
        "breaker_recovery",
        _quantiles("circuit_breaker_recovery_duration_seconds{$job$breaker}", "name"),
    ),
    _chart(
        "breaker_state_over_time",
        "max by (name, state) (max_over_time(circuit_breaker_state{$job$breaker}[$gauge])) > 0",
    ),
)
BROWSER_CONTEXTS: Final = (
    Query("contexts", _held("browser_contexts{$job}", "profile, state")),
    Query("contexts_limit", _held("browser_contexts_limit{$job}")),
    Query("browser_memory", _held("browser_memory_usage_bytes{$job}", "instance")),
    # above which an alert fires (prometheus/rules/browser.yml)
    Query("browser_memory_threshold", "max(threshold:browser_memory:bytes)"),
    Query("contexts_created", _counted("browser_contexts_created_total{$job}", "profile")),
    Query("contexts_closed", _counted("browser_contexts_closed_total{$job}", "reason")),
    Query("context_leases", _counted("browser_context_leases_total{$job}", "reused")),
    Query("context_wait", _quantiles("browser_context_wait_duration_seconds{$job}")),
    Query(
        "context_age_p95",
        "histogram_quantile(0.95, sum(increase(browser_context_age_seconds{$job}[$window])))",
    ),
    Query("context_uses_mean", "histogram_avg(sum(increase(browser_context_uses{$job}[$window])))"),
    _chart("contexts_over_time", _held("browser_contexts{$job}", "state", over="$gauge")),
    _chart("browser_memory_over_time", _held("browser_memory_usage_bytes{$job}", over="$gauge")),
)
PROXY: Final = (
    Query("proxies", _held("proxy_pool_proxies{$job}", "state")),
    Query("proxy_rotations", _counted("proxy_rotations_total{$job}", "reason")),
    Query(
        "proxy_preflights", _measured("proxy_preflight_duration_seconds{$job}", "proxy, outcome")
    ),
    Query("proxy_preflight_times", _quantiles("proxy_preflight_duration_seconds{$job}", "proxy")),
    Query("proxied_attempts", _measured(_STAGE_TIMES, "proxy_used, outcome")),
    _chart("proxies_over_time", _held("proxy_pool_proxies{$job}", "state", over="$gauge")),
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
    Query("redaction_failures", _counted("telemetry_redaction_failures_total{$job}")),
    Query("logs_suppressed", _counted("logs_suppressed_total{$job}")),
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
