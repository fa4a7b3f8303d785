"""A speech endpoint that speaks OpenAI's convention and answers what it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.serving import serving


@dataclass(slots=True)
class SpeechServer:
    """A running endpoint: what it answers and what it was sent last."""

    url: str
    status: int = 200
    body: bytes = b'{"segments": []}'
    reads: str = ""
    """The only kind of file it understands, such as `.wav`."""
    unread: tuple[int, bytes] = (400, b'{"error": "unsupported format"}')
    seen: dict[str, Any] = field(default_factory=dict)


@contextmanager
def speech_server() -> Iterator[SpeechServer]:
    """Serve on a free port of 127.0.0.1 while the context is open."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            parts: Any = BytesParser().parsebytes(head + sent).get_payload()
            running.seen = {
                "path": self.path,
                "authorization": self.headers.get("Authorization"),
                **{
                    str(part.get_param("name", header="content-disposition")): part.get_payload(
                        decode=True
                    )
                    for part in parts
                },
            }
            status, body = running.status, running.body
            if not any(str(part.get_filename() or "").endswith(running.reads) for part in parts):
                status, body = running.unread
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serving(Handler) as port:
        running = SpeechServer(f"http://127.0.0.1:{port}")
        yield running
