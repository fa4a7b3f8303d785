"""HTTP to the engines behind the dashboard: what can go wrong there, and several at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, wait
from typing import Any, ClassVar, Final, TypeVar
from urllib.parse import unquote, urlencode

import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError, ProtocolError

from ..problem import Problem
from ..resilience.bounded import POOLS, BodyTooLarge, connections_ending, whole
from ..resilience.deadline import Deadline, DeadlineExceeded

T = TypeVar("T")
# Connections that are kept to one engine; more threads than that seldom ask it at once.
_KEPT: Final = 16
# How much of a rejection's text goes to the log.
_EXCERPT: Final = 500


class UpstreamError(Problem):
    """An engine did not answer usefully.

    `outcome` is the value of `dashboard.query.duration`'s attribute; `code` is also what a
    block says about itself. `told` is for logs only: callers see `detail`.
    """

    outcome: ClassVar[str]
    retry_after_s: float | None = None

    def __init__(self, told: str) -> None:
        super().__init__(self.status, self.code, self.detail, retry_after_s=self.retry_after_s)
        self.args = (told,)


class UpstreamUnreachable(UpstreamError):
    """Nothing answers there, or it answers with a server error."""

    outcome = "unreachable"
    status = 502
    code = "upstream_unreachable"
    detail = "The store of this data cannot be reached."


class UpstreamTimeout(UpstreamError):
    """No complete answer within the time one query may take."""

    outcome = "timeout"
    status = 504
    code = "upstream_timeout"
    detail = "The store of this data did not answer in time."


class UpstreamBusy(UpstreamError):
    """The engine says it is overloaded."""

    outcome = "unreachable"
    status = 503
    code = "upstream_busy"
    detail = "The store of this data is overloaded."
    retry_after_s = 5.0


class UpstreamInvalid(UpstreamError):
    """The answer is not what the engine's API promises: HTML, truncated, far too large."""

    outcome = "invalid"
    status = 502
    code = "upstream_invalid"
    detail = "The store of this data sent an answer that cannot be used."


class UpstreamMissing(UpstreamInvalid):
    """The engine answers, but does not have what was asked for."""

    status = 404
    code = "not_found"
    detail = "There is nothing by that id."


class UpstreamDenied(UpstreamError):
    """The engine does not take the password of this service."""

    outcome = "rejected"
    status = 502
    code = "upstream_denied"
    detail = "The store of this data refuses this service's password (ENGINE_PASSWORD_FILE)."


class QueryDefect(UpstreamError):
    """Prometheus rejects the query. Clients send no PromQL, so it is a defect of this service."""

    outcome = "rejected"
    status = 500
    code = "query_defect"
    detail = "A query of this service is defective; quote the trace id to its operators."


# The failure worth telling first when several queries of one answer failed differently.
_WORST_FIRST: Final = (
    QueryDefect,
    UpstreamDenied,
    UpstreamInvalid,
    UpstreamMissing,
    UpstreamBusy,
    UpstreamTimeout,
    UpstreamUnreachable,
)


def worst(failures: Iterable[UpstreamError]) -> UpstreamError:
    """The most telling of some failures; there must be one."""
    return min(failures, key=lambda failure: _WORST_FIRST.index(type(failure)))


class Upstream:
    """GETs at one engine, from any thread.

    A user and a password in its address are sent as basic authentication. An answer takes at
    most `timeout_s` seconds to its last byte and has at most `max_bytes`, unpacked.
    """

    def __init__(self, base_url: str, *, timeout_s: float, max_bytes: int) -> None:
        url = urllib3.util.parse_url(base_url)
        self._pool = POOLS[url.scheme or "http"](url.host or "", url.port, maxsize=_KEPT)
        self._base = (url.path or "").rstrip("/")
        self._headers = urllib3.util.make_headers(
            accept_encoding="gzip", basic_auth=unquote(url.auth) if url.auth else None
        )
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes

    def get(
        self,
        path: str,
        parameters: Mapping[str, str],
        deadline: Deadline,
        read: Callable[[bytes], T],
    ) -> T:
        """What `read` makes of the answer's body.

        Raises:
            UpstreamUnreachable: no connection, or a server error.
            UpstreamTimeout: not complete within the time limit.
            UpstreamBusy: 429 or 503.
            UpstreamInvalid: redirect, larger than the limit, or not in the form that `read` takes.
            UpstreamMissing: 404.
            UpstreamDenied: 401 or 403.
            QueryDefect: any other 4xx.
        """
        status, body = self._answer(path, parameters, deadline)
        told = f"{path}: {status} {body[:_EXCERPT].decode('utf-8', 'replace')}"
        if status != 200:
            raise _refusal(status)(told)
        try:
            return read(body)
        except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
            raise UpstreamInvalid(f"{type(error).__name__}: {told}") from error

    def _answer(
        self, path: str, parameters: Mapping[str, str], deadline: Deadline
    ) -> tuple[int, bytes]:
        """Status and unpacked body, those of a redirect too."""
        mine = Deadline(min(self._timeout_s, deadline.remaining()))
        try:
            with deadline.ending(mine.leave_behind), connections_ending(mine):
                raw = self._ask(f"{self._base}{path}?{urlencode(parameters)}", mine)
                return raw.status, whole(raw, mine, self._max_bytes)
        except (DeadlineExceeded, OSError, HTTPError) as error:
            # Whatever it looks like, being late is the reason where it is.
            kind = UpstreamTimeout if mine.expired else _kind_of(error)
            raise kind(f"{path}: {type(error).__name__}") from error

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


def _is_hung_up(error: Exception) -> bool:
    return isinstance(error, ProtocolError) and isinstance(error.args[-1], ConnectionError)


def _kind_of(error: Exception) -> type[UpstreamError]:
    if isinstance(error, NewConnectionError) or _is_hung_up(error):
        return UpstreamUnreachable
    if isinstance(error, DeadlineExceeded | urllib3.exceptions.TimeoutError):
        return UpstreamTimeout
    is_network = isinstance(error, OSError) and not isinstance(error, BodyTooLarge)
    return UpstreamUnreachable if is_network else UpstreamInvalid


def _refusal(status: int) -> type[UpstreamError]:
    """What a status other than 200 says."""
    if status in (429, 503):
        return UpstreamBusy
    if status == 404:
        return UpstreamMissing
    if status in (401, 403):
        return UpstreamDenied
    if 400 <= status < 500:
        return QueryDefect
    return UpstreamUnreachable if status >= 500 else UpstreamInvalid


def gather(
    work: Mapping[str, tuple[Executor, Callable[[Deadline], T]]], deadline: Deadline
) -> tuple[dict[str, T], dict[str, UpstreamError]]:
    """What several pieces of work gave, by name, and why the others did not.

    Each is done in a thread of its pool, in the order given. What is not done by the deadline
    is left behind: it holds no thread any longer and is an `UpstreamTimeout`.
    """
    running = {name: pool.submit(one, deadline) for name, (pool, one) in work.items()}
    late = wait(running.values(), timeout=deadline.remaining()).not_done
    if late:
        for future in late:
            future.cancel()
        deadline.leave_behind()
    values: dict[str, T] = {}
    failures: dict[str, UpstreamError] = {}
    for name, future in running.items():
        try:
            if future in late:
                raise UpstreamTimeout("the time for all queries is used up")
            values[name] = future.result()
        except UpstreamError as error:
            failures[name] = error
    return values, failures
