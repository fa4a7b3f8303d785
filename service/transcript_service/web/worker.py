"""Gunicorn's threaded worker, with problem documents where gunicorn itself refuses.

A request line that is too long or a header that is no header never reaches Flask;
gunicorn answers it with a small HTML page. Callers are promised one error form with a
trace id, so the page is replaced by it; which status it is stays gunicorn's decision.
"""

from __future__ import annotations

import re
import socket
from typing import Any

import orjson
from gunicorn import util
from gunicorn.workers.gthread import ThreadWorker

from ..telemetry import current_trace_id, span
from .problems import condition

_STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3})")


class Worker(ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    """See the module."""

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
    body = orjson.dumps(
        {
            "type": f"/problems/{code}",
            "title": phrase,
            "status": status,
            "detail": "The request could not be read.",
            "code": code,
            "trace_id": trace_id,
        }
    )
    head = (
        f"HTTP/1.1 {status} {phrase}\r\n"
        "Connection: close\r\n"
        "Content-Type: application/problem+json\r\n"
        f"X-Correlation-ID: {trace_id}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
