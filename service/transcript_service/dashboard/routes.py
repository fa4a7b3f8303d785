"""The HTTP face of the dashboard: what can be asked below `/api/dashboard/`, and who answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, TypeVar

import orjson
from flask import Blueprint, Response, request

from ..settings import Settings
from . import inputs, shapes
from .alerts import ALERTS, History
from .blocks import BLOCKS
from .board import SCOPE_OF, Board, Reply
from .engines import Engines
from .export import prefers_openmetrics
from .log_search import failures, tail
from .traces import fetch_trace, find_traces

# Checks the request's token; the scopes it holds. Raises when `scope` is not among them.
Authorize = Callable[[str], Collection[str]]
A = TypeVar("A", bound=inputs.Nothing)


@dataclass(frozen=True)
class Route(Generic[A]):
    """One GET. `web.openapi` describes it from the same words.

    Attributes:
        path: below `/api/dashboard/`.
        name: endpoint and `operationId`.
        told: what its answer is.
        asked: the parameters, that of the path among them.
        shape: of the answer; `None` for the text of the export.
        answer: makes it, of the parameters and the caller's scopes. What is no `Reply` has
            only begun to arrive: a copy would be incomplete.
    """

    path: str
    name: str
    summary: str
    told: str
    asked: type[A]
    shape: Any
    answer: Callable[[Board, A, Collection[str]], Reply | Mapping[str, object]]
    scope: str = "metrics:read"


def _of_block(name: str, summary: str, shape: Any) -> Route[inputs.Recent]:
    def answer(board: Board, asked: inputs.Recent, _: Collection[str]) -> Reply:
        return board.block(name, asked.window())

    path = f"metrics/{name.replace('_', '-')}"
    whole = shapes.Block[shape]
    return Route(path, name, summary, "The block.", inputs.Recent, whole, answer, SCOPE_OF[name])


ROUTES: Final[tuple[Route[Any], ...]] = (
    Route(
        "metrics",
        "overview",
        "Everything at once",
        "All blocks; those the token does not open say so.",
        inputs.Recent,
        shapes.Overview,
        lambda board, asked, scopes: board.overview(asked.window(), scopes),
    ),
    *(_of_block(block.name, block.about, block.shape) for block in BLOCKS.values()),
    _of_block(
        ALERTS,
        "Active alerts with their runbooks, and the history of notifications",
        shapes.Alerts,
    ),
    Route(
        "metrics/export",
        "export",
        "The service's metrics as text, for a second Prometheus (honor_labels: true)",
        "Text exposition; OpenMetrics where Accept prefers it.",
        inputs.Nothing,
        None,
        lambda board, *_: board.export(openmetrics=prefers_openmetrics(request.accept_mimetypes)),
        "export:read",
    ),
    Route(
        "traces/<trace_id>",
        "trace",
        "One request: its spans and its log lines",
        "What has arrived of it.",
        inputs.OneTrace,
        shapes.Trace,
        lambda board, asked, _: fetch_trace(board.engines, asked.trace_id),
    ),
    Route(
        "traces",
        "traces",
        "Traced requests by what is known of them, the newest first",
        "What was found.",
        inputs.Search,
        shapes.TraceList,
        lambda board, asked, _: find_traces(board.engines, asked),
    ),
    Route(
        "failures",
        "failures",
        "Failures by stage and error type, the most frequent first",
        "At most fifty groups.",
        inputs.Recent,
        shapes.Failures,
        lambda board, asked, _: failures(board.engines, asked.window()),
    ),
    Route(
        "logs",
        "logs",
        "The newest log lines; ask again with `next_since` to follow them",
        "The lines, oldest first.",
        inputs.Tail,
        shapes.LogTail,
        lambda board, asked, _: tail(board.engines, asked),
    ),
)


def create_blueprint(
    settings: Settings, *, authorize: Authorize, history: History | None = None
) -> Blueprint:
    """The routes; `authorize` is called before anything else happens."""
    blueprint = Blueprint("dashboard", __name__, url_prefix="/api/dashboard")
    board = Board(settings, Engines(settings), history)

    def respond(route: Route[inputs.Nothing], **in_path: str) -> Response:
        scopes = authorize(route.scope)
        started = time.perf_counter()
        asked = inputs.read(route.asked, [*in_path.items(), *request.args.items(multi=True)])
        reply = route.answer(board, asked, scopes)
        if isinstance(reply, Reply):
            return _kept(reply, started)
        response = Response(orjson.dumps(reply), mimetype="application/json")
        response.headers["Cache-Control"] = "no-store"
        return response

    for route in ROUTES:
        view = partial(respond, route)
        blueprint.add_url_rule(f"/{route.path}", endpoint=route.name, view_func=view)
    return blueprint


def _kept(reply: Reply, started: float) -> Response:
    took_ms = (time.perf_counter() - started) * 1000
    response = Response(
        reply.body,
        headers=[
            # Weak: the same numbers, though `age_s` has moved on.
            ("ETag", f'W/"{reply.tag}"'),
            ("Vary", reply.vary),
            ("Cache-Control", f"private, max-age={int(reply.fresh_for_s)}"),
            ("Server-Timing", f'cache;desc="{reply.cache}", total;dur={took_ms:.1f}'),
        ],
        content_type=reply.media_type,
    )
    if "If-None-Match" in request.headers or "If-Match" in request.headers:
        response.make_conditional(request)
    return response
