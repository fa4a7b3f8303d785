"""HTTP to the engines behind the dashboard: what their answers mean, and several at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, wait
from typing import Any, Final, Generic, NamedTuple, TypeVar

import orjson

from ..resilience.bounded import BodyTooLarge, BoundedClient, InvalidAnswer
from ..resilience.deadline import Deadline, DeadlineExceeded
from .errors import (
    QueryDefect,
    UpstreamBusy,
    UpstreamError,
    UpstreamInvalid,
    UpstreamMissing,
    UpstreamTimeout,
    UpstreamUnreachable,
)

T = TypeVar("T")
# How much of a rejection's text goes to the log.
_EXCERPT: Final = 500


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
