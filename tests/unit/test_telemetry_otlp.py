"""Posts over a kept-alive connection, to servers that end it when they like."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import INVALID_SPAN_CONTEXT

from transcript_service.telemetry.export_queue import Delivery
from transcript_service.telemetry.otlp import LogDelivery, LogLine

LINE = LogLine(1, 20, "service.started", {}, INVALID_SPAN_CONTEXT)


@contextmanager
def collector(*answers: bytes | None) -> Iterator[tuple[str, list[int]]]:
    """Its address, and for each request the number of the connection it came over.

    A request gets the next answer; after `None` its connection is closed instead.
    """
    seen: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            left = list(answers)
            for number in range(len(answers) + 1):
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, connection.makefile("rb") as reader:
                    while _request(reader):
                        seen.append(number)
                        answer = left.pop(0)
                        if answer is None:
                            break
                        connection.sendall(answer)
                        if left and left[0] is None:
                            left.pop(0)  # it was idle for too long
                            break

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", seen


def _request(reader: BinaryIO) -> int:
    """The length of the body that came, 0 at the end of the connection."""
    length = 0
    while line := reader.readline().strip().lower():
        if line.startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return len(reader.read(length))


def answer(status: str, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", "Content-Length: 0", *headers, "", ""]).encode()


OK = answer("200 OK")


def delivery(monkeypatch: pytest.MonkeyPatch, url: str, timeout_s: str = "2") -> LogDelivery:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", timeout_s)
    return LogDelivery(Resource({"service.name": "a"}), InstrumentationScope("a"))


def test_batches_share_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with collector(OK, OK, OK) as (url, seen):
        deliver = delivery(monkeypatch, url)
        assert [deliver([LINE]) for _ in range(3)] == [Delivery.DELIVERED] * 3
    assert seen == [0, 0, 0]


def test_a_connection_that_was_closed_meanwhile_costs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with collector(OK, None, OK) as (url, seen):
        deliver = delivery(monkeypatch, url)
        assert [deliver([LINE]) for _ in range(2)] == [Delivery.DELIVERED] * 2
    assert seen == [0, 1]


def test_a_connection_that_is_closed_instead_of_an_answer_is_tried_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with collector(None, OK) as (url, seen):
        assert delivery(monkeypatch, url)([LINE]) is Delivery.DELIVERED
    assert seen == [0, 1]


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        ("503 Service Unavailable", Delivery.RETRY),
        ("400 Bad Request", Delivery.REFUSED),
        ("404 Not Found", Delivery.REFUSED),
    ],
)
def test_an_answer_says_what_becomes_of_the_batch(
    monkeypatch: pytest.MonkeyPatch, status: str, verdict: Delivery
) -> None:
    # "Later" than the time limit, so that the exporter leaves it to the queue to try again.
    with collector(answer(status, "Retry-After: 60")) as (url, seen):
        assert delivery(monkeypatch, url)([LINE]) is verdict
    assert seen == [0]


def test_a_redirect_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    with collector(answer("307 Temporary Redirect", "Location: /elsewhere")) as (url, seen):
        delivery(monkeypatch, url)([LINE])
    assert seen == [0]


def test_no_answer_in_time_is_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert delivery(monkeypatch, url, timeout_s="0.2")([LINE]) is Delivery.RETRY
    assert delivery(monkeypatch, url)([LINE]) is Delivery.RETRY  # nobody listens any more
