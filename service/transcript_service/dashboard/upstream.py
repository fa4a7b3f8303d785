"""HTTP to the engines behind the dashboard: what can go wrong there, and several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, wait
from typing import ClassVar, Final, TypeVar

from ..problem import Problem
from ..resilience.bounded import Answer, BodyTooLarge, BoundedClient, InvalidAnswer
from ..resilience.deadline import Deadline, DeadlineExceeded

T = TypeVar("T")
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


class QueryDefect(UpstreamError):
    """Prometheus rejects the query. Clients send no PromQL, so it is a defect of this service."""

    outcome = "rejected"
    status = 500
    code = "query_defect"
    detail = "A query of this service is defective; quote the trace id to its operators."


# The failure worth telling first when several queries of one answer failed differently.
_WORST_FIRST: Final = (
    QueryDefect,
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
    """GETs at one engine.

    Args:
        base_url: where the engine listens.
        timeout_s: seconds from sending a request to its last byte.
        max_bytes: largest answer that is read (after decompression).
    """

    def __init__(self, base_url: str, *, timeout_s: float, max_bytes: int) -> None:
        self._client = BoundedClient(base_url, max_body_bytes=max_bytes)
        self._timeout_s = timeout_s

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

    def _answer(self, path: str, parameters: Mapping[str, str], deadline: Deadline) -> Answer:
        try:
            mine = Deadline(deadline.timeout(self._timeout_s))
            with deadline.ending(mine.leave_behind):
                return self._client.get(path, parameters, mine)
        except DeadlineExceeded as error:
            raise UpstreamTimeout(path) from error
        except (InvalidAnswer, BodyTooLarge) as error:
            raise UpstreamInvalid(f"{path}: {error}") from error
        except OSError as error:
            raise UpstreamUnreachable(f"{path}: {type(error).__name__}") from error


def _refusal(status: int) -> type[UpstreamError]:
    """What a status other than 200 says."""
    if status in (429, 503):
        return UpstreamBusy
    if status == 404:
        return UpstreamMissing
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
