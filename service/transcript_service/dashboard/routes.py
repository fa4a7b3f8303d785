"""The HTTP face of the dashboard: JSON endpoints under `/api/dashboard`."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Final

import orjson
from flask import Blueprint, Response, request

from ..settings import Settings
from . import log_search, trace_search, traces
from .alerts import AlertLog
from .board import SCOPE_OF, Board, Reply
from .engines import Engines
from .errors import invalid_parameter
from .export import OPENMETRICS, TEXT, prefers_openmetrics
from .window import parse_window

# Checks the request's token; the scopes it holds. Raises when `scope` is not among them.
Authorize = Callable[[str], Collection[str]]

# Path below /api/dashboard/metrics, and the block it shows.
BLOCK_PATHS: Final = {name.replace("_", "-"): name for name in SCOPE_OF}
OVERVIEW_SCOPE: Final = "metrics:read"
TRACE_SCOPE: Final = "metrics:read"
EXPORT_SCOPE: Final = "export:read"


def create_blueprint(
    settings: Settings, *, authorize: Authorize, alert_log: AlertLog | None = None
) -> Blueprint:
    """The routes, answering for one service.

    Args:
        settings: the service's configuration.
        authorize: called with the scope a route needs before anything else happens.
        alert_log: the history of notifications, where there is one.
    """
    blueprint = Blueprint("dashboard", __name__)
    engines = Engines(settings)
    board = Board(settings, engines, alert_log)

    def block(name: str) -> Response:
        authorize(SCOPE_OF[name])
        window = parse_window(request.args.items(multi=True))
        return _respond(lambda: board.block(name, window))

    for path, name in BLOCK_PATHS.items():
        blueprint.add_url_rule(
            f"/api/dashboard/metrics/{path}", endpoint=name, view_func=partial(block, name)
        )

    @blueprint.get("/api/dashboard/metrics")
    def overview() -> Response:
        scopes = authorize(OVERVIEW_SCOPE)
        window = parse_window(request.args.items(multi=True))
        return _respond(lambda: board.overview(window, scopes))

    @blueprint.get("/api/dashboard/metrics/export")
    def export() -> Response:
        authorize(EXPORT_SCOPE)
        _no_parameters()
        openmetrics = prefers_openmetrics(request.accept_mimetypes)
        started = time.perf_counter()
        body, cached = board.export(openmetrics=openmetrics)
        response = _answer(
            body,
            OPENMETRICS if openmetrics else TEXT,
            tag=cached.value.tag,
            fresh_for_s=cached.fresh_for_s,
            cache=cached.result,
            started=started,
        )
        response.vary.add("Accept")
        return response

    @blueprint.get("/api/dashboard/traces/<trace_id>")
    def trace(trace_id: str) -> Response:
        authorize(TRACE_SCOPE)
        _no_parameters()
        return _fresh(traces.fetch_trace(engines, traces.checked_trace_id(trace_id)))

    @blueprint.get("/api/dashboard/traces")
    def find_traces() -> Response:
        authorize(TRACE_SCOPE)
        search = trace_search.parse_search(request.args.items(multi=True))
        return _fresh(trace_search.find_traces(engines, search))

    @blueprint.get("/api/dashboard/failures")
    def failures() -> Response:
        authorize(TRACE_SCOPE)
        window = parse_window(request.args.items(multi=True))
        return _fresh(log_search.failures(engines, window))

    @blueprint.get("/api/dashboard/logs")
    def logs() -> Response:
        authorize(TRACE_SCOPE)
        asked = log_search.parse_tail(request.args.items(multi=True))
        return _fresh(log_search.tail(engines, asked))

    return blueprint


def _fresh(document: Mapping[str, Any]) -> Response:
    """JSON of what arrives over seconds: a copy would be incomplete."""
    response = Response(orjson.dumps(document), mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response


def _no_parameters() -> None:
    if request.args:
        raise invalid_parameter("This takes no parameters.")


def _respond(make: Callable[[], Reply]) -> Response:
    started = time.perf_counter()
    reply = make()
    return _answer(
        orjson.dumps(dict(reply.document)),
        "application/json",
        tag=reply.tag,
        fresh_for_s=reply.fresh_for_s,
        cache=reply.cache,
        started=started,
    )


def _answer(
    body: bytes, content_type: str, *, tag: str, fresh_for_s: float, cache: str, started: float
) -> Response:
    took_ms = (time.perf_counter() - started) * 1000
    response = Response(
        body,
        headers=[
            # Weak: the same numbers, though `age_s` has moved on.
            ("ETag", f'W/"{tag}"'),
            ("Vary", "Authorization"),
            ("Cache-Control", f"private, max-age={int(fresh_for_s)}"),
            ("Server-Timing", f'cache;desc="{cache}", total;dur={took_ms:.1f}'),
        ],
        content_type=content_type,
    )
    if "If-None-Match" in request.headers or "If-Match" in request.headers:
        response.make_conditional(request)
    return response
