"""Deliver batches with the SDK's exporters, masked, knowing what became of each."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final, TypeVar

import requests
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
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
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from . import instruments
from .export_queue import LONGEST_WAIT_S, Answer, Delivery, ExportQueue
from .redacting import redact_metrics
from .redaction import redact_text

T = TypeVar("T")

# What OTLP says may be sent again, over HTTP and over gRPC.
_RETRYABLE: Final = frozenset({429, 502, 503, 504})
_RETRYABLE_CODES: Final = frozenset({
    "CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "OUT_OF_RANGE",
    "UNAVAILABLE", "DATA_LOSS",
})  # fmt: skip
_FAILURES: Final = {Delivery.DELIVERED: None, Delivery.RETRY: "unavailable"}
_DELIVERED: Final = Answer(Delivery.DELIVERED)
_UNREACHABLE: Final = Answer(
    Delivery.RETRY, "The Collector cannot be reached or does not answer; records are kept."
)


class Watch:
    """Says what became of a batch, of exporters that only tell whether it worked."""

    arguments: Mapping[str, Any] = {}
    """To make the exporter with."""
    answer: requests.Response | None = None
    """What the other side answered at last, where that is seen."""

    def forget(self) -> None:
        """Start watching anew."""

    def verdict(self, succeeded: bool) -> Answer:
        """What became of the batch that was just exported."""
        return _DELIVERED if succeeded else _UNREACHABLE


class WatchedCalls(Watch):
    """Reads the code of a failed gRPC call out of what its exporter measures about itself."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader({Histogram: AggregationTemporality.DELTA})
        provider = MeterProvider([self._reader], Resource.get_empty(), shutdown_on_exit=False)
        self.arguments = {"meter_provider": provider}

    def forget(self) -> None:
        self._reader.get_metrics_data()

    def verdict(self, succeeded: bool) -> Answer:
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
            return super().verdict(succeeded)
        return Answer(Delivery.REFUSED, f"The Collector answers {codes[0]}; records are lost.")


class WatchedSession(requests.Session, Watch):
    """Remembers the last answer, as the exporters take 302 for yes. No cookie is sent back."""

    def __init__(self) -> None:
        super().__init__()
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        # What the exporter measures would go to a provider that does not exist yet.
        self.arguments = {"session": self, "meter_provider": NoOpMeterProvider()}
        self.forget()

    def forget(self) -> None:
        self.tried, self.answer = False, None

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        """As in requests."""
        self.tried, self.answer = True, None
        self.answer = super().request(*args, **kwargs)
        return self.answer

    def verdict(self, succeeded: bool) -> Answer:
        if not self.tried:
            return Answer(Delivery.UNENCODABLE, "It cannot be encoded or is too large.")
        answer = self.answer
        if answer is None:
            return _UNREACHABLE
        if 200 <= answer.status_code < 300:
            return _partial(answer.content)
        said = f"The Collector answers {answer.status_code}"
        if answer.status_code not in _RETRYABLE:
            return Answer(Delivery.REFUSED, f"{said}; records are lost.")
        try:  # a number or a date (RFC 9110, 10.2.3)
            wait_s = Retry().parse_retry_after(answer.headers.get("Retry-After", "0"))
        except (InvalidHeader, ValueError, OverflowError):
            wait_s = 0.0
        return Answer(Delivery.RETRY, f"{said}; records are kept.", retry_after_s=wait_s)


def watch_for(exporter: str) -> Watch:
    """What says how the exporter of that entry point fared."""
    kinds = {"otlp_proto_http": WatchedSession, "otlp_proto_grpc": WatchedCalls}
    return kinds.get(exporter, Watch)()


def _partial(body: bytes) -> Answer:
    """What of a batch was not taken although the status says 200."""
    try:  # on the wire, all three signals' answers have the same form
        partial = ExportLogsServiceResponse.FromString(body).partial_success
    except DecodeError:  # an answer in another form is a yes all the same
        return _DELIVERED
    if not (rejected := partial.rejected_log_records):
        return _DELIVERED
    said = f"The Collector rejected {rejected} records: {redact_text(partial.error_message[:200])}"
    return Answer(Delivery.DELIVERED, said, rejected)


def deliver_with(
    exporter: Any, redact: Callable[[Sequence[T]], Sequence[T]], watch: Watch
) -> Callable[[Sequence[T]], Answer]:
    """Delivers batches, masked by `redact`, through a `SpanExporter` or `LogRecordExporter`.

    `watch`, with whose arguments the exporter was made, says what became of each. A call blocks
    up to the exporter's timeout.
    """

    def deliver(batch: Sequence[T]) -> Answer:
        watch.forget()
        succeeded = False
        try:
            succeeded = exporter.export(redact(batch)).name == "SUCCESS"
        except OverflowError:  # the SDK's, at the date of an absurd Retry-After
            if watch.answer is None:
                raise
        return watch.verdict(succeeded)

    return deliver


class QueueProcessor(SpanProcessor, LogRecordProcessor):
    """Hands ended spans, or log records whoever emits them, to a queue."""

    def __init__(self, queue: ExportQueue[Any]) -> None:
        self._queue = queue

    def on_end(self, span: ReadableSpan) -> None:
        """Queue the span if it was sampled."""
        if span.context is not None and span.context.trace_flags.sampled:
            self._queue.put(span)

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Queue the record."""
        resource = log_record.resource or Resource.get_empty()
        self._queue.put(
            ReadableLogRecord(log_record.log_record, resource, log_record.instrumentation_scope)
        )

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until the queue is empty."""
        return self._queue.flush(timeout_millis / 1000)


def masking_metrics(
    exporter: type[MetricExporter], watch: Watch, on_answer: Callable[[Answer], None]
) -> type[MetricExporter]:
    """That class, masking points, telling what became of them and pausing when asked to. Silent in
    a forked child, where the SDK restarts its reader, which would send the parent's sums again.
    """
    owner, rest_until = os.getpid(), 0.0

    class Masking(exporter):  # type: ignore[valid-type,misc]
        def export(
            self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **kwargs: Any
        ) -> MetricExportResult:
            nonlocal rest_until
            if os.getpid() != owner:
                return MetricExportResult.SUCCESS
            if time.monotonic() < rest_until:
                _count_points(metrics_data, _UNREACHABLE)
                return MetricExportResult.FAILURE
            watch.forget()
            data = redact_metrics(metrics_data)
            result: MetricExportResult = super().export(data, timeout_millis, **kwargs)
            answer = watch.verdict(result is MetricExportResult.SUCCESS)
            rest_until = time.monotonic() + min(answer.retry_after_s, LONGEST_WAIT_S)
            _count_points(metrics_data, answer)
            on_answer(answer)
            return result

    return Masking


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
