"""HTTP exchanges that end: bounded in time as a whole and in size.

`requests` has a timeout for each wait on a socket but none for the answer, so a peer that
sends a byte now and then holds it for ever, in a header as well as in a body or a handshake.
Here bodies are read piece by piece under the deadline, and where the job is left behind its
connections are shut down, whatever they are doing.
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from .deadline import Deadline

# Who is told of the connections that this thread uses.
_told: ContextVar[Callable[[socket.socket], None]] = ContextVar("told")


class BodyTooLarge(requests.RequestException):
    """An answer is larger than was asked to read."""


@contextmanager
def connections_ending(deadline: Deadline) -> Iterator[None]:
    """Shuts down what this thread uses meanwhile when the deadline's work is left behind."""
    used: list[socket.socket] = []
    left_behind = False

    def note(connected: socket.socket) -> None:
        # A second handle: TLS takes over the first one at once.
        used.append(socket.socket(fileno=os.dup(connected.fileno())))
        if left_behind:  # meanwhile, during the look-up of a name
            shut_down()

    def shut_down() -> None:
        nonlocal left_behind
        left_behind = True
        for connected in list(used):
            with suppress(OSError):  # over already
                connected.shutdown(socket.SHUT_RDWR)

    token = _told.set(note)
    try:
        with deadline.ending(shut_down):
            yield
    finally:
        _told.reset(token)
        for connected in used:
            connected.close()


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        connected = super()._new_conn()
        _told.get()(connected)
        return connected


class _SecureConnection(_Connection, HTTPSConnection):
    pass


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls: Any = _Connection

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection: Any = super()._get_conn(timeout)
        if connection.sock is not None:  # one that was kept
            _told.get()(connection.sock)
        return connection


class _SecurePool(_Pool, urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


# Pools whose connections `connections_ending` can shut down.
POOLS: Final = {"http": _Pool, "https": _SecurePool}


class BoundedAdapter(HTTPAdapter):
    """Reads answers within a deadline and a size.

    Args:
        deadline: of the job.
        max_body_bytes: largest body that is read.
        connect_s: seconds to open a connection, if there are fewer than the deadline leaves.
        read_s: seconds to wait for bytes, likewise.
    """

    def __init__(
        self,
        deadline: Deadline,
        *,
        max_body_bytes: int,
        connect_s: float = math.inf,
        read_s: float = math.inf,
    ) -> None:
        self._deadline = deadline
        self._max_body_bytes = max_body_bytes
        self._connect_s = connect_s
        self._read_s = read_s
        super().__init__(max_retries=0)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """As the base does, with connections that can be shut down."""
        manager: Any = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = POOLS
        return manager

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        """Send and read the whole body.

        Raises:
            DeadlineExceeded: the job's time is over.
            BodyTooLarge: the answer is beyond the size limit.
            requests.RequestException: as usual.
        """
        kwargs["timeout"] = (
            self._deadline.timeout(self._connect_s),
            self._deadline.timeout(self._read_s),
        )
        kwargs["stream"] = True
        with connections_ending(self._deadline):
            response: Any = super().send(request, *args, **kwargs)
            try:
                response._content = whole(response.raw, self._deadline, self._max_body_bytes)
            except BodyTooLarge:  # which is an OSError as well, as all errors of requests are
                raise
            except urllib3.exceptions.TimeoutError as error:
                raise requests.ReadTimeout(error) from error
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise requests.ConnectionError(error) from error
        response._content_consumed = True
        return response


def whole(raw: urllib3.BaseHTTPResponse, deadline: Deadline, most: int) -> bytes:
    """The body of an answer, unpacked.

    Raises:
        DeadlineExceeded: it is not there in time, or the work was left behind.
        BodyTooLarge: it is longer than `most` bytes.
        OSError, urllib3.exceptions.HTTPError: the connection fails, or what comes is damaged.
    """
    body = bytearray()
    try:
        # read1 returns what has arrived, so a body that dribbles cannot hold us.
        while chunk := raw.read1(65536, decode_content=True):
            body += chunk
            deadline.check()
            if len(body) > most:
                raise BodyTooLarge("the answer is too large")
        deadline.check()  # a connection that was shut down ends as if the answer did
    finally:
        raw.close()  # the connection too, unless it was read to its end
    return bytes(body)
