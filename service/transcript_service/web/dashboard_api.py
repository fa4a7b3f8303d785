"""Joins the dashboard with what only the web room knows: who may ask, and how answers travel.

Other origins may read the API where an operator listed them: no wildcard and no credentials,
because a token is sent in a header by whoever holds it, never by the browser on its own.
Whole strings are compared, so neither a longer host name nor another scheme or port slips
through, and `null` is no origin that can be listed.
"""

from __future__ import annotations

import gzip
from typing import Final

from flask import Flask, Response, request

from ..dashboard.alerts import History
from ..dashboard.page import create_page
from ..dashboard.routes import create_blueprint
from ..settings import Settings
from . import openapi
from .auth import Authorizer

# Below this the header and the work outweigh the saving.
_MIN_BYTES: Final = 1024
# Level 1: a third of the time of level 6 for a tenth more bytes, measured on these answers.
_LEVEL: Final = 1
_READABLE: Final = "ETag, Retry-After, Server-Timing, X-Correlation-ID"
_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, If-None-Match",
    "Access-Control-Max-Age": "600",
}


def register(app: Flask, settings: Settings, *, history: History | None = None) -> None:
    """Add the dashboard's routes to `app`, whose problems are registered already."""
    api = create_blueprint(settings, authorize=Authorizer(settings), history=history)
    api.after_request(_compressed)
    app.register_blueprint(api)
    app.register_blueprint(create_page())
    app.register_blueprint(openapi.create_blueprint())
    allowed = frozenset(settings.dashboard_cors_origins) - {"*", "null"}

    @app.after_request
    def _cors(response: Response) -> Response:
        if not request.path.startswith("/api/"):
            return response
        # Always, or a cache would hand one origin's answer to another.
        response.vary.add("Origin")
        origin = request.headers.get("Origin")
        if origin is not None and origin in allowed:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = _READABLE
            if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
                response.headers.update(_PREFLIGHT)
        return response


def _compressed(response: Response) -> Response:
    """Pack the body where the caller takes gzip. None mixes a secret with what a caller chose."""
    response.vary.add("Accept-Encoding")
    if (
        response.status_code == 200
        and request.accept_encodings.quality("gzip") > 0
        and (response.content_length or 0) >= _MIN_BYTES
    ):
        response.set_data(gzip.compress(response.get_data(), _LEVEL, mtime=0))
        response.content_encoding = "gzip"
    return response
