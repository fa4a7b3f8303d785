"""Start and stop the OpenTelemetry SDK in this process.

`start` runs after gunicorn has forked: counters, queues and export threads belong to one
process, and a copy of them counts twice or hangs.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from opentelemetry import _logs, metrics, propagate, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.instrumentation.system_metrics import SystemMetricsInstrumentor
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from ..settings import Settings
from . import http_server, instruments, self_metrics
from .export_queue import ExportQueue, Outage
from .light_tracer import LightSpan, LightTracer
from .lines import version
from .logs import configure_logging, get_logger, pipeline
from .otlp import (
    GuardedMetricExporter,
    LogDelivery,
    LogLine,
    QueueLogProcessor,
    QueueSpanProcessor,
    SpanDelivery,
)
from .propagation import IncomingTraceparent
from .redaction import register_environment
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
    "OTEL_BSP_SCHEDULE_DELAY": "1000",
    "OTEL_BLRP_MAX_QUEUE_SIZE": "10000",
    "OTEL_BLRP_SCHEDULE_DELAY": "1000",
}

# The HTTP libraries' own attributes where those are without bound (hosts of media servers).
_VIEWS: Final = (
    View(
        instrument_name="http.client.*",
        attribute_keys={"http.request.method", "http.response.status_code", "error.type"},
    ),
)

# Of this process only; the host's numbers are the Collector's business.
_PROCESS_METRICS: Final[dict[str, list[str] | None]] = {
    "process.cpu.time": ["user", "system"],
    "process.cpu.utilization": ["user", "system"],
    "process.memory.usage": None,
    "process.memory.virtual": None,
    "process.open_file_descriptor.count": None,
    "process.thread.count": None,
    "process.context_switches": ["involuntary", "voluntary"],
    "cpython.gc.collections": None,
    "cpython.gc.collected_objects": None,
}


def apply_defaults() -> None:
    """Set the `OTEL_*` variables that are not set yet. Before any instrumentation is imported."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


class _Resource(Resource):
    """Hashes once: the encoders look every record's resource up in a dict, and the SDK's
    hash writes the whole resource as JSON each time."""

    def __init__(self, inner: Resource) -> None:
        super().__init__(inner.attributes, inner.schema_url)
        self._hash = super().__hash__()

    def __eq__(self, other: object) -> bool:
        return self is other or super().__eq__(other)

    def __hash__(self) -> int:
        return self._hash


class OutageLog:
    """One warning when delivery stops working, one line when all of it works again."""

    def __init__(self) -> None:
        self._failing: dict[str, float] = {}
        self._dropped = 0
        self._lock = threading.Lock()

    def __call__(self, outage: Outage) -> None:
        """Take note of one signal's outage beginning or ending."""
        with self._lock:
            known = bool(self._failing)
            if not outage.over:
                self._failing.setdefault(outage.signal, time.monotonic())
                if known:
                    return
            else:
                began = self._failing.pop(outage.signal, None)
                self._dropped += outage.dropped
                if began is None or self._failing:
                    return
                dropped, self._dropped = self._dropped, 0
        if outage.over:
            log.info(
                "telemetry.export.recovered",
                signal=outage.signal,
                outage_s=round(outage.lasted_s, 1),
                dropped=dropped,
            )
        else:
            log.warning(
                "telemetry.export.failing",
                signal=outage.signal,
                reason="The Collector cannot be reached or does not answer; records are kept.",
            )

    def metrics(self, succeeded: bool) -> None:
        """Take note of one export of metrics."""
        failing = "metrics" in self._failing
        if succeeded and failing:
            lasted_s = time.monotonic() - self._failing["metrics"]
            self(Outage("metrics", over=True, lasted_s=lasted_s, dropped=0))
        elif not succeeded and not failing:
            self(Outage("metrics", over=False, lasted_s=0.0, dropped=0))


@dataclass
class Telemetry:
    """What runs in this process; empty when the SDK is disabled."""

    tracer_provider: TracerProvider | None = None
    meter_provider: MeterProvider | None = None
    logger_provider: LoggerProvider | None = None
    span_queue: ExportQueue[LightSpan | ReadableSpan] | None = None
    log_queue: ExportQueue[LogLine | ReadableLogRecord] | None = None
    _abort: list[Callable[[], None]] = field(default_factory=list, repr=False)
    _stopped: bool = field(default=False, repr=False)

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Send everything queued and one collection of metrics. Returns whether it was in time."""
        if self.span_queue is None or self.log_queue is None or self.meter_provider is None:
            return True
        deadline = time.monotonic() + timeout_s
        flushed = self.span_queue.flush(timeout_s)
        flushed &= self.log_queue.flush(max(0.0, deadline - time.monotonic()))
        remaining_s = max(0.1, deadline - time.monotonic())
        return self.meter_provider.force_flush(remaining_s * 1000) and flushed

    def shutdown(self, timeout_s: float = 8.0) -> bool:
        """Send what is queued and close all three signals, at the same time.

        Returns:
            Whether everything was delivered within `timeout_s`. What was not is lost; the line
            `telemetry.shutdown.finished` on stderr says how much.
        """
        if self._stopped:
            return True
        self._stopped = True
        if self.span_queue is None or self.log_queue is None or self.meter_provider is None:
            return True
        began = time.monotonic()
        lost: dict[str, int] = {}
        queues = (self.span_queue, self.log_queue)

        def close(queue: ExportQueue[Any]) -> None:
            lost[queue.signal] = queue.close(timeout_s - 0.2)

        closers = [threading.Thread(target=close, args=(queue,), daemon=True) for queue in queues]

        def close_metrics() -> None:
            # The last collection counts what the queues delivered, if they are quick.
            for closer in closers:
                closer.join(timeout_s * 0.2)
            self._quietly_close_meter(began + timeout_s - time.monotonic())

        closers_and_metrics = [*closers, threading.Thread(target=close_metrics, daemon=True)]
        for thread in closers_and_metrics:
            thread.start()
        for thread in closers_and_metrics:
            thread.join(max(0.0, began + timeout_s - time.monotonic()))
        for abort in self._abort:
            abort()
        in_time = not any(thread.is_alive() for thread in closers_and_metrics)
        pipeline.sink = None
        log.info(
            "telemetry.shutdown.finished",
            duration_s=round(time.monotonic() - began, 3),
            lost_spans=lost.get("traces"),
            lost_logs=lost.get("logs"),
        )
        instruments.stop()
        use_tracer(None)
        return in_time and not any(lost.values())

    def _quietly_close_meter(self, timeout_s: float) -> None:
        if self.meter_provider is not None:
            self.meter_provider.shutdown(max(0.1, timeout_s) * 1000)


def start(settings: Settings) -> Telemetry:
    """Build this process's providers, make them global and start the registry's instruments.

    Never waits for the Collector. With `OTEL_SDK_DISABLED=true` only lines on stderr remain.
    """
    apply_defaults()
    register_environment()
    configure_logging(settings)
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return Telemetry()
    resource = _Resource(
        Resource.create(
            {
                "service.name": settings.service_name,
                "service.version": version(),
                "deployment.environment.name": settings.environment,
            }
        )
    )
    outages = OutageLog()
    meter_provider, stop_metrics = _start_metrics(resource, outages)
    meter = meter_provider.get_meter(TRACER_NAME, version())
    instruments.start(meter)
    http_server.observe(meter)

    spans = SpanDelivery()
    span_queue: ExportQueue[LightSpan | ReadableSpan] = ExportQueue(
        "traces",
        spans,
        capacity=int(os.environ["OTEL_BSP_MAX_QUEUE_SIZE"]),
        delay_s=float(os.environ["OTEL_BSP_SCHEDULE_DELAY"]) / 1000,
        on_outage=outages,
    )
    limits = SpanLimits()
    # The SDK would count every span three times over as it starts and ends (8 µs each);
    # `self_metrics` reads the same numbers from the queue.
    tracer_provider = TracerProvider(
        resource=resource,
        shutdown_on_exit=False,
        span_limits=limits,
        meter_provider=NoOpMeterProvider(),
    )
    tracer_provider.add_span_processor(QueueSpanProcessor(span_queue))

    scope = InstrumentationScope(TRACER_NAME, version())
    logs = LogDelivery(resource, scope)
    log_queue: ExportQueue[LogLine | ReadableLogRecord] = ExportQueue(
        "logs",
        logs,
        capacity=int(os.environ["OTEL_BLRP_MAX_QUEUE_SIZE"]),
        delay_s=float(os.environ["OTEL_BLRP_SCHEDULE_DELAY"]) / 1000,
        on_outage=outages,
    )
    logger_provider = LoggerProvider(resource, False, meter_provider=NoOpMeterProvider())
    logger_provider.add_log_record_processor(QueueLogProcessor(log_queue))
    for queue in (span_queue, log_queue):
        self_metrics.observe(meter_provider.get_meter("opentelemetry-sdk"), queue)

    metrics.set_meter_provider(meter_provider)
    trace.set_tracer_provider(tracer_provider)
    _logs.set_logger_provider(logger_provider)
    propagate.set_global_textmap(IncomingTraceparent())
    _instrument_process(meter_provider)
    use_tracer(LightTracer(tracer_provider, scope, limits=limits, on_end=span_queue.put))

    def to_otlp(
        time_ns: int, level: int, event: str, fields: Mapping[str, Any], span: trace.SpanContext
    ) -> None:
        log_queue.put(LogLine(time_ns, level, event, fields, span))

    pipeline.sink = to_otlp
    return Telemetry(
        tracer_provider,
        meter_provider,
        logger_provider,
        span_queue,
        log_queue,
        [spans.close, logs.close, stop_metrics],
    )


def _start_metrics(
    resource: Resource, outages: OutageLog
) -> tuple[MeterProvider, Callable[[], None]]:
    inner = OTLPMetricExporter()
    reader = PeriodicExportingMetricReader(GuardedMetricExporter(inner, outages.metrics))
    provider = MeterProvider([reader], resource, shutdown_on_exit=False, views=_VIEWS)
    inner.set_meter_provider(provider)
    return provider, inner.shutdown


def _instrument_process(meter_provider: MeterProvider) -> None:
    threads = ThreadingInstrumentor()
    if not threads.is_instrumented_by_opentelemetry:
        threads.instrument()
    SystemMetricsInstrumentor(config=_PROCESS_METRICS).instrument(meter_provider=meter_provider)
