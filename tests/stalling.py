"""Peers that stop, each at another point of an exchange, and say when their client is gone."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from simulator.certificates import serving_context

# A byte this often, for ever: more often than any timeout of a single wait.
DRIP_S = 0.1


class Stalling:
    """A server of 127.0.0.1 that does one thing to every connection and never ends it.

    Args:
        behave: gets the connection and an event that is set when the server ends.
    """

    def __init__(self, behave: Callable[[socket.socket, threading.Event], None]) -> None:
        self._behave = behave
        self._stop = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.met = threading.Event()
        """A client has come."""
        self._open = 0
        self._changed = threading.Condition()
        threading.Thread(target=self._accept, daemon=True).start()

    def wait_until_left(self, timeout_s: float) -> bool:
        """Whether every client has gone within `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: self._open == 0, timeout_s)

    def close(self) -> None:
        """End it and its connections."""
        self._stop.set()
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                with self._changed:
                    self._open += 1
                self.met.set()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, suppress(OSError):
                self._behave(connection, self._stop)
        finally:
            with self._changed:
                self._open -= 1
                self._changed.notify_all()


def say_nothing(connection: socket.socket, stop: threading.Event) -> None:
    """Take everything and never answer."""
    while not stop.is_set() and connection.recv(65536):
        pass


def drip(head: bytes, piece: bytes) -> Callable[[socket.socket, threading.Event], None]:
    """Send `head` at once and then `piece` again and again."""

    def behave(connection: socket.socket, stop: threading.Event) -> None:
        connection.recv(65536)
        connection.sendall(head)
        while not stop.wait(DRIP_S):
            connection.sendall(piece)

    return behave


def inside_tls(
    behave: Callable[[socket.socket, threading.Event], None], ca_file: Path
) -> Callable[[socket.socket, threading.Event], None]:
    """The same after a handshake, with a certificate that the CA's clients believe."""
    context = serving_context(ca_file)

    def secured(connection: socket.socket, stop: threading.Event) -> None:
        with context.wrap_socket(connection, server_side=True) as tls, suppress(ssl.SSLError):
            behave(tls, stop)

    return secured


@contextmanager
def stalling(behave: Callable[[socket.socket, threading.Event], None]) -> Iterator[Stalling]:
    """A stalling server while the context is open."""
    running = Stalling(behave)
    try:
        yield running
    finally:
        running.close()


@contextmanager
def unreachable() -> Iterator[int]:
    """A port whose connections are never made: its queue is full and nobody accepts."""
    listening = socket.socket()
    waiting: list[socket.socket] = []
    try:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port: int = listening.getsockname()[1]
        # The kernel queues one or two; the first that does not get through proves it full.
        while True:
            filler = socket.socket()
            waiting.append(filler)
            filler.settimeout(0.5)
            try:
                filler.connect(("127.0.0.1", port))
            except TimeoutError:
                break
        yield port
    finally:
        for filler in waiting:
            filler.close()
        listening.close()
