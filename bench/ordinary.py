"""The service with OpenTelemetry as its documentation has it: whom the bench compares ours with.

A configuration for gunicorn. Before anything else of the service is imported, it replaces what
`transcript_service.telemetry` gives: the same spans, lines and measurements go to the SDK's own
batch processors, instruments and logging handler. Nothing is masked, no attribute is bounded and
nobody keeps account of what is lost. BENCH_TELEMETRY=none does without telemetry altogether.

The export settings (batches, delay, gzip, exponential histograms) are the service's, so that both
send the same.
"""

from __future__ import annotations

import logging
import os
import sys
import uuid
import warnings
from collections.abc import Mapping
from typing import Any

from opentelemetry import _logs, metrics, trace
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from pythonjsonlogger.orjson import OrjsonFormatter

from transcript_service import telemetry
from transcript_service.settings import Settings
from transcript_service.telemetry import current_fields, instruments

WANTED = os.environ.get("BENCH_TELEMETRY", "ordinary") == "ordinary"
os.environ["OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED"] = "false"  # the SDK's own default
# Names that a record of the standard library has already.
_TAKEN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_tracer = trace.ProxyTracerProvider().get_tracer("transcript_service")


class Lines:
    """The service's calls, as they would be written with the standard library's logger."""

    def __init__(self, name: str | None = None, /, **bound: Any) -> None:
        self._logger, self._bound = logging.getLogger(name), bound

    def bind(self, **fields: Any) -> Lines:
        return Lines(self._logger.name, **{**self._bound, **fields})

    def _log(self, level: int, event: str, fields: dict[str, Any]) -> None:
        if not WANTED:
            if event == "service.started":  # whoever starts it waits for that
                print(f'"{event}"', file=sys.stderr)
        elif self._logger.isEnabledFor(level):
            exc_info = fields.pop("exc_info", None)
            extra = {f"{k}_" if k in _TAKEN else k: v for k, v in {**self._bound, **fields}.items()}
            self._logger.log(level, event, exc_info=exc_info, extra=extra)

    def debug(self, event: str, /, **fields: Any) -> None:
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: Any) -> None:
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, /, **fields: Any) -> None:
        self._log(logging.ERROR, event, fields)

    def exception(self, event: str, /, **fields: Any) -> None:
        self._log(logging.ERROR, event, {"exc_info": True, **fields})


class _Context(logging.Filter):
    """Puts the fields of the context into a record."""

    def filter(self, record: logging.LogRecord) -> bool:
        for key, value in current_fields().items():
            if key not in record.__dict__:
                setattr(record, key, value)
        return True


class _Ids(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        current = trace.get_current_span().get_span_context()
        record.trace_id = trace.format_trace_id(current.trace_id)
        record.span_id = trace.format_span_id(current.span_id)
        return True


def configure_logging(settings: Settings) -> None:
    """JSON lines on stderr."""
    root = logging.getLogger()
    root.setLevel(settings.log_level.upper())
    for name in ("urllib3", "werkzeug", "asyncio", "requests", "opentelemetry"):
        logging.getLogger(name).setLevel(logging.WARNING)
    handler = logging.StreamHandler(sys.stderr)
    common = {"service": settings.service_name, "environment": settings.environment}
    handler.setFormatter(
        OrjsonFormatter(
            "{levelname}{name}{message}", style="{", timestamp=True, static_fields=common
        )
    )
    handler.addFilter(_Context())
    handler.addFilter(_Ids())
    root.handlers[:] = [handler]


class Running:
    """What is shut down at the end, for gunicorn's hooks."""

    def __init__(self, *providers: Any) -> None:
        self._providers = providers

    def shutdown(self, _: float = 8.0) -> None:
        for provider in self._providers:
            provider.shutdown()


def start(settings: Settings) -> Running:
    """Build the SDK's providers with its own processors, and make them global."""
    configure_logging(settings)
    if not WANTED:
        return Running()
    resource = Resource.create(
        {
            "service.name": settings.service_name,
            "service.instance.id": str(uuid.uuid4()),
            "deployment.environment.name": settings.environment,
        }
    )
    meters = MeterProvider(
        [PeriodicExportingMetricReader(OTLPMetricExporter())], resource, None, False
    )
    metrics.set_meter_provider(meters)
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(tracers)
    loggers = LoggerProvider(resource, shutdown_on_exit=False)
    loggers.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    _logs.set_logger_provider(loggers)
    with warnings.catch_warnings():  # it has moved to a package of its own, and is the same
        warnings.simplefilter("ignore", DeprecationWarning)
        handler = LoggingHandler(logger_provider=loggers)
    handler.addFilter(_Context())
    # First, so that it does not send the ids, which its records have already.
    logging.getLogger().handlers.insert(0, handler)
    RequestsInstrumentor().instrument()
    ThreadingInstrumentor().instrument()
    _use_sdk_instruments(meters.get_meter("transcript_service"))
    return Running(tracers, loggers, meters)


def _use_sdk_instruments(meter: metrics.Meter) -> None:
    for name, instrument in instruments.REGISTRY.items():
        if name.startswith("http.server."):
            continue  # the instrumentation's own
        told = (name, instrument.unit, instrument.description)
        match instrument:
            case instruments.Counter():
                _call(instrument, "add", meter.create_counter(*told).add)
            case instruments.UpDownCounter():
                _call(instrument, "add", meter.create_up_down_counter(*told).add)
            case instruments.Gauge():
                _call(instrument, "set", meter.create_gauge(*told).set)
            case instruments.Histogram():
                _call(instrument, "record", meter.create_histogram(*told).record)


def _call(instrument: instruments.Instrument, method: str, sdk: Any) -> None:
    keys = {parameter: one.key for parameter, one in instrument.attributes.items()}

    def call(value: float = 1, /, **given: str | None) -> None:
        sdk(value, {keys[name]: word for name, word in given.items() if word is not None})

    setattr(instrument, method, call)


def instrument_app(app: Any, **_: Any) -> None:
    """The server span and metrics, by the instrumentation."""
    if WANTED:
        FlaskInstrumentor.instrument_app(app, excluded_urls="health")  # type: ignore[no-untyped-call]


def _named(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "error.type" if name == "error_type" else name: value
        for name, value in attributes.items()
        if value is not None
    }


class _NoSpan:
    """A block without a span."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> trace.Span:
        return trace.INVALID_SPAN

    def __exit__(self, *_: object) -> None:
        pass


def span(name: str, /, **attributes: Any) -> Any:
    """A span around a block."""
    return _tracer.start_as_current_span(name, attributes=_named(attributes))


for _name, _own in {
    "configure_logging": configure_logging,
    "get_logger": Lines,
    "instrument_app": instrument_app,
    "span": span if WANTED else _NoSpan,
    "start": start,
}.items():
    setattr(telemetry, _name, _own)

from transcript_service.gunicorn_conf import *  # noqa: E402, F403 - with the names above
