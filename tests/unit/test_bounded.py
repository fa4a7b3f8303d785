"""Answers are read whole, unpacked, within a size and a time."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler

import orjson
import pytest
import requests

from tests.serving import serving
from transcript_service.dashboard.upstream import (
    Upstream,
    UpstreamInvalid,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from transcript_service.resilience import Deadline
from transcript_service.resilience.bounded import BodyTooLarge, BoundedAdapter

TEXT = b"words " * 1000


class _Packed(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = gzip.compress(TEXT)
        self.send_response(200)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(_Packed) as port:
        yield f"http://127.0.0.1:{port}/"


def get(url: str, most: int) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        session.mount(
            "http://", BoundedAdapter(Deadline(30), max_body_bytes=most, connect_s=10, read_s=10)
        )
        return session.get(url)


def test_a_packed_body_of_known_length_is_unpacked(url: str) -> None:
    assert get(url, 10_000).content == TEXT


def test_the_size_is_that_of_the_unpacked_body(url: str) -> None:
    with pytest.raises(BodyTooLarge):
        get(url, 5_999)


# --- the client of one engine ------------------------------------------------------------------

PACKED = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Peer:
    """A server that does with each connection what a test says; `met` counts them."""

    def __init__(self, behave: Callable[[socket.socket], None]) -> None:
        self.met = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._behave = behave
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self.met += 1
                threading.Thread(target=self._with, args=(connection,), daemon=True).start()

    def _with(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            self._behave(connection)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)  # close alone does not wake accept
        self._listening.close()


@contextmanager
def client_of(
    behave: Callable[[socket.socket], None], most: int = 1000
) -> Iterator[tuple[Upstream, Peer]]:
    peer = Peer(behave)
    client = Upstream(peer.url, timeout_s=10, max_bytes=most)
    try:
        yield client, peer
    finally:
        with suppress(OSError):  # a test did
            peer.close()


def _answering(times: int, answer: bytes = OK) -> Callable[[socket.socket], None]:
    def behave(connection: socket.socket) -> None:
        for _ in range(times):
            if connection.recv(65536):
                connection.sendall(answer)

    return behave


def _dripping(connection: socket.socket) -> None:
    """A header that never ends, a byte now and then."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        connection.sendall(b"x")
        time.sleep(0.02)


def test_a_connection_is_used_again() -> None:
    with client_of(_answering(100)) as (client, peer):
        for _ in range(5):
            assert client.get("/x", {"a": "b c"}, Deadline(10), orjson.loads) == {}
        assert peer.met == 1


def test_a_kept_connection_that_the_server_closed_is_replaced_unseen() -> None:
    with client_of(_answering(2)) as (client, peer):
        assert [client.get("/", {}, Deadline(10), orjson.loads) for _ in range(6)] == [{}] * 6
        assert peer.met == 3


def test_who_is_left_behind_in_a_header_that_never_ends_is_let_go() -> None:
    with client_of(_dripping) as (client, _):
        deadline = Deadline(0.2)
        threading.Timer(0.3, deadline.leave_behind).start()
        began = time.monotonic()
        with pytest.raises(UpstreamTimeout):
            client.get("/", {}, deadline, orjson.loads)
        assert time.monotonic() - began < 10


def test_a_server_that_says_nothing_is_late() -> None:
    with (
        client_of(lambda connection: time.sleep(30)) as (client, _),
        pytest.raises(UpstreamTimeout),
    ):
        client.get("/", {}, Deadline(0.1), orjson.loads)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000, UpstreamInvalid),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\nx", UpstreamInvalid),
        (PACKED + b"xx", UpstreamInvalid),
        (b"SSH-2.0-OpenSSH\r\n\r\n", UpstreamInvalid),
        (b"", UpstreamUnreachable),
    ],
)
def test_what_is_no_whole_answer_is_an_error_of_its_kind(
    answer: bytes, error: type[Exception]
) -> None:
    with client_of(_answering(1, answer)) as (client, _), pytest.raises(error):
        client.get("/", {}, Deadline(10), orjson.loads)


def test_a_server_that_is_not_there_is_an_error_of_the_system() -> None:
    with client_of(_answering(1)) as (client, peer):
        peer.close()
        with pytest.raises(UpstreamUnreachable):
            client.get("/", {}, Deadline(10), orjson.loads)


def test_user_and_password_of_the_address_are_sent_as_basic_authentication() -> None:
    heads: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        heads.append(connection.recv(65536))
        connection.sendall(OK)

    with closing(Peer(behave)) as peer:
        url = peer.url.replace("://", "://stack:p%40ss@")
        assert (
            Upstream(url, timeout_s=5, max_bytes=1000).get("/x", {}, Deadline(5), orjson.loads)
            == {}
        )
    assert f"authorization: Basic {b64encode(b'stack:p@ss').decode()}".encode() in heads[0]
