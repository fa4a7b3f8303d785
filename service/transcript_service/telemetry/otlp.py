"""Deliver batches with the SDK's exporters, masked, knowing what became of each."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final, Generic, TypeVar

import requests
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk._logs import LogRecordProcessor, ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    InMemoryMetricReader,
    MetricExporter,
    MetricExportResult,
    MetricsData,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from . import instruments
from .export_queue import Answer, Delivery, ExportQueue
from .redacting import redact_metrics
from .redaction import redact_text

T = TypeVar("T")

# What OTLP/HTTP says may be sent again; no status at all means no connection or no answer.
_RETRYABLE: Final = frozenset({429, 502, 503, 504})
# And over gRPC.
_RETRYABLE_CODES: Final = frozenset(
    {
        "CANCELLED",
        "DEADLINE_EXCEEDED",
        "RESOURCE_EXHAUSTED",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNAVAILABLE",
        "DATA_LOSS",
    }
)
# How each signal's answer counts what was not taken although the status says 200.
_PARTIAL: Final[dict[str, tuple[Any, str]]] = {
    "traces": (ExportTraceServiceResponse, "rejected_spans"),
    "logs": (ExportLogsServiceResponse, "rejected_log_records"),
    "metrics": (ExportMetricsServiceResponse, "rejected_data_points"),
}
_FAILURES: Final = {Delivery.DELIVERED: None, Delivery.RETRY: "unavailable"}
_UNREACHABLE: Final = "The Collector cannot be reached or does not answer; records are kept."


class Watch:
    """Says what became of a batch, of exporters that only tell whether it worked."""

    arguments: Mapping[str, Any] = {}
    """To make the exporter with."""
    answer: requests.Response | None = None
    """What the other side answered at last, where that is seen."""

    def forget(self) -> None:
        """Start watching anew."""

    def verdict(self, signal: str, succeeded: bool) -> Answer:
        """What became of the batch that was just exported."""
        if succeeded:
            return Answer(Delivery.DELIVERED)
        return Answer(Delivery.RETRY, _UNREACHABLE)


class WatchedCalls(Watch):
    """Reads the code of a failed gRPC call out of what its exporter measures about itself."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader({Histogram: AggregationTemporality.DELTA})
        provider = MeterProvider([self._reader], Resource.get_empty(), shutdown_on_exit=False)
        self.arguments = {"meter_provider": provider}

    def forget(self) -> None:
        """Start watching anew."""
        self._reader.get_metrics_data()

    def verdict(self, signal: str, succeeded: bool) -> Answer:
        """What became of the batch that was just exported."""
        data = None if succeeded else self._reader.get_metrics_data()
        codes = [
            str(code)
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
            if metric.name == "otel.sdk.exporter.operation.duration"
            and (code := (point.attributes or {}).get("rpc.response.status_code"))
        ]
        if not codes or codes[0] in _RETRYABLE_CODES:
            return super().verdict(signal, succeeded)
        said = f"The Collector answers {codes[0]}; records are lost."
        return Answer(Delivery.REFUSED, said)


class WatchedSession(requests.Session, Watch):
    """Remembers the last answer, as the exporters take 302 for yes. No cookie is sent back."""

    def __init__(self) -> None:
        super().__init__()
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        # What the exporter measures would go to a provider that does not exist yet.
        self.arguments = {"session": self, "meter_provider": NoOpMeterProvider()}
        self.forget()

    def forget(self) -> None:
        """Start watching anew."""
        self.tried = False
        self.answer = None

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        """As in requests."""
        self.tried, self.answer = True, None
        self.answer = super().request(*args, **kwargs)
        return self.answer

    def verdict(self, signal: str, succeeded: bool) -> Answer:
        """What became of the batch that was just exported."""
        if not self.tried:
            return Answer(Delivery.UNENCODABLE, "It cannot be encoded or is too large.")
        answer = self.answer
        if answer is None:
            return Answer(Delivery.RETRY, _UNREACHABLE)
        if 200 <= answer.status_code < 300:
            return _partial(signal, answer.content)
        said = f"The Collector answers {answer.status_code}"
        if answer.status_code in _RETRYABLE:
            wait_s = _retry_after_s(answer.headers.get("Retry-After", ""))
            return Answer(Delivery.RETRY, f"{said}; records are kept.", retry_after_s=wait_s)
        return Answer(Delivery.REFUSED, f"{said}; records are lost.")


def watch_for(exporter: str) -> Watch:
    """What says how the exporter of that entry point fared."""
    if exporter == "otlp_proto_http":
        return WatchedSession()
    return WatchedCalls() if exporter == "otlp_proto_grpc" else Watch()


def _partial(signal: str, body: bytes) -> Answer:
    message, field = _PARTIAL[signal]
    try:
        partial = message.FromString(body).partial_success
    except DecodeError:  # an answer in another form is a yes all the same
        return Answer(Delivery.DELIVERED)
    rejected: int = getattr(partial, field)
    if not rejected:
        return Answer(Delivery.DELIVERED)
    said = redact_text(partial.error_message[:200])
    return Answer(
        Delivery.DELIVERED, f"The Collector rejected {rejected} records: {said}", rejected
    )


def _retry_after_s(value: str) -> float:
    """Seconds to wait, of a number or an HTTP date (RFC 9110, 10.2.3); 0 where it is neither."""
    if value.strip().isdecimal():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
        return max(0.0, (when - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return 0.0


class ExporterDelivery(Generic[T]):
    """Mask a batch and give it to an exporter of the SDK."""

    def __init__(
        self,
        signal: str,
        exporter: Any,
        redact: Callable[[Sequence[T]], Sequence[T]],
        watch: Watch,
    ) -> None:
        """Deliver to `exporter`.

        Args:
            signal: `traces` or `logs`.
            exporter: a `SpanExporter` or `LogRecordExporter`, made with the watch's arguments.
            redact: gives the batch without secrets.
            watch: says what became of a batch.
        """
        self._signal = signal
        self._exporter = exporter
        self._redact = redact
        self._watch = watch

    def __call__(self, batch: Sequence[T]) -> Answer:
        """Send one batch; blocks up to the exporter's timeout."""
        self._watch.forget()
        succeeded = False
        try:
            succeeded = self._exporter.export(self._redact(batch)).name == "SUCCESS"
        except OverflowError:  # the SDK's, at the date of an absurd Retry-After
            if self._watch.answer is None:
                raise
        return self._watch.verdict(self._signal, succeeded)

    def shutdown(self) -> None:
        """End a retry under way."""
        self._exporter.shutdown()


class QueueSpanProcessor(SpanProcessor):
    """Hand ended spans to a queue."""

    def __init__(self, queue: ExportQueue[ReadableSpan]) -> None:
        self._queue = queue

    def on_end(self, span: ReadableSpan) -> None:
        """Queue the span if it was sampled."""
        if span.context is not None and span.context.trace_flags.sampled:
            self._queue.put(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until the queue is empty."""
        return self._queue.flush(timeout_millis / 1000)


class QueueLogProcessor(LogRecordProcessor):
    """Hand log records to a queue: the service's own lines and what other libraries emit."""

    def __init__(self, queue: ExportQueue[ReadableLogRecord]) -> None:
        self._queue = queue

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Queue the record."""
        resource = log_record.resource or Resource.get_empty()
        self._queue.put(
            ReadableLogRecord(log_record.log_record, resource, log_record.instrumentation_scope)
        )

    def shutdown(self) -> None:
        """Nothing of its own to close."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until the queue is empty."""
        return self._queue.flush(timeout_millis / 1000)


def masking_metrics(
    exporter: type[MetricExporter],
    watch: Watch,
    on_result: Callable[[Answer], None] = lambda _: None,
    **options: Any,
) -> MetricExporter:
    """An exporter of that class that masks points, says what became of them, and is silent in a
    forked child: there the SDK restarts its reader, which would send the parent's sums again.
    """
    owner = os.getpid()

    class Masking(exporter):  # type: ignore[valid-type,misc]
        def export(
            self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **kwargs: Any
        ) -> MetricExportResult:
            if os.getpid() != owner:
                return MetricExportResult.SUCCESS
            watch.forget()
            data = redact_metrics(metrics_data)
            result: MetricExportResult = super().export(data, timeout_millis, **kwargs)
            answer = watch.verdict("metrics", result is MetricExportResult.SUCCESS)
            _count_points(metrics_data, answer)
            on_result(answer)
            return result

    return Masking(**watch.arguments, **options)


def _count_points(sent: MetricsData, answer: Answer) -> None:
    points = sum(
        len(metric.data.data_points)
        for resource in sent.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )
    failure = _FAILURES.get(answer.delivery, answer.delivery.value)
    exported = instruments.OTEL_SDK_EXPORTER_METRIC_DATA_POINT_EXPORTED
    exported.add(points - answer.rejected, error_type=failure)
    if answer.rejected:
        exported.add(answer.rejected, error_type=Delivery.REFUSED.value)
