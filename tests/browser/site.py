"""A small web site on the loopback interface, and a proxy that wants credentials."""

from __future__ import annotations

import base64
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import trustme

from tests.serving import serving

_PAGES = {
    "/": "<title>home</title><h1>home</h1>",
    "/watch": "<title>watch</title><script src='/cached.js'></script>",
    "/endless": "<title>endless</title><script>while (true) {}</script>",
    "/refreshing": "<title>refreshing</title><meta http-equiv=refresh content=0>",
    "/popup": "<title>popup</title><script>window.open('/')</script>",
}


class Site:
    """The server's address and what was asked of it."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        # A second origin on the same server.
        self.other_url = f"http://localhost:{port}"
        self.address = f"127.0.0.1:{port}"
        self.hits: Counter[str] = Counter()
        self.headers: dict[str, dict[str, str]] = {}
        self.closing = threading.Event()
        # Answer everything with this status and no body.
        self.bodiless: int | None = None


@contextmanager
def serve(certificate: trustme.LeafCert | None = None) -> Iterator[Site]:
    """Run the site for a block; over TLS if given a certificate."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.split("?", 1)[0]
            site.hits[path] += 1
            site.headers[path] = {key.lower(): value for key, value in self.headers.items()}
            if site.bodiless is not None:
                self.send_response(site.bodiless)
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif path == "/hang":
                site.closing.wait(300)
            elif path == "/cached.js":
                self._send(b"window.loaded = true", "text/javascript", "max-age=3600")
            elif path == "/sw.js":
                self._send(b"self.addEventListener('fetch', () => {})", "text/javascript")
            elif path == "/captions":
                self._send(b'{"events": []}', "application/json")
            else:
                self._send(_PAGES.get(path, f"<title>{path}</title>").encode(), "text/html")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.do_GET()

        def _send(self, body: bytes, kind: str, cache: str = "no-store") -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", cache)
            self.end_headers()
            self.wfile.write(body)

    tls = None
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(tls)
    with serving(Handler, tls=tls) as port:
        site = Site(port)
        try:
            yield site
        finally:
            site.closing.set()


@contextmanager
def proxy(name: str, username: str, password: str) -> Iterator[str]:
    """An HTTP proxy that answers every request itself with its name, given the password."""
    wanted = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            allowed = self.headers.get("Proxy-Authorization") == wanted
            body = f"<title>{name}</title>".encode()
            self.send_response(200 if allowed else 407)
            if not allowed:
                self.send_header("Proxy-Authenticate", 'Basic realm="test"')
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serving(Handler) as port:
        yield f"http://127.0.0.1:{port}"
