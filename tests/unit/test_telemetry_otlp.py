"""Posts over a kept-alive connection, to servers that end it when they like."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, BinaryIO

import grpc  # type: ignore[import-untyped]
import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import (
    OTLPLogExporter as GrpcLogExporter,
)
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource

from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.telemetry.export_queue import Answer, Delivery
from transcript_service.telemetry.otlp import deliver_with, masking_metrics, watch_for

LINE = ReadableLogRecord(LogRecord(body="service.started"), Resource({"service.name": "a"}))


@contextmanager
def collector(
    *answers: bytes | None, host: str = "127.0.0.1", heads: list[list[str]] | None = None
) -> Iterator[tuple[str, list[int]]]:
    """Its address, and for each request the number of the connection it came over.

    The lines of each request's head are added to `heads`.

    A request gets the next answer; after `None` its connection is closed instead.
    """
    seen: list[int] = []
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:

        def serve() -> None:
            left = list(answers)
            for number in range(len(answers) + 1):
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, connection.makefile("rb") as reader:
                    while head := _request(reader):
                        if heads is not None:
                            heads.append(head)
                        seen.append(number)
                        answer = left.pop(0)
                        if answer is None:
                            break
                        connection.sendall(answer)
                        if left and left[0] is None:
                            left.pop(0)  # it was idle for too long
                            break

        threading.Thread(target=serve, daemon=True).start()
        address = f"[{host}]" if ":" in host else host
        yield f"http://{address}:{listener.getsockname()[1]}", seen


def _request(reader: BinaryIO) -> list[str]:
    """The head of the next request, whose body is read as well; empty at the end."""
    head = []
    while line := reader.readline().strip().decode():
        head.append(line)
    lengths = [line for line in head if line.lower().startswith("content-length:")]
    if lengths:
        reader.read(int(lengths[0].split(":")[1]))
    return head


def answer(status: str, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", "Content-Length: 0", *headers, "", ""]).encode()


OK = answer("200 OK")


def delivery(
    monkeypatch: pytest.MonkeyPatch, url: str, timeout_s: str = "2"
) -> Callable[[list[ReadableLogRecord]], Answer]:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", timeout_s)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    watch = watch_for("otlp_proto_http")
    exporter = OTLPLogExporter(**watch.arguments)
    return deliver_with(exporter, list, watch)


def test_batches_share_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with collector(OK, OK, OK) as (url, seen):
        deliver = delivery(monkeypatch, url)
        assert [deliver([LINE]).delivery for _ in range(3)] == [Delivery.DELIVERED] * 3
    assert seen == [0, 0, 0]


def test_a_connection_that_was_closed_meanwhile_costs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with collector(OK, None, OK) as (url, seen):
        deliver = delivery(monkeypatch, url)
        assert [deliver([LINE]).delivery for _ in range(2)] == [Delivery.DELIVERED] * 2
    assert seen == [0, 1]


def test_a_connection_that_is_closed_instead_of_an_answer_is_tried_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with collector(None, OK) as (url, seen):
        assert delivery(monkeypatch, url)([LINE]).delivery is Delivery.DELIVERED
    assert seen == [0, 1]


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        ("503 Service Unavailable", Delivery.RETRY),
        ("302 Found", Delivery.REFUSED),
        ("400 Bad Request", Delivery.REFUSED),
        ("401 Unauthorized", Delivery.REFUSED),
        ("404 Not Found", Delivery.REFUSED),
    ],
)
def test_an_answer_says_what_becomes_of_the_batch(
    monkeypatch: pytest.MonkeyPatch, status: str, verdict: Delivery
) -> None:
    # "Later" than the time limit, so that the exporter leaves it to the queue to try again.
    with collector(answer(status, "Retry-After: 60")) as (url, seen):
        told = delivery(monkeypatch, url)([LINE])
    assert told.delivery is verdict
    assert status[:3] in told.reason
    assert told.retry_after_s == (60 if verdict is Delivery.RETRY else 0)
    assert seen == [0]


def test_an_absurd_time_to_come_back_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    header = "Retry-After: Fri, 20 Nov 2026 12:00:30 +" + "9" * 30
    with collector(answer("503 Service Unavailable", header)) as (url, _):
        told = delivery(monkeypatch, url)([LINE])
    assert (told.delivery, told.retry_after_s) == (Delivery.RETRY, 0)


def test_what_is_rejected_of_a_batch_is_not_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    response = ExportLogsServiceResponse()
    response.partial_success.rejected_log_records = 1
    response.partial_success.error_message = "too old, token=hunter22hunter22"
    body = response.SerializeToString()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with collector(head + body) as (url, _):
        told = delivery(monkeypatch, url)([LINE, LINE])
    assert (told.delivery, told.rejected) == (Delivery.DELIVERED, 1)
    assert "too old" in told.reason
    assert "hunter22" not in told.reason


def test_points_that_are_not_taken_are_counted(
    monkeypatch: pytest.MonkeyPatch, telemetry: InMemoryTelemetry
) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    counter = provider.get_meter("test").create_counter("two.points")
    for word in ("a", "b"):
        counter.add(1, {"word": word})
    two = reader.get_metrics_data()
    assert two is not None
    response = ExportMetricsServiceResponse()
    response.partial_success.rejected_data_points = 1
    body = response.SerializeToString()
    partly = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    busy = answer("503 Service Unavailable", "Retry-After: 60")
    with collector(answer("400 Bad Request"), OK, partly, busy) as (url, _):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "30")
        watch, told = watch_for("otlp_proto_http"), list[Answer]()
        masking: Any = masking_metrics(OTLPMetricExporter, watch, told.append)
        exporter = masking(**watch.arguments)
        for _ in range(4):
            exporter.export(two)
    assert [one.failed for one in told] == [True, False, True, True]
    name = "otel.sdk.exporter.metric_data_point.exported"
    assert telemetry.metric(name) == 3
    assert telemetry.metric(name, error_type="unavailable") == 2
    assert telemetry.metric(name, error_type="refused") == 3


def test_points_are_not_sent_before_the_time_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, telemetry: InMemoryTelemetry
) -> None:
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("test")
    meter.create_counter("one.point").add(1)
    one = reader.get_metrics_data()
    assert one is not None
    busy = answer("503 Service Unavailable", "Retry-After: 60")
    with collector(busy, OK) as (url, seen):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "30")
        watch, told = watch_for("otlp_proto_http"), list[Answer]()
        masking: Any = masking_metrics(OTLPMetricExporter, watch, told.append)
        exporter = masking(**watch.arguments)
        began = time.monotonic()
        assert exporter.export(one).name == "FAILURE"
        assert exporter.export(one).name == "FAILURE"
        assert len(seen) == 1
        with monkeypatch.context() as later:
            later.setattr(time, "monotonic", lambda: began + 300)
            assert exporter.export(one).name == "SUCCESS"
        assert len(seen) == 2
    assert [one.failed for one in told] == [True, False]
    name = "otel.sdk.exporter.metric_data_point.exported"
    assert telemetry.metric(name, error_type="unavailable") == 2
    assert telemetry.metric(name) == 1


def _no_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return True
    return False


HOSTS = [
    "127.0.0.1",
    pytest.param("::1", marks=pytest.mark.skipif(_no_ipv6(), reason="no IPv6 here")),
]


@pytest.mark.parametrize("host", HOSTS)
def test_address_and_headers_are_those_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a")
    heads: list[list[str]] = []
    with collector(OK, host=host, heads=heads) as (url, _):
        with_user = url.replace("http://", "http://user:word@") + "/base"
        assert delivery(monkeypatch, with_user)([LINE]).delivery is Delivery.DELIVERED
    ((request, *headers),) = heads
    assert request == "POST /base/v1/logs HTTP/1.1"
    known = {name.lower(): value for name, value in (line.split(": ", 1) for line in headers)}
    assert known["host"] == url.removeprefix("http://")
    assert known["authorization"] == "Basic dXNlcjp3b3Jk"
    assert (known["x-tenant"], known["content-encoding"]) == ("a", "gzip")
    assert known["content-type"] == "application/x-protobuf"
    assert len(known) == len(headers)  # none twice


def test_a_redirect_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    with collector(answer("307 Temporary Redirect", "Location: /elsewhere")) as (url, seen):
        assert delivery(monkeypatch, url)([LINE]).delivery is Delivery.REFUSED
    assert seen == [0]


def test_no_answer_in_time_is_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert delivery(monkeypatch, url, timeout_s="0.2")([LINE]).delivery is Delivery.RETRY
    assert delivery(monkeypatch, url)([LINE]).delivery is Delivery.RETRY  # nobody listens any more


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (grpc.StatusCode.UNAVAILABLE, Delivery.RETRY),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Delivery.RETRY),
        (grpc.StatusCode.INVALID_ARGUMENT, Delivery.REFUSED),
        (grpc.StatusCode.UNAUTHENTICATED, Delivery.REFUSED),
        (grpc.StatusCode.UNIMPLEMENTED, Delivery.REFUSED),
    ],
    ids=lambda value: value.name,
)
def test_a_grpc_code_says_what_becomes_of_the_batch(
    monkeypatch: pytest.MonkeyPatch, code: grpc.StatusCode, verdict: Delivery
) -> None:
    codes = [code, None, code]

    def take(_: bytes, context: grpc.ServicerContext) -> bytes:
        if (now := codes[0]) is not None:
            context.abort(now, "because")
        return b""

    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    server = grpc.server(ThreadPoolExecutor(2))
    method = {"Export": grpc.unary_unary_rpc_method_handler(take)}
    service = "opentelemetry.proto.collector.logs.v1.LogsService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, method),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    watch = watch_for("otlp_proto_grpc")
    exporter = GrpcLogExporter(f"http://127.0.0.1:{port}", timeout=0.5, **watch.arguments)
    deliver = deliver_with(exporter, list, watch)
    try:
        told = []
        while codes:
            told.append(deliver([LINE]).delivery)
            codes.pop(0)
        assert told == [verdict, Delivery.DELIVERED, verdict]
    finally:
        exporter.shutdown()
        server.stop(None)
