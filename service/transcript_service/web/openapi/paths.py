"""The operations of the API: a table, and what makes OpenAPI's path items of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NotRequired

from typing_extensions import TypedDict

from ...dashboard import shapes
from ...dashboard.board import SCOPE_OF
from ...dashboard.log_search import LEVELS, MOST_LINES
from ...dashboard.routes import BLOCK_PATHS, EXPORT_SCOPE, OVERVIEW_SCOPE, TRACE_SCOPE
from ...dashboard.trace_search import MOST
from ...dashboard.window import MAX_HOURS
from ...problem import ProblemDocument
from ...telemetry.vocabulary import ERROR_TYPES, OUTCOMES, SOURCES, STAGES
from ...transcripts.shapes import JobDocument, TranscriptDocument
from .schemas import Schema, example, schemas_of


class Status(TypedDict):
    status: Literal["ok", "not_ready"]
    checks: NotRequired[Mapping[str, str]]


class Received(TypedDict):
    accepted: int
    duplicates: int
    rejected: int


@dataclass(frozen=True)
class Text:
    """A body that is no JSON: an example of it."""

    example: str


_NOTIFICATION: Final = {
    "version": "4",
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "CircuitBreakerOpenTooLong", "severity": "critical"},
            "annotations": {"summary": "A circuit breaker stays open."},
            "startsAt": "2026-11-24T17:57:05Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "fingerprint": "9f00aa11bb22cc33",
        }
    ],
}
_PAGE: Final = {"text/html": Text('<!doctype html><html lang="en"><h1>Runbooks</h1></html>')}


@dataclass(frozen=True)
class Answer:
    """A good answer: by media type a shape, or a text's example."""

    description: str
    bodies: Mapping[str, Any]
    status: int = 200


def _json(description: str, shape: Any, status: int = 200) -> Answer:
    return Answer(description, {"application/json": shape}, status)


@dataclass(frozen=True)
class Operation:
    """One operation. `problems` are the statuses of its bad answers."""

    path: str
    id: str
    tag: str
    summary: str
    answers: Sequence[Answer]
    problems: str = ""
    description: str | None = None
    parameters: Sequence[Schema] = ()
    security: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    method: str = "get"


def _parameter(
    name: str,
    schema: Schema,
    example: Any,
    description: str | None = None,
    *,
    where: Literal["path", "query", "header"] = "query",
) -> Schema:
    made = {"name": name, "in": where, "schema": schema, "example": example}
    if description is not None:
        made["description"] = description
    return {**made, "required": True} if where == "path" else made


def _text(pattern: str) -> Schema:
    return {"type": "string", "pattern": pattern}


_TRACE_ID: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
_WINDOW: Final = (
    _parameter(
        "hours",
        {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_HOURS, "default": 1},
        0.25,
        f"How far back to look: above 0, at most {MAX_HOURS}.",
    ),
    _parameter("stage", {"enum": list(STAGES)}, STAGES[0], "Look at one stage only."),
)
_VIDEO: Final = _parameter("video", _text("^[A-Za-z0-9_-]{11}$"), "dQw4w9WgXcQ")
_DURATION: Final[Schema] = {"type": "number", "minimum": 0, "maximum": 999999}


def _limit(most: int, default: int) -> Schema:
    schema = {"type": "integer", "minimum": 1, "maximum": most, "default": default}
    return _parameter("limit", schema, default)


_TIME: Final = (
    "^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"
    r"T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?Z$"
)


def _moment(name: str, description: str) -> Schema:
    return _parameter(name, _text(_TIME), "2026-11-24T17:41:09Z", description)


_SEARCH: Final = (
    *_WINDOW,
    _moment("end", "Where the hours end; now, unless given."),
    _VIDEO,
    _parameter("outcome", {"enum": list(OUTCOMES)}, "blocked"),
    _parameter("error_type", {"enum": list(ERROR_TYPES)}, "ip_blocked"),
    _parameter("source", {"enum": list(SOURCES)}, "timedtext"),
    _parameter("min_s", _DURATION, 5, "Duration of the whole request, in seconds."),
    _parameter("max_s", _DURATION, 60),
    _limit(MOST, 50),
)
_TAIL: Final = (
    _moment("since", "The `next_since` of the answer before; without it five minutes."),
    _parameter("level", {"enum": list(LEVELS)}, "warning", "This level and above."),
    _WINDOW[1],
    _VIDEO,
    _limit(MOST_LINES, 200),
)
# The most usual form of URL; more are understood (`transcripts/video_id.py`).
_WATCH_URL: Final = r"https://(www\.|m\.)?youtube\.com/watch\?v=[A-Za-z0-9_-]{11}"
_LANGUAGE: Final = "[A-Za-z]{2,3}([-_][A-Za-z0-9][A-Za-z0-9_-]{0,31})?"
_CONTROL: Final = r"\x00-\x1f\x7f-\x9f"
_REQUEST: Final = (
    _parameter(
        "video",
        {"anyOf": [_text("^[A-Za-z0-9_-]{11}$"), _text(f"^{_WATCH_URL}$")]},
        "dQw4w9WgXcQ",
        "An 11-character id, or any form of YouTube URL.",
        where="path",
    ),
    _parameter(
        "lang",
        _text(f"^{_LANGUAGE}(,{_LANGUAGE}){{0,9}}$"),
        "en,de",
        "Wanted languages, most wanted first; ten at most.",
    ),
    _parameter(
        "translate",
        _text(f"^{_LANGUAGE}$"),
        "de",
        "Have YouTube translate the chosen captions into this language; `translated_from` says"
        " what they were. Captions that are in it already are given as they are.",
    ),
    _parameter(
        "track",
        {
            **_text(rf"^[^{_CONTROL}]*[^\s{_CONTROL}][^{_CONTROL}]*$"),
            "minLength": 1,
            "maxLength": 200,
        },
        "Dialogue",
        "Only the caption track of this name, as `available` lists it or without its language:"
        " `English - Dialogue` or `Dialogue`.",
    ),
    _parameter("format", {"enum": ["json", "srt", "vtt", "text"], "default": "json"}, "srt"),
    _parameter(
        "Prefer",
        {"type": "string"},
        "respond-async",
        "`respond-async` (RFC 7240): answer at once with a job.",
        where="header",
    ),
)
_CUE: Final = "00:00:00{0}400 --> 00:00:03{0}000\nThis is film number 1.\n"
_METRICS: Final = (
    "# TYPE transcript_requests{} counter\n"
    'transcript_requests_total{{outcome="success",source="youtube_api"}} 1580\n'
)
_BLOCKS: Final[dict[str, tuple[Any, str]]] = {
    "health": (
        shapes.OuterBlock[shapes.Health],
        "Is it healthy, and what does that rest on",
    ),
    "performance": (
        shapes.OuterBlock[shapes.Performance],
        "Requests, stages, P50 and P95, errors, slow and failed requests",
    ),
    "circuit_breaker": (
        shapes.OuterBlock[shapes.CircuitBreaker],
        "State, calls, transitions and recovery of every breaker",
    ),
    "browser_contexts": (
        shapes.OuterBlock[shapes.BrowserContexts],
        "The browser pool: contexts, memory, waiting",
    ),
    "proxy": (shapes.OuterBlock[shapes.Proxy], "The proxy pool by masked id"),
    "alerts": (
        shapes.OuterBlock[shapes.Alerts],
        "Active alerts with their runbooks, and the history of notifications",
    ),
}


def _dashboard(
    path: str,
    id: str,
    summary: str,
    scope: str,
    answer: Answer,
    parameters: Sequence[Schema] = (),
) -> Operation:
    return Operation(
        f"/api/dashboard/{path}",
        id,
        "dashboard",
        summary,
        [answer, Answer("Nothing new since the ETag that was sent.", {}, 304)],
        "400 401 403 404 429 500 502 503 504",
        f"Needs the scope `{scope}`.",
        parameters,
        "token",
    )


OPERATIONS: Final = (
    Operation(
        "/api/transcripts/{video}",
        "transcript",
        "transcripts",
        "The transcript of a video",
        [
            Answer(
                "The transcript.",
                {
                    "application/json": TranscriptDocument,
                    "application/x-subrip": Text("1\n" + _CUE.format(",")),
                    "text/vtt": Text("WEBVTT\n\nNOTE Language: en\n\n" + _CUE.format(".")),
                    "text/plain": Text("This is film number 1.\n"),
                },
            ),
            _json("To be answered later.", JobDocument, 202),
        ],
        "400 403 404 429 500 502 503 504",
        parameters=_REQUEST,
    ),
    Operation(
        "/api/jobs/{job_id}",
        "job",
        "transcripts",
        "How a request that is answered later is getting on",
        [_json("The job, with its result once it has succeeded.", JobDocument)],
        "404 500 503",
        parameters=[
            _parameter(
                "job_id",
                _text("^[0-9a-f]{32}$"),
                "0123456789abcdef0123456789abcdef",
                "As the 202 answer gave it.",
                where="path",
            )
        ],
    ),
    _dashboard(
        "metrics",
        "overview",
        "Everything at once",
        OVERVIEW_SCOPE,
        _json("All blocks; those the token does not open say so.", shapes.Overview),
        _WINDOW,
    ),
    *(
        _dashboard(
            f"metrics/{path}",
            name,
            _BLOCKS[name][1],
            SCOPE_OF[name],
            _json("The block.", _BLOCKS[name][0]),
            _WINDOW,
        )
        for path, name in BLOCK_PATHS.items()
    ),
    _dashboard(
        "metrics/export",
        "export",
        "The service's metrics as text, for a second Prometheus (honor_labels: true)",
        EXPORT_SCOPE,
        Answer(
            "Text exposition; OpenMetrics where Accept prefers it.",
            {
                "text/plain": Text(_METRICS.format("_total")),
                "application/openmetrics-text": Text(_METRICS.format("") + "# EOF\n"),
            },
        ),
    ),
    _dashboard(
        "traces/{trace_id}",
        "trace",
        "One request: its spans and its log lines",
        TRACE_SCOPE,
        _json("What has arrived of it.", shapes.Trace),
        [_parameter("trace_id", _text("^[0-9a-f]{32}$"), _TRACE_ID, where="path")],
    ),
    _dashboard(
        "traces",
        "traces",
        "Traced requests by what is known of them, the newest first",
        TRACE_SCOPE,
        _json("What was found.", shapes.TraceList),
        _SEARCH,
    ),
    _dashboard(
        "failures",
        "failures",
        "Failures by stage and error type, the most frequent first",
        TRACE_SCOPE,
        _json("At most fifty groups.", shapes.Failures),
        _WINDOW,
    ),
    _dashboard(
        "logs",
        "logs",
        "The newest log lines; ask again with `next_since` to follow them",
        TRACE_SCOPE,
        _json("The lines, oldest first.", shapes.LogTail),
        _TAIL,
    ),
    Operation(
        "/api/alerts/webhook",
        "receiveAlerts",
        "alerts",
        "A notification of Alertmanager",
        [_json("Recorded.", Received)],
        "400 401 413 415 500 503",
        "With the token of `ALERT_WEBHOOK_TOKEN_FILE`, which is none of those that open the"
        " dashboard.",
        security="webhookToken",
        method="post",
        more={
            "requestBody": {
                "required": True,
                "description": "Alertmanager's webhook form, version 4. An alert that cannot be"
                " used is counted as rejected and does not keep the others from being recorded.",
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "properties": {"version": {"const": "4"}, "alerts": {"type": "array"}},
                            "required": ["version", "alerts"],
                        },
                        "example": _NOTIFICATION,
                    }
                },
            }
        },
    ),
    Operation(
        "/runbooks",
        "runbooks",
        "alerts",
        "What to do about each alert: the list",
        [Answer("A page.", _PAGE)],
    ),
    Operation(
        "/runbooks/{name}",
        "runbook",
        "alerts",
        "What to do about one alert",
        [Answer("A page.", _PAGE)],
        "404",
        parameters=[
            _parameter(
                "name",
                _text("^[A-Za-z][A-Za-z0-9]{0,99}$"),
                "CircuitBreakerOpenTooLong",
                "The alert's name.",
                where="path",
            )
        ],
    ),
    Operation("/health/live", "live", "health", "The process answers", [_json("It does.", Status)]),
    Operation(
        "/health/ready",
        "ready",
        "health",
        "It can do its work",
        [_json("It can.", Status), _json("It cannot.", Status, 503)],
    ),
    Operation(
        "/api/openapi.json",
        "openapi",
        "health",
        "This document",
        [_json("OpenAPI 3.1.", Mapping[str, Any])],
    ),
)


def paths_and_schemas() -> tuple[dict[str, Any], dict[str, Schema]]:
    """The document's path items, each body with its example, and the schemas they refer to."""
    wanted = {
        id(shape): shape
        for operation in OPERATIONS
        for answer in operation.answers
        for shape in answer.bodies.values()
        if not isinstance(shape, Text)
    }
    made, definitions = schemas_of([*wanted.values(), ProblemDocument])
    # such as `attempts`
    definitions["Problem"] = {**definitions.pop("ProblemDocument"), "additionalProperties": True}
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _item(operation, made, definitions)
    return paths, definitions


def _item(
    operation: Operation, made: Mapping[Any, Schema], definitions: Mapping[str, Schema]
) -> Schema:
    item: Schema = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": list(operation.parameters),
        **operation.more,
        "responses": {
            **{str(a.status): _response(a, made, definitions) for a in operation.answers},
            **{
                status: {"$ref": "#/components/responses/Problem"}
                for status in operation.problems.split()
            },
        },
    }
    if operation.description:
        item["description"] = operation.description
    if operation.security:
        item["security"] = [{operation.security: []}]
    return item


def _response(
    answer: Answer, made: Mapping[Any, Schema], definitions: Mapping[str, Schema]
) -> Schema:
    content = {}
    for media, body in answer.bodies.items():
        if isinstance(body, Text):
            content[media] = {"schema": {"type": "string"}, "example": body.example}
        else:
            content[media] = {"schema": made[body], "example": example(made[body], definitions)}
    response: Schema = {
        "description": answer.description,
        "headers": {
            "X-Correlation-ID": {"description": "The trace id.", "schema": {"type": "string"}}
        },
    }
    return {**response, "content": content} if content else response
