"""What can go wrong between a caller, this API and the engines behind it.

`dashboard` stands below `web`, so it raises these and `web.dashboard_api` turns them into
problem documents. No text here may carry an upstream address or a query: callers see it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class ApiError(Exception):
    """An answer that is not data.

    Attributes:
        status: HTTP status code.
        code: stable word for programs.
        detail: one sentence for people.
        retry_after_s: seconds after which trying again makes sense, if that is known.
    """

    def __init__(
        self, status: int, code: str, detail: str, *, retry_after_s: int | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s


class UpstreamError(Exception):
    """An engine did not answer usefully. The text is for logs only.

    `outcome` is the value of `dashboard.query.duration`'s attribute; `reason` is what a
    block says about itself.
    """

    outcome: ClassVar[str]
    reason: ClassVar[str]
    status: ClassVar[int]
    detail: ClassVar[str]
    retry_after_s: ClassVar[int | None] = None

    def as_api_error(self) -> ApiError:
        """The same failure as a caller of a single block sees it."""
        return ApiError(self.status, self.reason, self.detail, retry_after_s=self.retry_after_s)


class UpstreamUnreachable(UpstreamError):
    """Nothing answers there, or it answers with a server error."""

    outcome = "unreachable"
    reason = "upstream_unreachable"
    status = 502
    detail = "The store of this data cannot be reached."


class UpstreamTimeout(UpstreamError):
    """No complete answer within the time one query may take."""

    outcome = "timeout"
    reason = "upstream_timeout"
    status = 504
    detail = "The store of this data did not answer in time."


class UpstreamBusy(UpstreamError):
    """The engine says it is overloaded."""

    outcome = "unreachable"
    reason = "upstream_busy"
    status = 503
    detail = "The store of this data is overloaded."
    retry_after_s = 5


class UpstreamInvalid(UpstreamError):
    """The answer is not what the engine's API promises: HTML, truncated, far too large."""

    outcome = "invalid"
    reason = "upstream_invalid"
    status = 502
    detail = "The store of this data sent an answer that cannot be used."


class UpstreamMissing(UpstreamInvalid):
    """The engine answers, but does not have what was asked for."""

    reason = "not_found"
    status = 404
    detail = "There is nothing by that id."


class QueryDefect(UpstreamError):
    """Prometheus rejects the query. Clients send no PromQL, so it is a defect of this service."""

    outcome = "rejected"
    reason = "query_defect"
    status = 500
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
