"""A stand-in for the engines behind the dashboard, which can misbehave in every known way."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from flask import Flask
from flask.testing import FlaskClient

from tests.serving import serving
from transcript_service.settings import Settings
from transcript_service.web import dashboard_api, problems

SECRET_WORDS = ("127.0.0.1", "histogram_quantile", "transcript_requests", "Traceback", "aiohttp")


class FakeEngine:
    """An HTTP server on a free port that answers as `behave` says.

    Attributes:
        behave: gets the handler and its parameters; replace it at any time.
        peak: most requests that were in flight at the same time.
        total: requests so far.
        sent: body bytes that the peer took.
        held: while not set, `hanging` waits.
    """

    def __init__(self) -> None:
        self.behave: Callable[[Handler, dict[str, str]], None] = empty
        self.peak = 0
        self.total = 0
        self.sent = 0
        self.delay_s = 0.0
        self.held = threading.Event()
        self._busy = 0
        self._lock = threading.Lock()
        engine = self

        class Bound(Handler):
            owner = engine

        self._open = ExitStack()
        self.url = f"http://127.0.0.1:{self._open.enter_context(serving(Bound))}"

    def close(self) -> None:
        self.held.set()
        self._open.close()

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        with self._lock:
            self.total += 1
            self._busy += 1
            self.peak = max(self.peak, self._busy)
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1


class Handler(BaseHTTPRequestHandler):
    """One request to the fake engine."""

    owner: FakeEngine
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        parameters = {name: values[0] for name, values in parse_qs(parts.query).items()}
        with self.owner.in_flight():
            if self.owner.delay_s:
                self.owner.held.wait(self.owner.delay_s)
            try:
                self.owner.behave(self, {"path": parts.path, **parameters})
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

    def answer(self, body: bytes, *, status: int = 200, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.write(body)

    def write(self, body: bytes) -> None:
        self.wfile.write(body)
        self.owner.sent += len(body)


# --- behaviours ------------------------------------------------------------------------------

Behaviour = Callable[[Handler, dict[str, str]], None]


def success(data: object) -> bytes:
    """An answer of Prometheus."""
    return json.dumps({"status": "success", "data": data}).encode()


def empty(handler: Handler, parameters: dict[str, str]) -> None:
    """A healthy engine that holds nothing."""
    handler.answer(_empty(parameters["path"]))


def _empty(path: str) -> bytes:
    if path.startswith("/api/v2/"):
        return b"[]"
    if path.startswith("/select/logsql/"):
        return b""
    if path == "/api/traces":
        return b'{"data": []}'
    if path == "/select/logsql/query":
        return b""  # no line is no line
    if path.endswith("/alerts"):
        return success({"alerts": []})
    if path.endswith("query_exemplars"):
        return success([])
    return success({"resultType": "matrix" if "range" in path else "vector", "result": []})


TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACE_START_US = 1_800_000_000_000_000


def jaeger_span(
    span_id: str, parent: str, start_s: float, duration_s: float, **more: Any
) -> dict[str, Any]:
    """A span as Jaeger tells it; `more` are its tags, its name and its logs."""
    parts: dict[str, Any] = {
        name: more.pop(name) for name in ("operationName", "logs") if name in more
    }
    return {
        "traceID": TRACE_ID,
        "spanID": span_id,
        "operationName": f"span {span_id}",
        "references": [{"refType": "CHILD_OF", "traceID": TRACE_ID, "spanID": parent}]
        if parent
        else [],
        "startTime": TRACE_START_US + round(start_s * 1e6),
        "duration": round(duration_s * 1e6),
        "tags": [{"key": key, "value": value} for key, value in more.items()],
        "logs": [],
        "processID": "p1",
        **parts,
    }


def jaeger_trace(*spans: dict[str, Any]) -> dict[str, Any]:
    """A trace of one process as Jaeger tells it."""
    worker = {"key": "service.instance.id", "value": "w-1"}
    return {
        "traceID": TRACE_ID,
        "spans": list(spans),
        "processes": {"p1": {"serviceName": "svc", "tags": [worker]}},
    }


def valued(value: str) -> Callable[[Handler, dict[str, str]], None]:
    """Every instant query answers one series of this value; of quantiles one each, with and
    without a stage."""

    def behave(handler: Handler, parameters: dict[str, str]) -> None:
        if parameters["path"] != "/api/v1/query":
            return empty(handler, parameters)
        of_stage = {"stage": "asr", "outcome": "success"}
        labels: list[dict[str, str]] = [of_stage]
        if '"quantile"' in parameters["query"]:
            labels = [
                {**more, "quantile": word} for more in ({}, of_stage) for word in ("p50", "p95")
            ]
        result = [{"metric": some, "value": [1.0, value]} for some in labels]
        return handler.answer(success({"resultType": "vector", "result": result}))

    return behave


def fixed(
    status: int, body: bytes, kind: str = "application/json"
) -> Callable[[Handler, dict[str, str]], None]:
    """The same answer to everything."""
    return lambda handler, _: handler.answer(body, status=status, kind=kind)


def hanging(handler: Handler, _: dict[str, str]) -> None:
    """Takes the request and says nothing."""
    handler.owner.held.wait(30)
    handler.close_connection = True


def dripping(handler: Handler, _: dict[str, str]) -> None:
    """One byte at a time, always before a read times out."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    while not handler.owner.held.wait(0.1):
        handler.write(b" ")
        handler.wfile.flush()


def enormous(handler: Handler, _: dict[str, str]) -> None:
    """200 MB of JSON, as fast as the peer takes it."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(200 * 2**20))
    handler.end_headers()
    chunk = b"[" * 2**16
    for _part in range(200 * 2**4):
        handler.write(chunk)


def cut_short(handler: Handler, _: dict[str, str]) -> None:
    """Promises more than it sends."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.write(b'{"status":"succ')
    handler.close_connection = True


# --- the service over it -----------------------------------------------------------------------


def service(state_dir: Path, prometheus_url: str, **settings: Any) -> Flask:
    """An application that holds the dashboard only."""
    given = {
        "state_dir": state_dir,
        "prometheus_url": prometheus_url,
        "alertmanager_url": prometheus_url,
        "jaeger_url": prometheus_url,
        "victorialogs_url": prometheus_url,
        "web_concurrency": 1,
        "dashboard_open_on_loopback": True,
        **settings,
    }
    app = Flask("dashboard_under_test")
    problems.register(app)
    dashboard_api.register(app, Settings(**given))
    return app


def timed_get(client: FlaskClient, path: str, **options: Any) -> tuple[Any, float]:
    """The response and the seconds it took."""
    started = time.perf_counter()
    response = client.get(path, **options)
    return response, time.perf_counter() - started


def json_of(response: Any) -> Any:
    """The parsed body."""
    return json.loads(response.get_data())
