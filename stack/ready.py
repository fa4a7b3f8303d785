"""Real readiness: asking each program whether it serves, as its users would."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
from collections.abc import Callable

from stack.credentials import authorization
from stack.layout import HOST, Layout

# None when ready, else a few words why not.
Probe = Callable[[], str | None]

_TIMEOUT_S = 2.0


def http_probe(layout: Layout, port: str, path: str) -> Probe:
    """Ready when GET `path` on the named port answers 200, asked with the engines' password."""

    def probe() -> str | None:
        headers = {}
        with contextlib.suppress(OSError):
            headers["Authorization"] = authorization(layout.engine_password.read_text())
        connection = http.client.HTTPConnection(HOST, layout.port(port), timeout=_TIMEOUT_S)
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            body = response.read(500).decode(errors="replace").strip()
        except (OSError, http.client.HTTPException) as error:
            return _words(error)
        finally:
            connection.close()
        return None if response.status == 200 else f"{response.status} {body}".strip()

    return probe


def simulator_probe(layout: Layout) -> Probe:
    """Ready when it answers as www.youtube.com, with a certificate of the authority it made."""

    def probe() -> str | None:
        try:
            context = ssl.create_default_context(cafile=str(layout.simulator_ca))
            address = (HOST, layout.port("simulator"))
            with (
                socket.create_connection(address, timeout=_TIMEOUT_S) as plain,
                context.wrap_socket(plain, server_hostname="www.youtube.com") as secured,
            ):
                secured.sendall(
                    b"GET /generate_204 HTTP/1.1\r\n"
                    b"Host: www.youtube.com\r\nConnection: close\r\n\r\n"
                )
                response = http.client.HTTPResponse(secured)
                response.begin()
        except (OSError, http.client.HTTPException) as error:
            return _words(error)
        return None if response.status == 204 else f"{response.status} {response.reason}"

    return probe


def redis_probe(layout: Layout) -> Probe:
    """Ready when it takes the password and answers a ping."""

    def probe() -> str | None:
        address = (HOST, layout.port("redis"))
        try:
            password = layout.engine_password.read_text()
            with socket.create_connection(address, timeout=_TIMEOUT_S) as connection:
                connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\n") < 2 and (more := connection.recv(500)):
                    answer += more
        except OSError as error:
            return _words(error)
        return None if answer.endswith(b"+PONG\r\n") else answer.decode(errors="replace").strip()

    return probe


def _words(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "does not listen yet"
    if isinstance(error, TimeoutError):
        return f"no answer within {_TIMEOUT_S:.0f} s"
    return str(error) or type(error).__name__
