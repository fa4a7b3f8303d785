"""A connection that waits for nobody: read ahead until a request is whole, written behind."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser

from transcript_service.web.connection import MAX_HEAD_BYTES, Connection, Refused
from transcript_service.web.worker import _group

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
        (b"GET /health/live HTTP/1.1", b"health"),
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
