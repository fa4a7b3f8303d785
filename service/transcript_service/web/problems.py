"""Errors as RFC 9457 `application/problem+json`, the only error body the service has.

Every body carries `code` (a word of the vocabulary or an HTTP condition) and `trace_id`,
so that a caller can quote one id and an operator finds the trace and its log lines.
"""

from __future__ import annotations

from flask import Flask, Response, request
from opentelemetry import trace
from werkzeug.exceptions import HTTPException

from ..problem import MEDIA_TYPE, Problem, condition
from ..telemetry import current_trace_id, get_logger, record_error

log = get_logger(__name__)


def problem_response(problem: Problem) -> Response:
    body = problem.document(trace_id=current_trace_id(), instance=request.path)
    response = Response(body, status=problem.status, mimetype=MEDIA_TYPE)
    response.headers.update(problem.headers)
    return response


def register(app: Flask) -> None:
    """Answer every error of `app` with a problem document, unexpected ones included."""
    app.register_error_handler(Problem, problem_response)

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
