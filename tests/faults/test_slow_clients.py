"""Clients that take their time, and requests that gunicorn refuses itself: real gunicorn."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from threading import Event, Thread

import pytest

from tests.gunicorn_process import Gunicorn, gunicorn, patience

THREADS = 4  # as tests/gunicorn_process.py has it
LIMIT_S = 3.0
# The largest file that the service has, larger than what the kernel takes off its hands.
LARGE = f"/dashboard/charts/{version('plotly')}.js"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the service keeps its files."""
    return tmp_path_factory.mktemp("gunicorn") / "state"


@pytest.fixture(scope="module")
def server(state: Path) -> Iterator[Gunicorn]:
    """One worker of the whole service, which gives clients three seconds."""
    environ = {"WEB_CLIENT_TIMEOUT_S": str(LIMIT_S), "OTEL_SDK_DISABLED": "true"}
    folder = state.parent
    with gunicorn(folder, environ, "transcript_service.web:create_app()", workers=1) as running:
        yield running
        # Whoever is slow on purpose must not be able to fill the log.
        assert "Traceback" not in running.log()


class Dripping:
    """A client that sends a request one byte at a time, and never the end of it."""

    def __init__(self, server: Gunicorn, request: bytes) -> None:
        self.sent = 0
        self.cut_off = Event()
        self._stop = Event()
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        self._thread = Thread(target=self._run, args=(request,))
        self._thread.start()

    def _run(self, request: bytes) -> None:
        with self._socket:
            for byte in (*request, *(b"x" * 100_000)):
                try:
                    self._socket.sendall(bytes([byte]))
                except OSError:
                    self.cut_off.set()
                    return
                self.sent += 1
                if self._stop.wait(0.1):
                    return

    def __enter__(self) -> Dripping:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


class Sipping:
    """A client that asks for much and reads none of it."""

    def __init__(self, server: Gunicorn) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.settimeout(60)
        self._socket.connect(("127.0.0.1", server.port))
        self._socket.sendall(f"GET {LARGE} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def rest(self) -> int:
        """How many bytes still come until the end."""
        count = 0
        try:
            while data := self._socket.recv(65536):
                count += len(data)
        except ConnectionResetError:
            pass
        return count

    def __enter__(self) -> Sipping:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def answered(server: Gunicorn, path: str = "/health/live", timeout_s: float = 60.0) -> int:
    """The status of one ordinary request, which may take a while on a slow machine."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


HEAD = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
BODY = (
    b"POST /api/alerts/webhook HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
)


def test_a_slow_client_does_not_keep_others_from_their_answers(server: Gunicorn) -> None:
    with Dripping(server, HEAD) as slow, Sipping(server):
        for _ in range(10):
            assert answered(server) == 200
        assert slow.sent > 0


@pytest.mark.parametrize("request_", [HEAD, BODY], ids=["head", "body"])
def test_slow_senders_for_every_thread_are_cut_off_and_others_answered(
    server: Gunicorn, request_: bytes
) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(Dripping(server, request_)) for _ in range(20 * THREADS)]
        began = time.monotonic()
        assert answered(server) == 200
        assert answered(server, "/api/openapi.json") == 200
        assert time.monotonic() - began < patience(LIMIT_S)  # nobody was cut off for it
        for client in slow:
            assert client.cut_off.wait(60)


def test_slow_readers_for_every_thread_are_cut_off_and_others_answered(server: Gunicorn) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", LARGE)
    whole = len(connection.getresponse().read())
    assert whole > 4_000_000
    connection.close()
    with ExitStack() as stack:
        slow = [stack.enter_context(Sipping(server)) for _ in range(4 * THREADS)]
        began = time.monotonic()
        assert answered(server) == 200
        assert answered(server, "/api/openapi.json") == 200
        assert time.monotonic() - began < patience(LIMIT_S)  # nobody was cut off for it
        Event().wait(LIMIT_S + 1)  # their time is what is tested
        assert all(client.rest() < whole for client in slow[:THREADS])


def test_more_clients_than_there_is_room_for_cost_the_slowest_their_place(
    tmp_path: Path,
) -> None:
    app = "transcript_service.web:create_app()"
    few = {"OTEL_SDK_DISABLED": "true", "GUNICORN_CMD_ARGS": "--worker-connections 50"}
    with gunicorn(tmp_path, few, app, workers=1) as server, ExitStack() as stack:
        assert answered(server) == 200
        slow = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
            for _ in range(200)
        ]
        began = time.monotonic()
        assert answered(server) == 200
        assert time.monotonic() - began < patience(LIMIT_S)
        assert slow[0].recv(1) == b""


def test_a_client_with_a_pause_inside_the_limit_gets_its_answer(server: Gunicorn) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        client.sendall(b"GET /health/live HTTP/1.1\r\n")
        Event().wait(LIMIT_S / 6)  # the pause is what is tested
        client.sendall(b"Host: localhost\r\nConnection: close\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_every_request_of_a_kept_connection_has_its_own_time(server: Gunicorn) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    began = time.monotonic()
    while time.monotonic() < began + 1.5 * LIMIT_S:
        connection.request("GET", "/health/live")
        assert connection.getresponse().read()
        Event().wait(LIMIT_S / 6)
    connection.close()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /api/dashboard/metrics?hours=" + b"9" * 100_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nX-Large: " + b"9" * 100_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nNo header at all\r\n\r\n", 400),
        (b"\x00\x01\x02\r\n\r\n", 400),
    ],
    ids=["query string", "header", "no header", "no HTTP"],
)
def test_what_gunicorn_refuses_is_a_problem_document_with_a_trace_id(
    server: Gunicorn, request_: bytes, status: int
) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        client.sendall(request_)
        response = http.client.HTTPResponse(client)
        response.begin()
        body = json.loads(response.read())
    assert response.status == status
    assert response.headers["Content-Type"] == "application/problem+json"
    assert body["status"] == status
    assert re.fullmatch("[a-z_]+", body["code"])
    assert re.fullmatch("[0-9a-f]{32}", body["trace_id"])
    assert response.headers["X-Correlation-ID"] == body["trace_id"]
    assert "gunicorn" not in str(response.headers).lower() + str(body)
    assert answered(server) == 200


def test_no_header_says_where_the_service_is(server: Gunicorn) -> None:
    forged = {"SCRIPT_NAME": "/evil", "Script-Name": "/evil", "X-Forwarded-Proto": "ftp"}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    for path in ("/", "/evil/", "/dashboard", "/api/transcripts"):
        connection.request("GET", path, headers=forged)
        answer = connection.getresponse()
        body = answer.read()
        assert "/evil" not in answer.headers.get("Location", "")
        # A problem says which path was asked for; nothing else may hold it.
        assert path.startswith("/evil") or b"/evil" not in body
        assert answer.status == {"/": 302, "/evil/": 404, "/dashboard": 200}.get(path, 400)
    connection.close()


def test_state_is_closed_to_others_whatever_the_umask_of_who_starts_it(
    server: Gunicorn, state: Path
) -> None:
    assert answered(server, "/health/ready") == 200
    made = [state, *state.rglob("*")]
    assert len(made) > 1
    assert [str(path) for path in made if path.stat().st_mode & 0o077] == []
