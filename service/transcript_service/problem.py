"""The one error with an HTTP status, and the document it becomes (RFC 9457).

Every room may raise a `Problem`; only `web` turns it into a response. Nothing here knows
Flask, so that a worker's socket and a terminal can tell the same problem.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson
from werkzeug.http import HTTP_STATUS_CODES

MEDIA_TYPE: Final = "application/problem+json"


class Problem(Exception):
    """Raised anywhere in a request, it is the answer.

    A subclass may state `status`, `code`, `detail` and `retry_after_s` once for all its
    instances; see `dashboard.errors`.

    Args:
        status: HTTP status code.
        code: short word for programs, stable.
        detail: one sentence for people; never an upstream address or a query.
        retry_after_s: seconds after which trying again makes sense, if that is known.
        headers: extra response headers.
        extensions: extra members of the document, such as `attempts`.
    """

    status: int
    code: str
    detail: str
    retry_after_s: float | None = None

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
        """The response headers, `Retry-After` in whole seconds among them."""
        if self.retry_after_s is None:
            return dict(self._headers)
        return {**self._headers, "Retry-After": str(max(1, round(self.retry_after_s)))}

    def document(self, *, trace_id: str, instance: str | None = None) -> bytes:
        """The body, of media type `MEDIA_TYPE`.

        Args:
            trace_id: what the caller quotes to the operators.
            instance: path of the request, where it could be read.
        """
        members = {
            "type": f"/problems/{self.code}",
            "title": condition(self.status)[0],
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            "code": self.code,
            "trace_id": trace_id,
            **self._extensions,
        }
        if instance is None:
            del members["instance"]
        return orjson.dumps(members)


def condition(status: int) -> tuple[str, str]:
    """An HTTP status as title and code: `("Not Found", "not_found")`.

    From werkzeug's table, because Python's own changes its words between versions.
    """
    title = HTTP_STATUS_CODES[status]
    return title, re.sub(r"[^a-z]+", "_", title.lower())
