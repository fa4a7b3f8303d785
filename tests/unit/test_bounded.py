"""Answers are read whole, unpacked, and within a size."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

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

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Packed)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


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
