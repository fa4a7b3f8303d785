"""HTTP to the engines behind the dashboard: what can go wrong there, and several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, wait
from contextlib import contextmanager
from typing import Any, ClassVar, Final, Generic, NamedTuple, TypeVar

import orjson

from ..problem import Problem
from ..resilience.bounded import BodyTooLarge, BoundedClient, InvalidAnswer
from ..resilience.deadline import Deadline, DeadlineExceeded

T = TypeVar("T")
# How much of a rejection's text goes to the log.
_EXCERPT: Final = 500


class UpstreamError(Problem):
    """An engine did not answer usefully.

    `outcome` is the value of `dashboard.query.duration`'s attribute; `code` is also what a
    block says about itself.

    Args:
        told: for logs only; callers see the class's `detail`.
    """

    outcome: ClassVar[str]

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


@contextmanager
def understanding(path: str) -> Iterator[None]:
    """Read an answer of `path` inside: what has not the promised form is an `UpstreamInvalid`."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
        raise UpstreamInvalid(f"{path}: unexpected form: {type(error).__name__}") from error


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
_WORST_FIRST: tuple[type[UpstreamError], ...] = (
    QueryDefect,
    UpstreamInvalid,
    UpstreamBusy,
    UpstreamTimeout,
    UpstreamUnreachable,
)


def worst(failures: Iterable[UpstreamError]) -> UpstreamError:
    """The most telling of some failures.

    Raises:
        ValueError: there is none.
    """
    return min(
        failures,
        key=lambda failure: next(
            rank for rank, kind in enumerate(_WORST_FIRST) if isinstance(failure, kind)
        ),
    )


class Upstream:
    """GET of JSON at one engine.

    Args:
        base_url: where the engine listens.
        timeout_s: seconds from sending a request to its last byte.
        max_bytes: largest answer that is read (after decompression).
    """

    def __init__(self, base_url: str, *, timeout_s: float, max_bytes: int) -> None:
        self._client = BoundedClient(base_url, max_body_bytes=max_bytes)
        self._timeout_s = timeout_s

    def json(self, path: str, parameters: Mapping[str, str], deadline: Deadline) -> Any:
        """The parsed answer.

        Raises:
            UpstreamUnreachable: no connection, or a server error.
            UpstreamTimeout: not complete within the time limit.
            UpstreamBusy: 429 or 503.
            UpstreamInvalid: redirect, not JSON, or larger than the limit.
            UpstreamMissing: 404.
            QueryDefect: any other 4xx.
        """
        return _parsed(path, *self._answer(path, parameters, deadline))

    def json_lines(self, path: str, parameters: Mapping[str, str], deadline: Deadline) -> list[Any]:
        """The parsed lines of an answer that has one object a line. Raises as `json` does."""
        status, body = self._answer(path, parameters, deadline)
        if status != 200:
            _parsed(path, status, body)
        return [_parsed(path, status, line) for line in body.splitlines()]

    def close(self) -> None:
        """Close the connections that are kept open."""
        self._client.close()

    def _answer(
        self, path: str, parameters: Mapping[str, str], deadline: Deadline
    ) -> tuple[int, bytes]:
        try:
            mine = Deadline(deadline.timeout(self._timeout_s))
            with deadline.ending(mine.leave_behind):
                answer = self._client.get(path, parameters, mine)
        except DeadlineExceeded as error:
            raise UpstreamTimeout(path) from error
        except (InvalidAnswer, BodyTooLarge) as error:
            raise UpstreamInvalid(f"{path}: {error}") from error
        except OSError as error:
            raise UpstreamUnreachable(f"{path}: {type(error).__name__}") from error
        return answer.status, answer.body


class Gathered(NamedTuple, Generic[T]):
    """What several pieces of work gave, by name, and why the others did not."""

    values: dict[str, T]
    failures: dict[str, UpstreamError]


def gather(
    work: Mapping[str, tuple[Executor, Callable[[Deadline], T]]], deadline: Deadline
) -> Gathered[T]:
    """Do each work in threads of its pool, in the order given, and wait until the deadline.

    What is not done by then is left behind: it holds no thread any longer and is an
    `UpstreamTimeout`.
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
    return Gathered(values, failures)


def _parsed(path: str, status: int, body: bytes) -> Any:
    if status == 200:
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise UpstreamInvalid(f"{path}: not JSON: {_excerpt(body)[:80]!r}") from error
    if status in (429, 503):
        raise UpstreamBusy(f"{path}: {status}")
    if status == 404:
        raise UpstreamMissing(f"{path}: {status}")
    if 400 <= status < 500:
        raise QueryDefect(f"{path}: {status} {_excerpt(body)}")
    if status >= 500:
        raise UpstreamUnreachable(f"{path}: {status}")
    raise UpstreamInvalid(f"{path}: {status}")


def _excerpt(body: bytes) -> str:
    return body[:_EXCERPT].decode("utf-8", "replace")
