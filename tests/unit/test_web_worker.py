"""A connection that waits for nobody: read ahead until a request is whole, written behind."""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser
from gunicorn.workers.base import Worker as BaseWorker

from transcript_service.web.connection import MAX_HEAD_BYTES, Connection, Refused
from transcript_service.web.worker import Worker, _group

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Connection]]:
    """A client's end of a connection and the worker's."""
    client, plain = socket.socketpair()
    ours = Connection.over(plain)
    with client, ours:
        yield client, ours


def test_a_request_is_taken_once_it_is_whole(ends: tuple[socket.socket, Connection]) -> None:
    client, ours = ends
    for byte in HEAD + b"1234":
        client.sendall(bytes([byte]))
        assert ours.read_ahead()
        assert ours.take_request() is None
    client.sendall(b"5GET /next")
    assert ours.read_ahead()
    assert ours.take_request() == HEAD
    assert (ours.recv(1000), ours.has_begun) == (HEAD + b"12345", True)
    assert ours.take_request() is None  # the next one has only begun


def test_what_is_behind_a_request_is_no_part_of_it(ends: tuple[socket.socket, Connection]) -> None:
    client, ours = ends
    client.sendall(HEAD + b"12345" + HEAD + b"67890")
    ours.read_ahead()
    ours.take_request()
    parser = RequestParser(Config(), ours, ("127.0.0.1", 1))
    assert next(parser).body.read() == b"12345"
    assert parser.finish_body(deadline=time.monotonic() + 60) is True
    with pytest.raises(ConnectionResetError):
        ours.recv(10)
    assert ours.take_request() == HEAD
    assert next(parser).body.read() == b"67890"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"GET / HTTP/1.1\r\nTRANSFER-ENCODING : x\r\nContent-Length: 1\r\n\r\n1", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_HEAD_BYTES, 431),
        (b"G" * (MAX_HEAD_BYTES + 1), 414),
    ],
)
def test_what_would_not_end_is_refused(
    ends: tuple[socket.socket, Connection], sent: bytes, status: int
) -> None:
    client, ours = ends
    client.setblocking(False)

    def feed() -> None:
        left = memoryview(sent)
        while left or ours.has_begun:
            left = left[client.send(left[:32768]) :] if left else left
            ours.read_ahead()
            ours.take_request()

    with pytest.raises(Refused) as refused:
        feed()
    assert refused.value.status == status


def test_an_answer_goes_out_as_the_client_takes_it(
    ends: tuple[socket.socket, Connection],
) -> None:
    client, ours = ends
    answer = bytes(range(256)) * 20_000
    ours.sendall(answer)  # returns at once
    ours.sendall(b"end")
    assert ours.has_pending
    assert ours.held_bytes > 1_000_000
    taken = bytearray()
    while len(taken) < len(answer) + 3:
        taken += client.recv(65536)
        assert ours.write_more()
    assert bytes(taken) == answer + b"end"
    assert (ours.has_pending, ours.held_bytes) == (False, 0)


def test_a_client_that_left_is_noticed(ends: tuple[socket.socket, Connection]) -> None:
    client, ours = ends
    client.close()
    assert ours.read_ahead() is False
    with pytest.raises(BrokenPipeError):
        ours.sendall(b"x" * 100_000)


@pytest.mark.parametrize(
    ("line", "group"),
    [
        (b"GET /api/transcripts/x HTTP/1.1", b"transcripts"),
        (b"GET /api/transcripts HTTP/1.1", b"transcripts"),
        (b"GET /api/%74ranscript%73/x HTTP/1.1", b"transcripts"),
        (b"GET http://host/api/transcripts/x HTTP/1.1", b"transcripts"),
        (b"GET /api%2Ftranscripts/x HTTP/1.1", b"transcripts"),
        (b"\r\nGET /api/transcripts/x HTTP/1.1", b"transcripts"),
        (b"GET http://x%2Fhealth/api/transcripts/x HTTP/1.1", b"transcripts"),
        (b"GET ftp://x?/health HTTP/1.1", b"others"),
        (b"GET /?/%20/health HTTP/1.1", b"others"),
        (b"GET http://[/health HTTP/1.1", b"others"),
        (b"GET //x/health HTTP/1.1", b"others"),
        (b"GET /healthy HTTP/1.1", b"others"),
        (b"GET /health/live HTTP/1.1", b"health"),
        (b"GET /health?x HTTP/1.1", b"health"),
        (b"GET /api/dashboard/metrics HTTP/1.1", b"others"),
        (b"GET / HTTP/1.1", b"others"),
        (b"\x00\x01", b"others"),
        (b"", b"others"),
    ],
)
def test_transcripts_health_and_the_rest_have_threads_of_their_own(
    line: bytes, group: bytes
) -> None:
    assert _group(line + b"\r\nHost: x\r\n\r\n") == group


class Loop:
    """A worker without its process: the test turns its loop, over a listener of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
        monkeypatch.setattr(BaseWorker, "init_process", lambda _: None)  # loads the app, then runs
        cfg = Config()
        cfg.set("worker_connections", most)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.worker = Worker(0, os.getpid(), [self._listener], None, 60, cfg, None)
        self.worker.init_process()

    def connect(self) -> socket.socket:
        """A client whom the worker has accepted and waits for."""
        client = socket.create_connection(self._listener.getsockname(), timeout=10)
        self.worker.accept(self._listener)
        return client

    def turn_with_a_new_client_first(self) -> socket.socket:
        """One batch of events: a new client's, then all that are there already."""
        client = socket.create_connection(self._listener.getsockname(), timeout=10)
        events = self.worker.poller.select(10)
        assert events
        listener = selectors.SelectorKey(self._listener, 0, 0, self.worker.accept)
        with pytest.MonkeyPatch.context() as patched:
            batch = [(listener, selectors.EVENT_READ), *events]
            patched.setattr(self.worker.poller, "select", lambda _: batch)
            self.worker.wait_for_and_dispatch_events(0)
        return client

    def close(self) -> None:
        """Close what the worker has open."""
        self.worker.murder_keepalived(force=True)
        self.worker.tpool.shutdown()
        self.worker.poller.close()
        self.worker.method_queue.close()
        self._listener.close()


@pytest.mark.parametrize("waits_for", ["request", "rest", "answer", "end"])
def test_an_event_of_a_connection_that_made_room_is_nothing(
    monkeypatch: pytest.MonkeyPatch, waits_for: str
) -> None:
    with closing(Loop(monkeypatch, most=2)) as loop, ExitStack() as clients:
        worker = loop.worker
        old = clients.enter_context(loop.connect())
        (conn,) = worker._watched
        if waits_for == "rest":
            old.sendall(b"G")
            worker.wait_for_and_dispatch_events(10)
        elif waits_for != "request":
            worker._unwatch(conn)
            while waits_for == "answer" and not conn.sock.has_pending:
                conn.sock.sendall(bytes(1_000_000))
            worker._write(conn, False)
        if waits_for == "answer":
            while not worker.poller.select(0):
                old.recv(1_000_000)
        else:
            old.sendall(b"ET")
        clients.enter_context(loop.turn_with_a_new_client_first())
        assert conn not in worker._watched
        assert (len(worker._watched), worker.nr_conns) == (1, 1)
        worker._close(conn)
        assert worker.nr_conns == 1
    assert worker.nr_conns == 0
