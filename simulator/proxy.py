"""A CONNECT proxy that leads every YouTube host name to the simulator, and nowhere else."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import re
import socket
import struct
from dataclasses import dataclass
from datetime import UTC, datetime

from simulator.faults import base_user
from simulator.state import ProxyUser, State

FAULTS: dict[str, str] = {
    "http_403": "CONNECT is answered 403",
    "http_407": "CONNECT is answered 407 whatever the password",
    "http_429": "CONNECT is answered 429",
    "http_502": "CONNECT is answered 502",
    "slow": "CONNECT is answered after the seconds",
    "hang": "CONNECT is never answered",
    "reset": "the connection is reset at CONNECT",
    "tunnel_hang": "the tunnel opens and carries nothing",
    "tunnel_reset": "the tunnel is reset after the first 2,000 bytes from the server",
}

_HOSTS = re.compile(
    r"((www|m|consent)\.)?youtube\.com|([\w-]+\.)+googlevideo\.com|video\.google\.com|www\.google\.com",
    re.IGNORECASE,
)
_STATUS_TEXT = {
    403: "Forbidden",
    405: "Method Not Allowed",
    407: "Proxy Authentication Required",
    429: "Too Many Requests",
    502: "Bad Gateway",
}
_HEADER_TIMEOUT_S = 10
_MAX_HEADER_BYTES = 16_384


@dataclass(slots=True)
class _Asked:
    method: str
    target: str
    user: str
    password: str


class Proxy:
    """Serves on 127.0.0.1; tunnels only to ``site_port`` on 127.0.0.1."""

    def __init__(self, state: State, site_port: int) -> None:
        self._state = state
        self._site_port = site_port
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self, port: int) -> int:
        """Listen; returns the port (a free one where 0 was asked). Raises OSError."""
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", port, limit=_MAX_HEADER_BYTES
        )
        number: int = self._server.sockets[0].getsockname()[1]
        return number

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:  # never: asyncio runs this callback as a task
            return
        self._clients.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client went away or never said anything sensible
        except asyncio.CancelledError:
            pass  # the simulator stops
        finally:
            self._clients.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_HEADER_TIMEOUT_S):
            head = await reader.readuntil(b"\r\n\r\n")
        asked = _parse(head)
        user = self._state.proxy_users.get(asked.user) or self._state.proxy_users.get(
            base_user(asked.user)
        )
        status = await self._verdict(asked, user)
        self._note(asked, status)
        if status is None:
            _reset(writer)
            return
        if status != 200:
            await _refuse(writer, status)
            return
        await self._tunnel(asked.user, user, reader, writer)

    async def _verdict(self, asked: _Asked, user: ProxyUser | None) -> int | None:
        """The status CONNECT gets; None for a reset. A user's fault may take its time."""
        if asked.method != "CONNECT":
            return 405
        if self._state.proxy_users and (user is None or user.password != asked.password):
            return 407
        if user is not None and user.fault == "slow":
            await asyncio.sleep(user.seconds)
        match user.fault if user else None:
            case "hang":
                await self._state.stopping.wait()
                return 502
            case "reset":
                return None
            case str(fault) if fault.startswith("http_"):
                return int(fault.removeprefix("http_"))
        host, _, port = asked.target.rpartition(":")
        if not _HOSTS.fullmatch(host) or port not in ("443", str(self._site_port)):
            return 403
        return 200

    def _note(self, asked: _Asked, status: int | None) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        entry = {"at": at, "target": asked.target, "user": asked.user, "status": status}
        self._state.proxy_log.append(entry)
        del self._state.proxy_log[:-5000]

    async def _tunnel(
        self,
        name: str,
        user: ProxyUser | None,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        site_reader, site_writer = await asyncio.open_connection("127.0.0.1", self._site_port)
        port: int = site_writer.get_extra_info("sockname")[1]
        # The site learns from the port which proxy user a connection comes from.
        self._state.exits[port] = name
        try:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await writer.drain()
            if user is not None and user.fault == "tunnel_hang":
                await self._state.stopping.wait()
                return
            limit = 2000 if user is not None and user.fault == "tunnel_reset" else None
            upwards = asyncio.create_task(_pump(reader, site_writer, None))
            downwards = asyncio.create_task(_pump(site_reader, writer, limit))
            try:
                await asyncio.wait({upwards, downwards}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                upwards.cancel()
                downwards.cancel()
                await asyncio.gather(upwards, downwards, return_exceptions=True)
            if limit is not None:
                _reset(writer)
        finally:
            site_writer.close()
            with contextlib.suppress(OSError):
                await site_writer.wait_closed()
            self._state.exits.pop(port, None)


def _parse(head: bytes) -> _Asked:
    lines = head.decode("latin-1").split("\r\n")
    method, _, rest = lines[0].partition(" ")
    user = password = ""
    for line in lines[1:]:
        name, _, value = line.partition(":")
        scheme, _, token = value.strip().partition(" ")
        if name.lower() == "proxy-authorization" and scheme.lower() == "basic":
            with contextlib.suppress(binascii.Error, ValueError):
                user, _, password = base64.b64decode(token).decode("utf-8").partition(":")
    return _Asked(method.upper(), rest.split(" ")[0], user, password)


async def _refuse(writer: asyncio.StreamWriter, status: int) -> None:
    extra = 'Proxy-Authenticate: Basic realm="simulator"\r\n' if status == 407 else ""
    extra += "Retry-After: 2\r\n" if status == 429 else ""
    writer.write(
        f"HTTP/1.1 {status} {_STATUS_TEXT[status]}\r\n{extra}Content-Length: 0\r\n"
        "Connection: close\r\n\r\n".encode()
    )
    await writer.drain()


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None
) -> None:
    """Copy until the end, or until ``limit`` bytes have passed."""
    passed = 0
    while data := await reader.read(65_536):
        if limit is not None and passed + len(data) > limit:
            return
        passed += len(data)
        writer.write(data)
        await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    raw: socket.socket | None = writer.get_extra_info("socket")
    if raw is not None:
        # Linger of zero seconds turns the close into a reset (RST).
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
