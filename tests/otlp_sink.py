"""A stand-in for the Collector in tests: takes OTLP/HTTP, keeps it decoded, misbehaves on demand.

Run it inside a test (`OtlpSink`) or, for whole services, point `OTEL_EXPORTER_OTLP_ENDPOINT`
at its `url`.
"""

from __future__ import annotations

import gzip
import ssl
import tempfile
import threading
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

import grpc  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.serving import serving


@dataclass
class SinkSpan:
    """A span as it arrived."""

    name: str
    trace_id: str
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]
    events: list[Mapping[str, Any]]
    """Their attributes."""
    links: list[Mapping[str, Any]]


@dataclass
class SinkLog:
    """A log record as it arrived."""

    body: str
    trace_id: str
    span_id: str
    severity: str
    event_name: str
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]


@dataclass
class Certificate:
    """What the sink shows, and the authority whose certificates clients must show; as PEM."""

    authority: bytes
    chain: bytes
    key: bytes


@dataclass
class OtlpSink:
    """Use as a context manager. `status` is what every request is answered with.

    With `tls`, clients that do not show a certificate of its authority are turned away.
    """

    status: int = 200
    port: int = 0
    spans: list[SinkSpan] = field(default_factory=list)
    logs: list[SinkLog] = field(default_factory=list)
    points: dict[tuple[str, str, tuple[tuple[str, Any], ...]], float] = field(default_factory=dict)
    """(service.instance.id, metric, attributes) → last value (count for histograms)."""
    bodies: list[bytes] = field(default_factory=list)
    """Every accepted request, decompressed."""
    requests: int = 0
    headers: list[dict[str, str]] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)
    """metric → the kind of data it came as."""
    metadata: list[dict[str, str]] = field(default_factory=list)
    """Of gRPC requests."""
    batches: list[tuple[str, int]] = field(default_factory=list)
    """(`traces` or `logs`, records) of each request."""
    exemplars: set[tuple[str, str]] = field(default_factory=set)
    """(metric, trace id or nothing)."""
    tls: Certificate | None = None

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._changed = threading.Condition()

    def __enter__(self) -> OtlpSink:
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sink.headers.append(dict(self.headers))
                body = _DECODERS[self.headers.get("Content-Encoding")](body)
                # Of a proxy it is asked with the whole address.
                status = sink.receive(urlsplit(self.path).path, body)
                if not status:
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        tls = None if self.tls is None else _server_context(self.tls)
        self._open = ExitStack()
        self.port = self._open.enter_context(serving(Handler, self.port, tls))
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._open.close()

    @property
    def url(self) -> str:
        """For `OTEL_EXPORTER_OTLP_ENDPOINT`."""
        return f"{self._scheme}://127.0.0.1:{self.port}"

    @property
    def _scheme(self) -> str:
        return "http" if self.tls is None else "https"

    @contextmanager
    def over_grpc(self) -> Iterator[str]:
        """A second door for the same records; gives its address."""
        takers = {
            "trace.v1.TraceService": ExportTraceServiceResponse,
            "logs.v1.LogsService": ExportLogsServiceResponse,
            "metrics.v1.MetricsService": ExportMetricsServiceResponse,
        }

        def handler(service: str, answer: Any) -> Any:
            path = f"/v1/{service.split('.')[0].removesuffix('s')}s"

            def take(body: bytes, context: Any) -> bytes:
                self.metadata.append(dict(context.invocation_metadata()))
                self.receive(path, body)
                return bytes(answer().SerializeToString())

            # Without (de)serialisers bytes go in and out.
            return grpc.method_handlers_generic_handler(
                f"opentelemetry.proto.collector.{service}",
                {"Export": grpc.unary_unary_rpc_method_handler(take)},
            )

        server = grpc.server(ThreadPoolExecutor(4))
        server.add_generic_rpc_handlers([handler(*taker) for taker in takers.items()])
        if self.tls is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            shown = [(self.tls.key, self.tls.chain)]
            credentials = grpc.ssl_server_credentials(shown, self.tls.authority, True)
            port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        try:
            yield f"{self._scheme}://127.0.0.1:{port}"
        finally:
            server.stop(None)

    def hang(self) -> None:
        """From now on accept requests and never answer them."""
        self.status = 0

    def receive(self, path: str, body: bytes) -> int:
        """Handle one request; returns the status, 0 for none at all."""
        with self._lock:
            self.requests += 1
            status = self.status
        with self._changed:
            self._changed.notify_all()
        if not status:
            self._released.wait(60)
            return 0
        if status == 200:
            with self._lock:
                self.bodies.append(body)
                {"/v1/traces": self._traces, "/v1/logs": self._logs, "/v1/metrics": self._metrics}[
                    path
                ](body)
            with self._changed:
                self._changed.notify_all()
        return status

    def wait_until(self, condition: Any, timeout_s: float = 60.0) -> None:
        """Wait until `condition()` holds; fails the test when it does not in time."""
        with self._changed:
            assert self._changed.wait_for(condition, timeout_s), (
                f"{len(self.spans)} spans, {len(self.logs)} logs, {self.requests} requests arrived"
            )

    def counter(self, name: str, **attributes: Any) -> float:
        """A metric summed over all instances and all series that have these attributes."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}.items()
        with self._lock:
            return sum(
                value
                for (_, metric, series), value in self.points.items()
                if metric == name and wanted <= dict(series).items()
            )

    def _traces(self, body: bytes) -> None:
        before = len(self.spans)
        for batch in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _attributes(batch.resource.attributes)
            for scope in batch.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        SinkSpan(
                            span.name,
                            span.trace_id.hex(),
                            _attributes(span.attributes),
                            resource,
                            [_attributes(event.attributes) for event in span.events],
                            [_attributes(link.attributes) for link in span.links],
                        )
                    )
        self.batches.append(("traces", len(self.spans) - before))

    def _logs(self, body: bytes) -> None:
        before = len(self.logs)
        for batch in ExportLogsServiceRequest.FromString(body).resource_logs:
            resource = _attributes(batch.resource.attributes)
            for scope in batch.scope_logs:
                for record in scope.log_records:
                    self.logs.append(
                        SinkLog(
                            record.body.string_value,
                            record.trace_id.hex(),
                            record.span_id.hex(),
                            record.severity_text,
                            record.event_name,
                            _attributes(record.attributes),
                            resource,
                        )
                    )
        self.batches.append(("logs", len(self.logs) - before))

    def _metrics(self, body: bytes) -> None:
        for batch in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            instance = _attributes(batch.resource.attributes).get("service.instance.id", "")
            for scope in batch.scope_metrics:
                for metric in scope.metrics:
                    self.kinds[metric.name] = str(metric.WhichOneof("data"))
                    for point, value in _points(metric):
                        series = tuple(sorted(_attributes(point.attributes).items()))
                        self.points[(str(instance), metric.name, series)] = value
                        self.exemplars |= {
                            (metric.name, exemplar.trace_id.hex()) for exemplar in point.exemplars
                        }


_DECODERS: dict[str | None, Any] = {
    None: bytes,
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
}


def _server_context(shown: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as chain:  # the ssl module reads files only
        chain.write(shown.key + shown.chain)
        chain.flush()
        context.load_cert_chain(chain.name)
    context.load_verify_locations(cadata=shown.authority.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _points(metric: Any) -> Iterator[tuple[Any, float]]:
    kind = metric.WhichOneof("data")
    for point in getattr(metric, kind).data_points:
        if kind in ("histogram", "exponential_histogram"):
            yield point, point.count
        else:
            yield point, point.as_int or point.as_double


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, kind) if kind else None
