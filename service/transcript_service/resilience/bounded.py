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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlencode

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import NewConnectionError, ProtocolError

from .deadline import Deadline, DeadlineExceeded

# Connections that are kept to one server; more threads than that seldom ask it at once.
_KEPT: Final = 16
# Who is told of the connections that this thread uses.
_told: ContextVar[Callable[[socket.socket], None]] = ContextVar("told")


class BodyTooLarge(requests.RequestException):
    """An answer is larger than was asked to read."""


@contextmanager
def _ending(deadline: Deadline) -> Iterator[None]:
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


def _tell(connected: socket.socket) -> socket.socket:
    _told.get()(connected)
    return connected


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _tell(super()._new_conn())


class _SecureConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _tell(super()._new_conn())


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls: Any = _Connection

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection: Any = super()._get_conn(timeout)
        if connection.sock is not None:  # one that was kept
            _tell(connection.sock)
        return connection


class _SecurePool(_Pool, urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_POOLS: Final = {"http": _Pool, "https": _SecurePool}


class BoundedAdapter(HTTPAdapter):
    """Reads answers within a deadline and a size.

    Args:
        deadline: of the job.
        max_body_bytes: largest body that is read.
        connect_s: seconds to open a connection.
        read_s: seconds to wait for bytes.
    """

    def __init__(
        self, deadline: Deadline, *, max_body_bytes: int, connect_s: float, read_s: float
    ) -> None:
        self._deadline = deadline
        self._max_body_bytes = max_body_bytes
        self._connect_s = connect_s
        self._read_s = read_s
        super().__init__(max_retries=0)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """As the base does, with connections that can be shut down."""
        manager: Any = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
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
        with _ending(self._deadline):
            response: Any = super().send(request, *args, **kwargs)
            try:
                response._content = _whole(response.raw, self._deadline, self._max_body_bytes)
            except BodyTooLarge:  # which is an OSError as well, as all errors of requests are
                raise
            except urllib3.exceptions.TimeoutError as error:
                raise requests.ReadTimeout(error) from error
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise requests.ConnectionError(error) from error
        response._content_consumed = True
        return response


def _whole(raw: urllib3.BaseHTTPResponse, deadline: Deadline, most: int) -> bytes:
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


class InvalidAnswer(Exception):
    """What came is not HTTP, was cut short or cannot be unpacked."""


class Answer(NamedTuple):
    """A whole answer, unpacked. Redirects are answers as any other."""

    status: int
    body: bytes


class BoundedClient:
    """GETs at one server, which end in time as a whole and in size; for any threads.

    Args:
        base_url: scheme, host, port and the path that stands before all others; a user and a
            password in it are sent as basic authentication.
        max_body_bytes: largest body that is read, unpacked.
    """

    def __init__(self, base_url: str, *, max_body_bytes: int) -> None:
        url = urllib3.util.parse_url(base_url)
        self._pool = _POOLS[url.scheme or "http"](url.host or "", url.port, maxsize=_KEPT)
        self._base = (url.path or "").rstrip("/")
        self._max_body_bytes = max_body_bytes
        self._headers = urllib3.util.make_headers(
            accept_encoding="gzip", basic_auth=unquote(url.auth) if url.auth else None
        )

    def get(self, path: str, parameters: Mapping[str, str], deadline: Deadline) -> Answer:
        """The answer to a GET.

        Raises:
            DeadlineExceeded: it was not there in time, or the work was left behind.
            BodyTooLarge: it is beyond the size limit.
            InvalidAnswer: it is no answer.
            OSError: the server cannot be reached, or hung up.
        """
        target = f"{self._base}{path}?{urlencode(parameters)}"
        try:
            with _ending(deadline):
                raw = self._ask(target, deadline)
                return Answer(raw.status, _whole(raw, deadline, self._max_body_bytes))
        except (OSError, urllib3.exceptions.HTTPError) as error:
            deadline.check()  # whatever it looks like, being late is the reason
            if isinstance(error, OSError):
                raise
            if isinstance(error, NewConnectionError) or _is_hung_up(error):
                raise ConnectionError("no connection") from error
            if isinstance(error, urllib3.exceptions.TimeoutError):
                raise DeadlineExceeded("no answer in time") from error
            raise InvalidAnswer(type(error).__name__) from error

    def _ask(self, target: str, deadline: Deadline) -> Any:
        def ask() -> Any:
            return self._pool.urlopen(
                "GET",
                target,
                headers=self._headers,
                timeout=deadline.timeout(math.inf),
                retries=False,
                redirect=False,
                preload_content=False,
            )

        try:
            return ask()
        except ProtocolError as error:
            if not _is_hung_up(error):
                raise
            return ask()  # a kept connection may have been closed while nobody looked

    def close(self) -> None:
        """Close the connections that are kept."""
        self._pool.close()


def _is_hung_up(error: Exception) -> bool:
    return isinstance(error, ProtocolError) and isinstance(error.args[-1], ConnectionError)
