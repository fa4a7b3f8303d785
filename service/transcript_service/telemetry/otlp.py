"""Deliver batches over OTLP/HTTP with the SDK's exporters, knowing what became of each."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Mapping, Sequence
from email.message import Message
from http.client import HTTPConnection, HTTPException
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import requests
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk._logs import LogRecordProcessor, ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk.metrics import Histogram
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricExportResult,
    MetricsData,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from requests.utils import select_proxy

from . import instruments, wire
from .export_queue import Delivery, ExportQueue
from .light_tracer import LightSpan
from .lines import encodable
from .redacting import redact_log, redact_metrics, redact_spans

# What OTLP/HTTP says may be sent again; no status at all means no connection or no answer.
_RETRYABLE: Final = frozenset({429, 502, 503, 504})
# The exporters' own limit for one request.
_MOST_BYTES: Final = 64 * 1024 * 1024
_SEVERITIES: Final = {
    10: (SeverityNumber.DEBUG, "DEBUG"),
    20: (SeverityNumber.INFO, "INFO"),
    30: (SeverityNumber.WARN, "WARN"),
    40: (SeverityNumber.ERROR, "ERROR"),
    50: (SeverityNumber.FATAL, "FATAL"),
}


class Answer(NamedTuple):
    """What exporters look at in a response."""

    status_code: int
    reason: str
    headers: Message
    content: bytes


class WatchedSession(requests.Session):
    """Posts to one address; remembers the last answer, as exporters only say whether it worked.

    The request and what the environment says (proxies, certificates, netrc) are made ready
    once. No cookie is sent back. Plain HTTP without a proxy, which is how one reaches a
    Collector next door, goes over the standard library's connection: requests takes three times
    the CPU for a post, twice a second, however little there is to send.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ready: tuple[requests.PreparedRequest, Any] | None = None
        self._direct: HTTPConnection | None = None
        self.forget()

    def forget(self) -> None:
        """Start watching anew."""
        self.tried = False
        self.status: int | None = None

    def request(  # type: ignore[override]
        self,
        method: str,
        url: str,
        *,
        data: bytes,
        timeout: float,
        headers: Any = None,
        allow_redirects: bool = False,
    ) -> Answer | requests.Response:
        """As in requests; only `data` and `timeout` may differ from call to call."""
        self.tried, self.status = True, None
        if self._ready is None:
            request = self.prepare_request(requests.Request(method, url, headers))
            environment = self.merge_environment_settings(url, {}, None, None, None)
            self._ready = request, environment
            parts = urlsplit(url)
            if parts.scheme == "http" and not select_proxy(url, environment["proxies"]):
                self._direct = HTTPConnection(parts.hostname or "", parts.port or 80)
        request, environment = self._ready
        request.prepare_body(data, None)
        if self._direct is not None:
            response: Answer | requests.Response = _post(self._direct, request, timeout)
        else:
            response = self.send(
                request, **environment, timeout=timeout, allow_redirects=allow_redirects
            )
        self.status = response.status_code
        return response

    def close(self) -> None:
        """Close the connections that are kept open."""
        super().close()
        if self._direct is not None:
            self._direct.close()

    def verdict(self, *, succeeded: bool) -> Delivery:
        """What became of the batch that was just exported."""
        if succeeded:
            return Delivery.DELIVERED
        if not self.tried:
            return Delivery.UNENCODABLE
        if self.status is None or self.status in _RETRYABLE:
            return Delivery.RETRY
        return Delivery.REFUSED


def _post(
    connection: HTTPConnection, request: requests.PreparedRequest, timeout_s: float
) -> Answer:
    """Send a prepared request as `requests` would, without following a redirect.

    Raises:
        requests.ConnectionError: no connection or no answer in time; the exporter tries once
            more at once, as a connection that was kept open may have been closed at the other end.
    """
    connection.timeout = timeout_s
    try:
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        connection.request("POST", request.path_url, request.body, request.headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.reason, answer.headers, answer.read())
    except (OSError, HTTPException) as error:
        connection.close()
        raise requests.ConnectionError(error) from error


def _sender(exporter: OTLPSpanExporter | OTLPLogExporter) -> Callable[[bytes], bool]:
    """A function that sends an encoded request as the exporter would and says if it was taken.

    The exporter knows the environment's endpoint, headers, certificates and time limit, and
    retries; but it takes objects of the SDK only (see `wire`) and packs at gzip's slowest
    level, five times the CPU for three per cent fewer bytes.
    """
    client = exporter._client  # the version is pinned exactly
    packed = client._compression.value == "gzip"
    if packed:  # its header stays
        client._compression = type(client._compression).NONE

    def send(body: bytes) -> bool:
        if len(body) > _MOST_BYTES or exporter._shutdown:
            return False
        return client.export(gzip.compress(body, 1, mtime=0) if packed else body).success

    return send


def encode_masked(batch: Sequence[LightSpan | ReadableSpan]) -> bytes:
    """The request that carries them, secrets masked.

    Raises:
        Exception: a span that nobody can encode.
    """
    encoded: list[bytes] = []
    others: list[ReadableSpan] = []
    like = None
    for span in batch:
        if isinstance(span, LightSpan):
            try:
                encoded.append(wire.span(span))
                like = span
            except Exception:  # something to mask, or that the SDK has to write
                others.append(span.readable())
        else:
            others.append(span)
    return wire.trace_request(redact_spans(others), encoded, like)


class SpanDelivery:
    """Mask and send spans."""

    def __init__(self) -> None:
        self._session = WatchedSession()
        # Its own metrics count a 503 as delivered and a retried batch twice; `self_metrics`
        # reports what the queue knows instead.
        self._exporter = OTLPSpanExporter(session=self._session, meter_provider=NoOpMeterProvider())
        self._send = _sender(self._exporter)

    def __call__(self, batch: Sequence[LightSpan | ReadableSpan]) -> Delivery:
        """Send one batch; blocks up to the exporter's timeout."""
        instruments.settle()  # here, because requests make spans and measurements alike
        self._session.forget()
        return self._session.verdict(succeeded=self._send(encode_masked(batch)))

    def close(self) -> None:
        """End a retry under way."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


class LogLine(NamedTuple):
    """A finished, masked line of the pipeline; becomes an OTLP record on the export thread."""

    time_ns: int
    level: int
    event: str
    fields: Mapping[str, Any]
    span: trace.SpanContext


def _encoded(line: LogLine) -> bytes:
    """The line as protobuf.

    Raises:
        ValueError: it holds a value that `wire` does not know.
    """
    if "event" in line.fields:
        raise wire.Unfamiliar("event")
    number, text = _SEVERITIES[line.level]
    return wire.log_record(
        time_ns=line.time_ns,
        severity=number.value,
        severity_text=text,
        event=line.event,
        fields=line.fields,
        trace_id=line.span.trace_id,
        span_id=line.span.span_id,
        flags=line.span.trace_flags,
    )


class LogDelivery:
    """Send log lines and records of the OpenTelemetry logs API."""

    def __init__(self, resource: Resource, scope: InstrumentationScope) -> None:
        self._resource = resource
        self._scope = scope
        self._session = WatchedSession()
        self._exporter = OTLPLogExporter(session=self._session, meter_provider=NoOpMeterProvider())
        self._send = _sender(self._exporter)
        self._like = ReadableLogRecord(LogRecord(), resource, scope)

    def __call__(self, batch: Sequence[LogLine | ReadableLogRecord]) -> Delivery:
        """Send one batch; blocks up to the exporter's timeout."""
        self._session.forget()
        return self._session.verdict(succeeded=self._send(self.encode(batch)))

    def encode(self, batch: Sequence[LogLine | ReadableLogRecord]) -> bytes:
        """The request that carries them.

        Raises:
            Exception: a record that nobody can encode.
        """
        encoded: list[bytes] = []
        others: list[ReadableLogRecord] = []
        for item in batch:
            if not isinstance(item, LogLine):
                others.append(redact_log(item))
                continue
            try:
                encoded.append(_encoded(item))
            except ValueError:  # something that the SDK has to write
                others.append(self._record(item))
        return wire.log_request(others, encoded, like=self._like)

    def _record(self, line: LogLine) -> ReadableLogRecord:
        number, text = _SEVERITIES[line.level]
        attributes = {"event": line.event}
        for key, value in line.fields.items():
            if value is not None:
                attributes[key] = encodable(value)
        record = LogRecord(
            timestamp=line.time_ns,
            observed_timestamp=line.time_ns,
            context=Context(),
            severity_number=number,
            severity_text=text,
            body=line.event,
            event_name=line.event,
            attributes=attributes,
        )
        record.trace_id = line.span.trace_id
        record.span_id = line.span.span_id
        record.trace_flags = line.span.trace_flags
        return ReadableLogRecord(record, self._resource, self._scope)

    def close(self) -> None:
        """End a retry under way."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


class QueueSpanProcessor(SpanProcessor):
    """Hand ended spans of the SDK to a queue."""

    def __init__(self, queue: ExportQueue[LightSpan | ReadableSpan]) -> None:
        self._queue = queue

    def on_end(self, span: ReadableSpan) -> None:
        """Queue the span if it was sampled."""
        if span.context is not None and span.context.trace_flags.sampled:
            self._queue.put(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until the queue is empty."""
        return self._queue.flush(timeout_millis / 1000)


class QueueLogProcessor(LogRecordProcessor):
    """Hand records of the OpenTelemetry logs API (other libraries) to the same queue."""

    def __init__(self, queue: ExportQueue[LogLine | ReadableLogRecord]) -> None:
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


class GuardedMetricExporter(MetricExporter):
    """Add the registry's histograms, mask points, notice outages; be silent in a forked child.

    After a fork the SDK restarts its reader in the child, which would send the parent's sums
    a second time under a new instance id.
    """

    def __init__(
        self, inner: OTLPMetricExporter, on_result: Callable[[bool], None] = lambda _: None
    ) -> None:
        super().__init__(inner._preferred_temporality, inner._preferred_aggregation)
        self._inner = inner
        self._on_result = on_result
        preferred = inner._preferred_temporality or {}
        self._delta = preferred.get(Histogram) is AggregationTemporality.DELTA
        self._pid = os.getpid()

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        """Send one collection."""
        if os.getpid() != self._pid:
            return MetricExportResult.SUCCESS
        complete = instruments.with_histograms(metrics_data, delta=self._delta)
        result = self._inner.export(redact_metrics(complete), timeout_millis, **kwargs)
        self._on_result(result is MetricExportResult.SUCCESS)
        return result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing is buffered here."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """End a retry under way."""
        self._inner.shutdown(timeout_millis, **kwargs)
