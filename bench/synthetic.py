"""The service's telemetry for any number of requests, without making the requests.

What one worker exports while it serves real ones is taken down, and sent again with other trace
ids, other videos and the present time.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import requests
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.otlp_sink import OtlpSink

# Of the spans those that the service itself makes: what its libraries add is four times as many,
# and stored in the same way.
_SCOPES = ("transcript_service", "opentelemetry.instrumentation.flask")
_RETRIED = (429, 503)


class Recorder(OtlpSink):
    """A sink that keeps every export with the path it came to."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.taken: list[tuple[str, bytes]] = []

    def receive(self, path: str, body: bytes) -> int:
        self.taken.append((path, body))
        return super().receive(path, body)


class Recording:
    """What was exported during requests for some videos, ready to be sent again."""

    def __init__(self, taken: list[tuple[str, bytes]], videos: list[str]) -> None:
        self._traces = [
            ExportTraceServiceRequest.FromString(body)
            for path, body in taken
            if path == "/v1/traces"
        ]
        self._logs = [
            ExportLogsServiceRequest.FromString(body) for path, body in taken if path == "/v1/logs"
        ]
        self._metrics = [body for path, body in taken if path == "/v1/metrics"][-1]
        for body in self._traces:
            for resource in body.resource_spans:
                kept = [s for s in resource.scope_spans if s.scope.name.startswith(_SCOPES)]
                del resource.scope_spans[:]
                resource.scope_spans.extend(kept)
        self._spans = [
            (span, span.trace_id, span.end_time_unix_nano - span.start_time_unix_nano)
            for body in self._traces
            for resource in body.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        requested = {trace_id for span, trace_id, _ in self._spans if "transcripts" in span.name}
        self._records = [
            (record, record.trace_id)
            for body in self._logs
            for resource in body.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
            if record.trace_id in requested
        ]
        self._names = [
            (value, value.string_value, video)
            for item, *_ in [*self._spans, *self._records]
            for value in (pair.value for pair in item.attributes)
            for video in videos
            if video in value.string_value
        ]
        self._lock = threading.Lock()
        self.requests = len(requested)
        """How many requests it is of."""

    def send(self, url: str) -> None:
        """All spans and lines once more; from any number of threads."""
        with self._lock:
            traces, logs = self._renewed()
        post(f"{url}/v1/traces", traces)
        post(f"{url}/v1/logs", logs)

    def _renewed(self) -> tuple[bytes, bytes]:
        now = time.time_ns()
        ids: dict[bytes, bytes] = {}
        for span, trace_id, duration in self._spans:
            span.trace_id = ids.setdefault(trace_id, os.urandom(16))
            span.start_time_unix_nano, span.end_time_unix_nano = now - duration, now
        for record, trace_id in self._records:
            record.trace_id = ids.setdefault(trace_id, os.urandom(16))
            record.time_unix_nano = record.observed_time_unix_nano = now
        other: dict[str, str] = {}
        for value, text, video in self._names:
            name = other.setdefault(video, os.urandom(6).hex()[:11])
            value.string_value = text.replace(video, name)
        # Several messages one after the other are one message with everything in it.
        traces = b"".join(body.SerializeToString() for body in self._traces)
        return traces, b"".join(body.SerializeToString() for body in self._logs)

    def send_metrics(self, url: str, factor: int, at: float | None = None) -> None:
        """The worker's last export, as after `factor` times as many requests.

        Args:
            url: what `/v1/metrics` is appended to.
            factor: counters and histograms are multiplied by it.
            at: Unix time in seconds that the points get; now where it is not given.
        """
        body = ExportMetricsServiceRequest.FromString(self._metrics)
        time_ns = time.time_ns() if at is None else int(at * 1e9)
        for kind, point in points(body):
            point.time_unix_nano = time_ns
            if kind == "sum":
                which = point.WhichOneof("value")
                setattr(point, which, getattr(point, which) * factor)
            elif kind == "exponential_histogram":
                point.count *= factor
                point.sum *= factor
                point.zero_count *= factor
                for side in (point.positive, point.negative):
                    side.bucket_counts[:] = [count * factor for count in side.bucket_counts]
            if kind != "gauge":
                del point.exemplars[:]
        post(f"{url}/v1/metrics", body.SerializeToString())


def post(url: str, body: bytes) -> None:
    """Send it, again and again while the Collector says that it is too much.

    Raises:
        requests.HTTPError: it refuses for another reason.
    """
    if not hasattr(_own, "session"):
        _own.session = requests.Session()
    while True:
        answer = _own.session.post(
            url, body, headers={"Content-Type": "application/x-protobuf"}, timeout=60
        )
        if answer.status_code not in _RETRIED:
            answer.raise_for_status()
            return
        time.sleep(0.5)


_own = threading.local()


def points(body: Any) -> Iterator[tuple[str, Any]]:
    """The points of an export of metrics, each with the kind of its metric."""
    for resource in body.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                kind = str(metric.WhichOneof("data"))
                for point in getattr(metric, kind).data_points:
                    yield kind, point
