"""Errors as RFC 9457 `application/problem+json`, the only error body the service has.

Every body carries `code` (a word of the vocabulary or an HTTP condition) and `trace_id`,
so that a caller can quote one id and an operator finds the trace and its log lines.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson
from flask import Flask, Response, request
from opentelemetry import trace
from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES

from ..telemetry import current_trace_id, get_logger, record_error

log = get_logger(__name__)


class Problem(Exception):
    """Raise it anywhere in a request to answer with a problem document.

    Args:
        status: HTTP status code.
        code: short machine-readable word, stable for callers.
        detail: one sentence for people; never an upstream address or a query.
        headers: extra response headers, such as `Retry-After`.
        extensions: extra members of the document, such as `attempts`.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **extensions: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.extensions = extensions


def condition(status: int) -> tuple[str, str]:
    """An HTTP status as title and code: `("Not Found", "not_found")`.

    From werkzeug's table, because Python's own changes its words between versions.
    """
    title = HTTP_STATUS_CODES[status]
    return title, re.sub(r"[^a-z]+", "_", title.lower())


def problem_response(problem: Problem) -> Response:
    """The response for a problem."""
    document = {
        "type": f"/problems/{problem.code}",
        "title": condition(problem.status)[0],
        "status": problem.status,
        "detail": problem.detail,
        "instance": request.path,
        "code": problem.code,
        "trace_id": current_trace_id(),
        **problem.extensions,
    }
    response = Response(
        orjson.dumps(document), status=problem.status, mimetype="application/problem+json"
    )
    response.headers.update(problem.headers)
    return response


def register(app: Flask) -> None:
    """Answer every error of `app` with a problem document, unexpected ones included."""

    @app.errorhandler(Problem)
    def _problem(error: Problem) -> Response:
        return problem_response(error)

    @app.errorhandler(HTTPException)
    def _http(error: HTTPException) -> Response:
        status = error.code or 500
        phrase, code = condition(status)
        headers = {
            name: value
            for name, value in error.get_response().headers.items()
            if name in ("Allow", "Retry-After", "Location")
        }
        detail = f"{request.method} {request.path}: {phrase.lower()}."
        return problem_response(Problem(status, code, detail, headers=headers))

    @app.errorhandler(Exception)
    def _unexpected(error: Exception) -> Response:
        record_error(trace.get_current_span(), error)
        log.exception("http.request.failed", error_type=type(error).__name__)
        return problem_response(
            Problem(500, "internal", "The service failed; quote the trace id to its operators.")
        )
