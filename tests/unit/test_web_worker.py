"""A client's time is bounded, and a wait that is over is never the end of its request."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser

from transcript_service.web.worker import BoundedSocket

UNSENT = b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 35\r\n\r\n"


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, BoundedSocket]]:
    """A client's end of a connection and the worker's."""
    client, plain = socket.socketpair()
    bounded = BoundedSocket.over(plain, 0.3)
    with client, bounded:
        bounded.begin()
        yield client, bounded


def test_a_request_that_takes_too_long_is_cut_off_and_not_taken_for_whole(
    ends: tuple[socket.socket, BoundedSocket],
) -> None:
    _, bounded = ends
    with pytest.raises(ConnectionResetError):
        bounded.recv(10)


def test_a_shorter_wait_of_somebody_else_stays_a_timeout(
    ends: tuple[socket.socket, BoundedSocket],
) -> None:
    _, bounded = ends
    bounded.settimeout(0.01)
    with pytest.raises(TimeoutError):
        bounded.recv(10)


def test_a_body_that_never_came_does_not_leave_its_connection_to_another_request(
    ends: tuple[socket.socket, BoundedSocket],
) -> None:
    client, bounded = ends
    parser = RequestParser(Config(), bounded, ("127.0.0.1", 1))
    client.sendall(UNSENT)
    next(parser)
    # False: whoever sees it has to close the connection.
    assert parser.finish_body(deadline=time.monotonic() + 0.05) is False
