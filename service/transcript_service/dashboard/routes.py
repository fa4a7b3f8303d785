"""The HTTP face of the dashboard: JSON endpoints under `/api/dashboard`."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Final

import orjson
from flask import Blueprint, Response, request

from ..settings import Settings
from .board import Board, Reply
from .errors import UpstreamError
from .window import parse_window

# Checks the request's token; the scopes it holds. Raises when `scope` is not among them.
Authorize = Callable[[str], Collection[str]]

# Path below /api/dashboard/metrics, and the block it shows.
BLOCK_PATHS: Final = {
    "performance": "performance",
}


def create_blueprint(settings: Settings, *, authorize: Authorize) -> Blueprint:
    """The routes, answering for one service.

    Args:
        settings: the service's configuration.
        authorize: called with the scope a route needs before anything else happens.
    """
    blueprint = Blueprint("dashboard", __name__)
    board = Board(settings)

    def show(name: str, scope: str) -> Response:
        authorize(scope)
        window = parse_window(request.args.items(multi=True))
        return _respond(lambda: board.block(name, window))

    for path, name in BLOCK_PATHS.items():
        blueprint.add_url_rule(
            f"/api/dashboard/metrics/{path}",
            endpoint=name,
            view_func=partial(show, name, "metrics:read"),
        )

    @blueprint.get("/api/dashboard/metrics")
    def overview() -> Response:
        scopes = authorize("metrics:read")
        window = parse_window(request.args.items(multi=True))
        return _respond(lambda: board.overview(window, scopes))

    return blueprint


def _respond(make: Callable[[], Reply]) -> Response:
    started = time.perf_counter()
    try:
        reply = make()
    except UpstreamError as error:
        raise error.as_api_error() from error
    body = orjson.dumps(dict(reply.document))
    response = Response(body, mimetype="application/json")
    # Weak: the same numbers, though `age_s` has moved on.
    response.set_etag(reply.tag, weak=True)
    response.headers["Cache-Control"] = f"private, max-age={int(reply.fresh_for_s)}"
    response.headers["Server-Timing"] = (
        f'cache;desc="{reply.cache}", total;dur={(time.perf_counter() - started) * 1000:.1f}'
    )
    response.vary.update(["Authorization", "Origin", "Accept-Encoding"])
    response.make_conditional(request)
    return response
