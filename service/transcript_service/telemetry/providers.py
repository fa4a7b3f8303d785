"""Start and stop the OpenTelemetry SDK in this process.

`start` runs after gunicorn has forked: counters, queues and export threads belong to one
process, and a copy of them counts twice or hangs.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from opentelemetry import _logs, metrics, trace
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from ..settings import Settings
from . import instruments
from .lines import version
from .logs import configure_logging, get_logger, pipeline
from .otlp_logs import OtlpLogSink
from .spans import TRACER_NAME, use_tracer

log = get_logger(__name__)

# What we would have the SDK do; a variable that the user has set wins.
DEFAULTS: Final = {
    "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": (
        "base2_exponential_bucket_histogram"
    ),
    "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": "true",
    "OTEL_METRICS_EXEMPLAR_FILTER": "trace_based",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "5",
    "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
    "OTEL_METRIC_EXPORT_INTERVAL": "15000",
    "OTEL_BSP_MAX_QUEUE_SIZE": "10000",
    "OTEL_BLRP_MAX_QUEUE_SIZE": "10000",
    "OTEL_PROPAGATORS": "tracecontext",
}


def apply_defaults() -> None:
    """Set the `OTEL_*` variables that are not set yet. Before any instrumentation is imported."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


@dataclass
class Telemetry:
    """The providers of this process; empty when the SDK is disabled."""

    tracer_provider: TracerProvider | None = None
    meter_provider: MeterProvider | None = None
    logger_provider: LoggerProvider | None = None
    _stopped: bool = field(default=False, repr=False)

    def shutdown(self, timeout_s: float = 8.0) -> bool:
        """Send what is queued and close all three providers, at the same time.

        Returns:
            Whether all had finished within `timeout_s`; what had not is lost.
        """
        if self._stopped:
            return True
        self._stopped = True
        pipeline.sink = None
        closers: list[Callable[[], object]] = [
            provider.shutdown
            for provider in (self.tracer_provider, self.logger_provider, self.meter_provider)
            if provider is not None
        ]
        threads = [threading.Thread(target=close, daemon=True) for close in closers]
        deadline = time.monotonic() + timeout_s
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        instruments.stop()
        use_tracer(None)
        return not any(thread.is_alive() for thread in threads)


def start(settings: Settings) -> Telemetry:
    """Build this process's providers, make them global and start the registry's instruments.

    Never waits for the Collector. With `OTEL_SDK_DISABLED=true` only lines on stderr remain.
    """
    apply_defaults()
    configure_logging(settings)
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return Telemetry()
    resource = Resource.create(
        {
            "service.name": settings.service_name,
            "service.version": version(),
            "deployment.environment.name": settings.environment,
        }
    )
    meter_provider = MeterProvider(
        [PeriodicExportingMetricReader(OTLPMetricExporter())], resource, shutdown_on_exit=False
    )
    tracer_provider = TracerProvider(
        resource=resource, shutdown_on_exit=False, meter_provider=meter_provider
    )
    tracer_provider.add_span_processor(
        BatchSpanProcessor(
            OTLPSpanExporter(meter_provider=meter_provider), meter_provider=meter_provider
        )
    )
    logger_provider = LoggerProvider(resource, False, meter_provider=meter_provider)
    logger_provider.add_log_record_processor(
        BatchLogRecordProcessor(
            OTLPLogExporter(meter_provider=meter_provider), meter_provider=meter_provider
        )
    )
    metrics.set_meter_provider(meter_provider)
    trace.set_tracer_provider(tracer_provider)
    _logs.set_logger_provider(logger_provider)
    use_tracer(tracer_provider.get_tracer(TRACER_NAME, version()))
    instruments.start(meter_provider.get_meter(TRACER_NAME, version()))
    pipeline.sink = OtlpLogSink(logger_provider.get_logger(TRACER_NAME, version()))
    return Telemetry(tracer_provider, meter_provider, logger_provider)
