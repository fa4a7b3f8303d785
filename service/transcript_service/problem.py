"""The one error with an HTTP status, and the document it becomes (RFC 9457).

Every room may raise a `Problem`; only `web` turns it into a response. Nothing here knows
Flask, so that a worker's socket and a terminal can tell the same problem.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, NotRequired

import orjson
from pydantic import Field
from typing_extensions import TypedDict
from werkzeug.http import HTTP_STATUS_CODES

MEDIA_TYPE: Final = "application/problem+json"
_MOST_RETRY_AFTER_S: Final = 86_400.0


TraceId = Annotated[
    str, Field(pattern="^[0-9a-f]{32}$", examples=["4bf92f3577b34da6a3ce929d0e0e4736"])
]


class ProblemDocument(TypedDict):
    """The shape of every error body; more members may follow."""

    type: Annotated[
        str,
        Field(
            json_schema_extra={"format": "uri-reference"}, examples=["/problems/invalid_parameter"]
        ),
    ]
    title: Annotated[str, Field(examples=["Bad Request"])]
    status: Annotated[int, Field(examples=[400])]
    detail: Annotated[str, Field(examples=["hours: Input should be greater than 0."])]
    instance: NotRequired[Annotated[str, Field(examples=["/api/dashboard/metrics"])]]
    code: Annotated[
        str, Field(description="Stable word for programs.", examples=["invalid_parameter"])
    ]
    trace_id: TraceId


class Problem(Exception):
    """Raised anywhere in a request, it is the answer.

    Args:
        status: HTTP status code.
        code: short word for programs, stable.
        detail: one sentence for people; never an upstream address or a query.
        retry_after_s: seconds after which trying again makes sense, if that is known.
        headers: extra response headers.
        extensions: extra members of the document, such as `attempts`.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        retry_after_s: float | None = None,
        headers: Mapping[str, str] | None = None,
        **extensions: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s
        self._headers = headers or {}
        self._extensions = extensions

    @property
    def headers(self) -> dict[str, str]:
        """The response headers, `Retry-After` in whole seconds, a day at most, among them."""
        if self.retry_after_s is None:
            return dict(self._headers)
        wait_s = max(1, round(min(_MOST_RETRY_AFTER_S, self.retry_after_s)))
        return {**self._headers, "Retry-After": str(wait_s)}

    def document(self, *, trace_id: str, instance: str | None = None) -> bytes:
        """The body, of media type `MEDIA_TYPE`.

        Args:
            trace_id: what the caller quotes to the operators.
            instance: path of the request, where it could be read.
        """
        members: ProblemDocument = {
            "type": f"/problems/{self.code}",
            "title": condition(self.status)[0],
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "trace_id": trace_id,
        }
        if instance is not None:
            members["instance"] = instance
        return orjson.dumps({**members, **self._extensions})


def condition(status: int) -> tuple[str, str]:
    """An HTTP status as title and code: `("Not Found", "not_found")`.

    From werkzeug's table, because Python's own changes its words between versions.
    """
    title = HTTP_STATUS_CODES[status]
    return title, re.sub(r"[^a-z]+", "_", title.lower())
