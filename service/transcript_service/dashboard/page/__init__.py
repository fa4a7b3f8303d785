"""The built-in page over the dashboard API, for people without Grafana.

The server renders only a shell without data, so it needs no token; everything shown comes
from the API, with the token that the page asks for. Charts are drawn by plotly.js, which
the `plotly` package ships: nothing is fetched from anywhere else, and the content
security policy would not allow it.
"""

from __future__ import annotations

import gzip
import re
import secrets
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any, Final, get_args

from flask import Blueprint, Response, render_template, request

from ...telemetry.vocabulary import (
    ANSWERS,
    CALLER_ERRORS,
    ERROR_TYPES,
    OUTCOMES,
    SOURCES,
    STAGES,
)
from ..inputs import LogLevel
from ..log_search import TRACE_ID

_CHARTS: Final = "plotly"
_YEAR_S: Final = 365 * 86400
# Hours, and how they are shown and read out.
_WINDOWS: Final = (
    ("0.25", "15 m", "15 minutes"),
    ("1", "1 h", "1 hour"),
    ("6", "6 h", "6 hours"),
    ("24", "24 h", "24 hours"),
    ("168", "7 d", "7 days"),
)


def create_page() -> Blueprint:
    """`/dashboard`, its pages for traces, for one trace and for logs, and the files they load."""
    page = Blueprint(
        "dashboard_page",
        __name__,
        url_prefix="/dashboard",
        static_folder="static",
        static_url_path="/static",
        template_folder="templates",
    )

    @page.get("", strict_slashes=False)
    def dashboard() -> Response:
        answers = sorted(ANSWERS | CALLER_ERRORS)
        return _rendered("dashboard", stages=STAGES, windows=_WINDOWS, answers=answers, charts=True)

    @page.get("/traces")
    def traces() -> Response:
        words = {"outcomes": OUTCOMES, "error_types": ERROR_TYPES, "sources": SOURCES}
        return _rendered("traces", stages=STAGES, windows=_WINDOWS, charts=True, **words)

    @page.get("/logs")
    def logs() -> Response:
        return _rendered("logs", stages=STAGES, levels=get_args(LogLevel))

    @page.get("/trace/<path:trace_id>")
    def trace(trace_id: str) -> Response:
        # What is no trace id gets the page too, which shows what the API says of it.
        response = _rendered("trace", trace_id=trace_id[:64])
        if not TRACE_ID.fullmatch(trace_id):
            response.status_code = 400
        return response

    @page.get("/charts/<release>.js")
    def charts(release: str) -> Response:
        """The chart library. Its version is in the path, so that it can be kept for good."""
        del release
        use_gzip = request.accept_encodings.quality("gzip") > 0
        body = _packed_chart_library() if use_gzip else _chart_library()
        response = Response(body, mimetype="text/javascript")
        if use_gzip:
            response.content_encoding = "gzip"
        response.vary.add("Accept-Encoding")
        response.headers["Cache-Control"] = f"public, max-age={_YEAR_S}, immutable"
        return response

    @page.after_request
    def _secure(response: Response) -> Response:
        response.headers.setdefault("Content-Security-Policy", "default-src 'none'")
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "same-origin"
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        response.headers.setdefault("Cache-Control", "no-cache")
        return response

    return page


def _rendered(name: str, *, charts: bool = False, **values: Any) -> Response:
    nonce = secrets.token_urlsafe(16)
    if charts:
        values |= {"charts_release": version(_CHARTS), "own_styles": _own_styles()}
    text = render_template(
        f"{name}.html", script=f"{name}.js", nonce=nonce, charts=charts, **values
    )
    response = Response(text, mimetype="text/html")
    # Only our own files, and the one style element that bears the nonce.
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
        f"style-src 'self' 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return response


@cache
def _own_styles() -> tuple[str, ...]:
    """Ids of the style elements that the chart library would add for its maps.

    The policy forbids them and the browser would complain at every load. An element that
    has the id already, whatever it is, keeps the library from adding its own.
    """
    return tuple(re.findall(r'getElementById\("([0-9a-f]{64})"\)', _chart_library().decode()))


@cache
def _chart_library() -> bytes:
    """The chart library (about 5 MB), read once per process."""
    return files(_CHARTS).joinpath("package_data", "plotly.min.js").read_bytes()


@cache
def _packed_chart_library() -> bytes:
    """The same gzipped (about 1.5 MB). Takes a third of a second, so only who asks waits for it."""
    return gzip.compress(_chart_library(), 6)
