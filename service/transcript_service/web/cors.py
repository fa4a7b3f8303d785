"""Cross-origin reading of the API, for exactly the origins that an operator listed.

No wildcard and no credentials: a token is sent in a header by whoever holds it, never by
the browser on its own. The comparison is of whole strings, so neither a longer host name
nor another scheme or port slips through, and `null` is no origin that can be listed.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from flask import Flask, Response, request

from .compression import vary

_MAX_AGE_S: Final = 600
_EXPOSED: Final = "ETag, Retry-After, Server-Timing, X-Correlation-ID"


def register(app: Flask, origins: Collection[str]) -> None:
    """Add the headers to every answer below `/api/` whose Origin is one of `origins`."""
    allowed = frozenset(origins) - {"*", "null"}

    @app.after_request
    def _cors(response: Response) -> Response:
        if not request.path.startswith("/api/"):
            return response
        # Always, or a cache would hand one origin's answer to another.
        vary(response, "Origin")
        origin = request.headers.get("Origin")
        if origin is None or origin not in allowed:
            return response
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = _EXPOSED
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            response.headers["Access-Control-Allow-Methods"] = "GET, OPTIONS"
            response.headers["Access-Control-Allow-Headers"] = "Authorization, If-None-Match"
            response.headers["Access-Control-Max-Age"] = str(_MAX_AGE_S)
        return response
