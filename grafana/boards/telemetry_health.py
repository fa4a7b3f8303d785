"""Can the other boards be believed: is telemetry made, delivered, stored, and masked."""

from __future__ import annotations

from typing import Final

from grafana.model import BYTES, COUNT, PER_SECOND, RATIO, SECONDS, Board, Row
from grafana.panels import SERVICE, graph, latency, stat

_RATE = "[$__rate_interval]"
# Jaeger is built on the Collector and has series of the same names.
_COLLECTOR_JOB = '{job="otel-collector"}'

_SDK = Row(
    "In the service: the OpenTelemetry SDK",
    (
        graph(
            "Spans and log records made",
            "What the service hands to the SDK.",
            PER_SECOND,
            (f"sum(rate(otel_sdk_span_ended_total{{{SERVICE}}}{_RATE}))", "spans"),
            (f"sum(rate(otel_sdk_log_created_total{{{SERVICE}}}{_RATE}))", "log records"),
            must_have=True,
        ),
        graph(
            "Delivered by the SDK",
            "What the Collector accepted; errors are kept and tried again, then counted as lost.",
            PER_SECOND,
            (
                "sum by (error_type) (rate("
                f"otel_sdk_exporter_span_exported_total{{{SERVICE}}}{_RATE}))",
                "spans {{error_type}}",
            ),
            (
                "sum by (error_type) (rate("
                f"otel_sdk_exporter_log_exported_total{{{SERVICE}}}{_RATE}))",
                "log records {{error_type}}",
            ),
            must_have=True,
        ),
        graph(
            "Queues of the SDK",
            "Records waiting, as a share of what fits. A full queue drops the oldest.",
            RATIO,
            (
                f"max(otel_sdk_processor_span_queue_size{{{SERVICE}}}"
                f" / otel_sdk_processor_span_queue_capacity{{{SERVICE}}})",
                "spans",
            ),
            (
                f"max(otel_sdk_processor_log_queue_size{{{SERVICE}}}"
                f" / otel_sdk_processor_log_queue_capacity{{{SERVICE}}})",
                "log records",
            ),
            thresholds={None: "green", 0.8: "red"},
            must_have=True,
        ),
    ),
)

_MASKING = Row(
    "In the service: masking and discipline",
    (
        graph(
            "Values masked",
            "Secrets replaced before they left the process.",
            PER_SECOND,
            (
                f"sum by (signal) (rate(telemetry_redactions_total{{{SERVICE}}}{_RATE}))",
                "{{signal}}",
            ),
            must_have=True,
        ),
        graph(
            "Masking failed",
            "Records replaced whole because they could not be masked. Every one is a defect.",
            PER_SECOND,
            (
                f"sum by (signal) (rate(telemetry_redaction_failures_total{{{SERVICE}}}{_RATE}))",
                "{{signal}}",
            ),
            thresholds={None: "green", 0.001: "red"},
            must_have=True,
        ),
        graph(
            "Log lines left out",
            "By the rate limit, so that one bad loop cannot fill the disk.",
            PER_SECOND,
            (f"sum(rate(logs_suppressed_total{{{SERVICE}}}{_RATE}))", "suppressed"),
            must_have=True,
        ),
        graph(
            "Words that are not declared",
            "Log events, metrics, labels and units that the code uses and no list has. They are "
            "recorded as best can be; each is a defect.",
            PER_SECOND,
            (f"sum by (kind) (rate(telemetry_unknown_total{{{SERVICE}}}{_RATE}))", "{{kind}}"),
            thresholds={None: "green", 0.001: "red"},
            width=12,
            must_have=True,
        ),
        latency(
            "Measured operations",
            "P95 of the blocks that the code measures with log_performance.",
            (
                "histogram_quantile(0.95, sum by (operation) (rate("
                f"operation_duration_seconds{{{SERVICE}}}{_RATE})))",
                "{{operation}}",
            ),
            width=12,
        ),
    ),
)

_COLLECTOR = Row(
    "Collector",
    (
        graph(
            "Received",
            "By signal. Refused means that the sender tries again.",
            PER_SECOND,
            *(
                (
                    f"sum(rate(otelcol_receiver_{what}_{signal}_total{_COLLECTOR_JOB}{_RATE}))",
                    f"{text} {what}",
                )
                for what in ("accepted", "refused")
                for signal, text in (
                    ("spans", "spans"),
                    ("metric_points", "metric points"),
                    ("log_records", "log records"),
                )
            ),
            must_have=True,
        ),
        graph(
            "Sent",
            "By exporter; each has its own queue on disk.",
            PER_SECOND,
            *(
                (
                    "sum by (exporter) (rate("
                    f"otelcol_exporter_sent_{signal}_total{_COLLECTOR_JOB}{_RATE}))",
                    "{{exporter}}",
                )
                for signal in ("spans", "metric_points", "log_records")
            ),
            must_have=True,
        ),
        graph(
            "Not sent",
            "Failed for good, or not taken into a full queue: loss. The series begin with the "
            "first loss, hence the explicit zero.",
            PER_SECOND,
            *(
                (
                    f"sum(rate(otelcol_exporter_{what}_failed_{signal}_total"
                    f"{_COLLECTOR_JOB}{_RATE})) or vector(0)",
                    f"{signal} {text}",
                )
                for what, text in (("send", "failed"), ("enqueue", "not queued"))
                for signal in ("spans", "metric_points", "log_records")
            ),
            thresholds={None: "green", 0.001: "red"},
            must_have=True,
        ),
        graph(
            "Queues on disk",
            "Fill of each exporter's queue. It grows while its backend is away and drains after.",
            RATIO,
            (
                f"max by (exporter) (otelcol_exporter_queue_size{_COLLECTOR_JOB})"
                f" / max by (exporter) (otelcol_exporter_queue_capacity{_COLLECTOR_JOB})",
                "{{exporter}}",
            ),
            thresholds={None: "green", 0.8: "red"},
            must_have=True,
        ),
        graph(
            "Collector memory",
            "The memory limiter refuses data above 256 MiB.",
            BYTES,
            (f"max(otelcol_process_memory_rss_bytes{_COLLECTOR_JOB})", "resident"),
            must_have=True,
        ),
        stat(
            "Collector running for",
            "Since its last start.",
            SECONDS,
            f"max(otelcol_process_uptime_seconds_total{_COLLECTOR_JOB})",
            width=8,
            height=8,
            must_have=True,
        ),
    ),
)

_PROMETHEUS = Row(
    "Prometheus",
    (
        graph(
            "Samples stored",
            "All of them, the engines' own included.",
            PER_SECOND,
            ("sum(rate(prometheus_tsdb_head_samples_appended_total[$__rate_interval]))", "samples"),
            (
                "sum(rate(prometheus_tsdb_exemplar_exemplars_appended_total[$__rate_interval]))",
                "exemplars",
            ),
            must_have=True,
        ),
        graph(
            "Active series",
            "Each costs memory. The budget of the service is in docs/metrics.md.",
            COUNT,
            ("sum(prometheus_tsdb_head_series)", "series"),
            must_have=True,
        ),
        graph(
            "Write failures",
            "Prometheus acknowledges data it could not write to its log, so this is the only "
            "sign of that loss.",
            PER_SECOND,
            ("sum(rate(prometheus_tsdb_wal_writes_failed_total[$__rate_interval]))", "log writes"),
            (
                "sum(rate(prometheus_target_scrapes_sample_out_of_order_total[$__rate_interval]))",
                "out of order",
            ),
            thresholds={None: "green", 0.001: "red"},
            must_have=True,
        ),
        graph(
            "Rules",
            "Evaluations that failed or were missed: then alerts are blind.",
            PER_SECOND,
            ("sum(rate(prometheus_rule_evaluation_failures_total[$__rate_interval]))", "failed"),
            (
                "sum(rate(prometheus_rule_group_iterations_missed_total[$__rate_interval]))",
                "missed",
            ),
            thresholds={None: "green", 0.001: "red"},
            must_have=True,
        ),
        graph(
            "Notifications",
            "To Alertmanager, and from there to the service.",
            PER_SECOND,
            ("sum(rate(prometheus_notifications_sent_total[$__rate_interval]))", "to Alertmanager"),
            (
                "sum(rate(prometheus_notifications_errors_total[$__rate_interval]))",
                "to Alertmanager, failed",
            ),
            (
                'sum(rate(alertmanager_notifications_total{integration="webhook"}'
                "[$__rate_interval]))",
                "to the service",
            ),
            (
                'sum(rate(alertmanager_notifications_failed_total{integration="webhook"}'
                "[$__rate_interval]))",
                "to the service, failed",
            ),
            must_have=True,
        ),
        graph(
            "Engines that answer",
            "1 when the last scrape succeeded.",
            COUNT,
            ("min by (job) (up)", "{{job}}"),
            thresholds={None: "red", 1: "green"},
            must_have=True,
        ),
    ),
)

_STORES = Row(
    "VictoriaLogs and Jaeger",
    (
        graph(
            "Log lines stored",
            "By VictoriaLogs; dropped are lines that are too old, too new or too large.",
            PER_SECOND,
            ("sum(rate(vl_rows_ingested_total[$__rate_interval]))", "received"),
            (
                "sum(rate(vl_rows_dropped_total[$__rate_interval])) or vector(0)",
                "dropped",
            ),
            must_have=True,
        ),
        graph(
            "VictoriaLogs P97 by path",
            "Writes and queries of the last minutes.",
            SECONDS,
            ('max by (path) (vl_http_request_duration_seconds{quantile="0.97"})', "{{path}}"),
            must_have=True,
        ),
        graph(
            "Spans stored",
            "By Jaeger.",
            PER_SECOND,
            (
                'sum(rate(otelcol_exporter_sent_spans_total{job="jaeger"}[$__rate_interval]))',
                "stored",
            ),
            must_have=True,
        ),
    ),
)

TELEMETRY_HEALTH: Final = Board(
    uid="transcripts-telemetry",
    title="Telemetry health",
    description="Whether the other boards can be believed: from the SDK to the disks.",
    rows=(_SDK, _MASKING, _COLLECTOR, _PROMETHEUS, _STORES),
)
