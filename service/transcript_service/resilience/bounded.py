"""HTTP exchanges that end: bounded in time as a whole and in size.

`requests` has a timeout for each wait on a socket but none for the answer, so a peer that
sends a byte now and then holds it for ever, in a header as well as in a body or a handshake.
Here bodies are read piece by piece under the deadline, and where the job is left behind its
connections are shut down, whatever they are doing.
"""

from __future__ import annotations

import io
import math
import socket
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from contextvars import ContextVar
from functools import partial
from http.client import HTTPException
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlencode

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import NewConnectionError

from .deadline import Deadline, DeadlineExceeded

# Who is told of connections that this thread opens.
_told: ContextVar[Callable[[socket.socket], None]] = ContextVar("told")


class BodyTooLarge(requests.RequestException):
    """An answer is larger than was asked to read."""


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _tell(super()._new_conn())


class _SecureConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _tell(super()._new_conn())


def _tell(opened: socket.socket) -> socket.socket:
    _told.get()(opened)
    return opened


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_POOLS: Final = {"http": _Pool, "https": _SecurePool}


class BoundedAdapter(HTTPAdapter):
    """Reads answers within a deadline and a size. For one session in one thread.

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
        self._opened: list[socket.socket] = []
        self._left_behind = False
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
        token = _told.set(self._note)
        try:
            with self._deadline.ending(self._shut_down):
                response = super().send(request, *args, **kwargs)
                response.raw = self._read(response.raw)
        finally:
            _told.reset(token)
        return response

    def close(self) -> None:
        """Close all connections."""
        super().close()
        with ExitStack() as stack:
            for opened in self._opened:
                stack.callback(opened.close)
        self._opened.clear()

    def _note(self, opened: socket.socket) -> None:
        # A second handle on the connection: the first one is taken over by TLS at once.
        self._opened.append(opened.dup())
        if self._left_behind:  # meanwhile, during the look-up of a name
            self._shut_down()

    def _shut_down(self) -> None:
        self._left_behind = True
        for opened in list(self._opened):
            with suppress(OSError):  # over already
                opened.shutdown(socket.SHUT_RDWR)

    def _read(self, raw: urllib3.HTTPResponse) -> urllib3.HTTPResponse:
        try:
            body = _whole(raw, self._deadline, self._max_body_bytes)
        except BodyTooLarge:  # which is an OSError as well, as all errors of requests are
            raise
        except urllib3.exceptions.TimeoutError as error:
            raise requests.ReadTimeout(error) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise requests.ConnectionError(error) from error
        finally:
            raw.close()
        headers = urllib3.HTTPHeaderDict(raw.headers)
        headers.discard("Content-Encoding")
        headers.discard("Transfer-Encoding")
        headers["Content-Length"] = str(len(body))  # it was that of the packed body
        return urllib3.HTTPResponse(
            body=io.BytesIO(body),
            headers=headers,
            status=raw.status,
            preload_content=False,
            request_method=None,
            original_response=raw._original_response,  # requests reads Set-Cookie from it
        )


def _whole(raw: urllib3.BaseHTTPResponse, deadline: Deadline, most: int) -> bytes:
    body = bytearray()
    # read1 returns what has arrived, so a body that dribbles cannot hold us.
    while chunk := raw.read1(65536, decode_content=True):
        body += chunk
        deadline.check()
        if len(body) > most:
            raise BodyTooLarge("the answer is too large")
    deadline.check()  # a connection that was shut down ends as if the answer did
    return bytes(body)


class InvalidAnswer(Exception):
    """What came is not HTTP, was cut short or cannot be unpacked."""


class Answer(NamedTuple):
    """A whole answer, unpacked. Redirects are answers as any other."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class BoundedClient:
    """GETs at one server, which end in time as a whole and in size; for any threads.

    Connections are kept and used again. There are as many as threads that ask at once.

    Args:
        base_url: scheme, host, port and the path that stands before all others; a user and a
            password in it are sent as basic authentication.
        max_body_bytes: largest body that is read, unpacked.
        headers: sent with every request, such as credentials.
    """

    def __init__(
        self, base_url: str, *, max_body_bytes: int, headers: Mapping[str, str] | None = None
    ) -> None:
        url = urllib3.util.parse_url(base_url)
        self._make = partial(
            HTTPSConnection if url.scheme == "https" else HTTPConnection,
            (url.host or "").strip("[]"),
            url.port,
        )
        self._base = (url.path or "").rstrip("/")
        self._max_body_bytes = max_body_bytes
        self._headers = {"Accept-Encoding": "gzip", **(headers or {})}
        if url.auth:
            self._headers |= urllib3.util.make_headers(basic_auth=unquote(url.auth))
        self._idle: deque[HTTPConnection] = deque()

    def get(self, path: str, parameters: Mapping[str, str], deadline: Deadline) -> Answer:
        """The answer to a GET.

        Raises:
            DeadlineExceeded: it was not there in time, or the work was left behind.
            BodyTooLarge: it is beyond the size limit.
            InvalidAnswer: it is no answer.
            OSError: the server cannot be reached, or hung up.
        """
        target = f"{self._base}{path}?{urlencode(parameters)}"
        while True:
            kept = self._kept()
            connection = kept or self._make()
            try:
                answer = self._exchange(connection, target, deadline)
            except BaseException as error:
                connection.close()
                deadline.check()  # whatever it looks like, being late is the reason
                if kept is not None and isinstance(error, ConnectionError):
                    continue  # it was closed over there while nobody looked
                if isinstance(error, NewConnectionError):
                    raise ConnectionError("no connection") from error
                if isinstance(error, TimeoutError | urllib3.exceptions.TimeoutError):
                    raise DeadlineExceeded("no answer in time") from error
                if isinstance(error, ConnectionError):  # some are an HTTPException too
                    raise
                if isinstance(error, urllib3.exceptions.HTTPError | HTTPException):
                    raise InvalidAnswer(type(error).__name__) from error
                raise
            if connection.is_connected:
                self._idle.append(connection)
            return answer

    def close(self) -> None:
        """Close the connections that are kept."""
        while (connection := self._kept()) is not None:
            connection.close()

    def _kept(self) -> HTTPConnection | None:
        with suppress(IndexError):
            while True:
                connection = self._idle.pop()
                if connection.is_connected:
                    return connection
                connection.close()  # from over there, meanwhile
        return None

    def _exchange(self, connection: HTTPConnection, target: str, deadline: Deadline) -> Answer:
        def hang_up() -> None:
            with suppress(AttributeError, OSError):  # not connected yet, or over already
                connection.sock.shutdown(socket.SHUT_RDWR)

        connection.timeout = deadline.timeout(math.inf)
        with deadline.ending(hang_up):
            if connection.sock is None:
                connection.connect()
            connection.sock.settimeout(deadline.timeout(math.inf))
            connection.request("GET", target, headers=self._headers, preload_content=False)
            raw = connection.getresponse()
            body = _whole(raw, deadline, self._max_body_bytes)
        return Answer(raw.status, raw.headers, body)
