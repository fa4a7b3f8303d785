"""Gunicorn's threaded worker, with problem documents and with limits on slow clients.

A request line that is too long or a header that is no header never reaches Flask;
gunicorn answers it with a small HTML page. Callers are promised one error form with a
trace id, so the page is replaced by it; which status it is stays gunicorn's decision.

A thread that reads a request or writes an answer waits for the client without limit in
gunicorn, so as many clients as there are threads, each sending a byte now and then, would
stop the worker. Here both have a time limit, after which the client counts as gone.
"""

from __future__ import annotations

import errno
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gunicorn import util
from gunicorn.workers.gthread import ThreadWorker

from ..problem import MEDIA_TYPE, Problem, condition
from ..settings import get_settings
from ..telemetry import current_trace_id, span

_STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3})")


class Worker(ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    """See the module."""

    def enqueue_req(self, conn: Any) -> None:
        """Let a thread serve the next request of a connection."""
        if not isinstance(conn.sock, BoundedSocket):
            conn.sock = BoundedSocket.over(conn.sock, get_settings().web_client_timeout_s)
        super().enqueue_req(conn)

    def handle(self, conn: Any) -> Any:
        """Serve one request; runs in a thread."""
        conn.sock.begin()
        return super().handle(conn)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer a request that cannot be served."""
        page = _Page()
        super().handle_error(req, page, addr, exc)
        found = _STATUS_LINE.match(page.sent)
        if found is None:
            return  # gunicorn had nothing to say, such as to a client that is gone
        status = int(found[1])
        with span("http.request.refused", **{"http.response.status_code": status}):
            try:
                util.write_nonblock(client, _problem(status))
            except OSError:
                self.log.debug("The client left before its error.")


class BoundedSocket(socket.socket):
    """A client's socket: a whole request and a whole answer may each take `limit_s` seconds.

    What the service does between the two does not count.
    """

    _limit_s = 0.0
    _read_until = 0.0
    _write_until: float | None = None

    @classmethod
    def over(cls, plain: socket.socket, limit_s: float) -> BoundedSocket:
        """Take over the connection of `plain`, which is of no use afterwards."""
        family, kind, protocol, timeout = plain.family, plain.type, plain.proto, plain.gettimeout()
        bounded = cls(family, kind, protocol, fileno=plain.detach())
        bounded.settimeout(timeout)
        bounded._limit_s = limit_s
        return bounded

    def begin(self) -> None:
        """A request begins: its time starts now."""
        self._read_until = time.monotonic() + self._limit_s
        self._write_until = None

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """As ever; once the time is over `ConnectionResetError`, as if the client were gone.

        Not the end of the request: who takes it for read whole reads the rest as the next one.
        """
        try:
            with self._until(self._read_until):
                return super().recv(size, flags)
        except TimeoutError:
            if time.monotonic() < self._read_until:
                raise  # gunicorn's own, shorter wait
            raise ConnectionResetError(
                errno.ECONNRESET, "the client sends its request too slowly"
            ) from None

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """As ever; once the time is over `BrokenPipeError`, as if the client had hung up."""
        if self._write_until is None:
            self._write_until = time.monotonic() + self._limit_s
        try:
            with self._until(self._write_until):
                super().sendall(data, flags)
        except TimeoutError:
            raise BrokenPipeError(errno.EPIPE, "the client takes its answer too slowly") from None

    @contextmanager
    def _until(self, end: float) -> Iterator[None]:
        """Wait to a moment (monotonic seconds) at the longest, or as short as was set before."""
        before = self.gettimeout()
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.settimeout(left if before is None else min(left, before))
        try:
            yield
        finally:
            self.settimeout(before)


class _Page:
    """Stands in for the client's socket and keeps the page that gunicorn writes."""

    def __init__(self) -> None:
        self.sent = b""

    def gettimeout(self) -> float:
        return 0.0

    def sendall(self, data: bytes) -> None:
        self.sent += data


def _problem(status: int) -> bytes:
    phrase, code = condition(status)
    trace_id = current_trace_id()
    body = Problem(status, code, "The request could not be read.").document(trace_id=trace_id)
    head = (
        f"HTTP/1.1 {status} {phrase}\r\n"
        "Connection: close\r\n"
        f"Content-Type: {MEDIA_TYPE}\r\n"
        f"X-Correlation-ID: {trace_id}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
