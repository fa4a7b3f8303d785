"""What can go wrong between this API and the engines behind it, each a problem by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar

from ..problem import Problem


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


def invalid_parameter(detail: str) -> Problem:
    """What a caller asked for that cannot be asked."""
    return Problem(400, "invalid_parameter", detail)
