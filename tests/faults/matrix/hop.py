"""The wire between two programs, which can be cut, slowed, reset, or answer by itself."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from tests.ports import free_port

Mode = Literal["pass", "refuse", "silent", "reset", "half"]

_STATUS = re.compile(rb"^HTTP/1\.1 (\d{3})")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Scripted:
    """An answer that the hop gives instead of the program behind it."""

    status: int
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    delay_s: float = 0.0
    """Before the answer."""
    drip_s: float = 0.0
    """Between its bytes."""
    broken: bool = False
    """End the connection in the middle of it."""

    def wire(self) -> bytes:
        """The answer as it is sent."""
        lines = [f"HTTP/1.1 {self.status} scripted", f"Content-Length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass
class Hop:
    """A TCP proxy on 127.0.0.1.

    Modes: `pass`; `refuse` (nobody listens); `silent` (connections are taken, nothing gets
    through: a partition); `reset` (every connection ends with RST); `half` (the request gets
    through, the answer ends after some bytes, with RST).
    """

    target: int
    port: int = field(default_factory=free_port)
    latency_s: float = 0.0
    """Of each piece, in both directions."""
    statuses: Counter[int] = field(default_factory=Counter)
    """Of the answers that passed: what the sender was told."""
    answers: list[Scripted] = field(default_factory=list)
    """Given to the next requests, one each, in place of the target's."""
    asked: list[float] = field(default_factory=list)
    """When each request met by `answers` came."""

    def __post_init__(self) -> None:
        self._mode: Mode = "pass"
        self._only = b""
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listening: socket.socket | None = None
        self._listen()

    @property
    def mode(self) -> Mode:
        """What happens to connections now."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._mode = mode
        if mode == "refuse":
            self._stop_listening()
        elif self._listening is None:
            self._listen()
        if mode != "silent":  # a partition tells nobody; its end leaves no old connection
            self.cut()

    def script(self, *answers: Scripted, only: str = "") -> None:
        """Let the next requests be answered by these, on new connections.

        Args:
            answers: one each; none ends it.
            only: for requests to this path; others are told 503 meanwhile.
        """
        self.answers, self._only = list(answers), only.encode()
        self.cut()

    def cut(self) -> None:
        """End every connection with RST."""
        with self._lock:
            ending, self._open = self._open, set()
        for connection in ending:
            _reset(connection)

    def close(self) -> None:
        """End everything."""
        self._stop_listening()
        self.cut()

    def _listen(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def _stop_listening(self) -> None:
        listening, self._listening = self._listening, None
        if listening is not None:
            with suppress(OSError):  # shutdown wakes the accepting thread, close alone does not
                listening.shutdown(socket.SHUT_RDWR)
            listening.close()

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self._mode == "reset":
            _reset(client)
            return
        with self._lock:
            self._open.add(client)
        if self.answers:
            with suppress(OSError):
                self._answer(client)
            _reset(client)
            return
        try:
            server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
        except OSError:
            _reset(client)
            return
        server.settimeout(None)
        with self._lock:
            self._open.add(server)
        threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
        self._pump(server, client, True)

    def _answer(self, client: socket.socket) -> None:
        """One scripted answer for each whole request of a connection."""
        while self.answers:
            if self._only not in _read_request(client):
                client.sendall(Scripted(503).wire())
                continue
            with self._lock:
                if not self.answers:  # another connection has got the last one
                    return
                scripted = self.answers.pop(0)
            self.asked.append(time.monotonic())
            time.sleep(scripted.delay_s)
            wire = scripted.wire()
            if scripted.broken:
                client.sendall(wire[: len(wire) // 2])
                return
            if scripted.drip_s:
                for at in range(len(wire)):
                    client.sendall(wire[at : at + 1])
                    time.sleep(scripted.drip_s)
            else:
                client.sendall(wire)
            self.statuses[scripted.status] += 1
        # The sender has read it when it closes or asks again; RST earlier could take it away.
        client.settimeout(0.2)
        with suppress(OSError):
            client.recv(1, socket.MSG_PEEK)

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        try:
            while piece := source.recv(65536):
                while self._mode == "silent":
                    time.sleep(0.05)
                if self.latency_s:
                    time.sleep(self.latency_s)
                if answers and (status := _STATUS.match(piece)):
                    self.statuses[int(status[1])] += 1
                if answers and self._mode == "half":
                    sink.sendall(piece[: len(piece) // 2])
                    break
                sink.sendall(piece)
        except OSError:
            pass
        finally:
            with self._lock:
                self._open -= {source, sink}
            for connection in (source, sink):
                if self._mode == "half":
                    _reset(connection)
                else:
                    # The other direction's thread waits in recv: shutdown wakes it.
                    with suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
                    connection.close()


def _read_request(client: socket.socket) -> bytes:
    """Take one HTTP request with a Content-Length, whole; its first line. Raises OSError."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = client.recv(65536)
        if not piece:
            raise OSError("the client has gone")
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    found = _LENGTH.search(head)
    missing = (int(found[1]) if found else 0) - len(body)
    while missing > 0:
        piece = client.recv(65536)
        if not piece:
            raise OSError("the client has gone")
        missing -= len(piece)
    return head.partition(b"\r\n")[0]


def _reset(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RD)  # wakes a thread that waits in recv
    connection.close()
