"""Evidence: the log lines and the traces behind every number of the other boards."""

from __future__ import annotations

from typing import Final

from grafana.model import PER_SECOND, RATIO, Board, Row, TraceSearch
from grafana.panels import LOGS, SPANS, graph, latency, log_graph, logs, traces

_BY_STAGE = f'{LOGS} stage:~"${{stage:regex}}"'

_VOLUME = Row(
    "Volume",
    (
        log_graph(
            "Lines by severity",
            "How much is logged.",
            (f"{LOGS} | stats by (severity_text) count() lines", "{{severity_text}}"),
            stacked=True,
            width=12,
            must_have=True,
        ),
        log_graph(
            "Lines by event",
            "Every kind of line has a name: the catalogue is in telemetry/events.py.",
            (f"{LOGS} event:* | stats by (event) count() lines", "{{event}}"),
            stacked=True,
            width=12,
            must_have=True,
        ),
        log_graph(
            "Failed stages by error type",
            "From the log, not from the metrics: the two must tell the same story.",
            (
                f"{_BY_STAGE} event:=transcript.stage.finished error_type:*"
                " | stats by (stage, error_type) count() lines",
                "{{stage}} {{error_type}}",
            ),
            stacked=True,
            width=24,
            must_have=True,
        ),
    ),
)

_LINES = Row(
    "Log lines",
    (
        logs(
            "Errors and warnings",
            "A line's details show every field; its trace_id opens the trace.",
            f"{LOGS} severity_text:in(WARN, WARNING, ERROR, CRITICAL, FATAL)",
            must_have=True,
        ),
        logs(
            "Stages",
            "What each attempt of the chosen stages and error types ended with.",
            f'{_BY_STAGE} event:=transcript.stage.finished error_type:~"${{error_type:regex}}"',
            must_have=True,
        ),
        logs(
            "Slow requests",
            "Answered requests that took more than 5 seconds.",
            f"{LOGS} event:=transcript.request.finished duration_s:>5",
        ),
    ),
)

_TRACES = Row(
    "Traces",
    (
        traces(
            "Newest requests",
            "Traces of transcript requests.",
            TraceSearch(operation="transcript.fetch"),
            must_have=True,
        ),
        traces(
            "Slow requests",
            "Traces in which fetching took more than 2 seconds.",
            TraceSearch(operation="transcript.fetch", min_duration="2s"),
        ),
        traces(
            "Failed stages",
            "Attempts of a stage that ended with an error.",
            TraceSearch(operation="transcript.stage", tags="outcome=error"),
            must_have=True,
        ),
        traces(
            "Blocked stages",
            "Attempts that YouTube refused.",
            TraceSearch(operation="transcript.stage", tags="outcome=blocked"),
            must_have=True,
        ),
    ),
)

_CALLS = f"traces_span_metrics_calls_total{{{SPANS}}}"
_FAILED = f'traces_span_metrics_calls_total{{{SPANS}, status_code="STATUS_CODE_ERROR"}}'
_DURATION = f"traces_span_metrics_duration_seconds{{{SPANS}}}"

_SPANS = Row(
    "Spans, counted by the Collector",
    (
        graph(
            "Spans by name",
            "Also those for which the service has no metric of its own.",
            PER_SECOND,
            (f"sum by (span_name) (rate({_CALLS}[$__rate_interval]))", "{{span_name}}"),
            must_have=True,
        ),
        graph(
            "Failed share by span",
            "Spans whose status is an error.",
            RATIO,
            (
                f"sum by (span_name) (rate({_FAILED}[$__rate_interval]))"
                f" / sum by (span_name) (rate({_CALLS}[$__rate_interval]))",
                "{{span_name}}",
            ),
            must_have=True,
        ),
        latency(
            "P95 by span",
            "A dot opens the trace.",
            (
                f"histogram_quantile(0.95, sum by (span_name) (rate({_DURATION}"
                "[$__rate_interval])))",
                "{{span_name}}",
            ),
            must_have=True,
        ),
    ),
)

LOGS_AND_TRACES: Final = Board(
    uid="transcripts-logs",
    title="Logs and traces",
    description="The evidence behind the numbers: log lines by event, traces by outcome.",
    rows=(_VOLUME, _LINES, _TRACES, _SPANS),
    variables=("stage", "error_type"),
)
