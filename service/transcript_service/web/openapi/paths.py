"""The operations of the API: a table, and what makes OpenAPI's path items of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, NotRequired

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from ...dashboard.routes import ROUTES
from ...problem import ProblemDocument
from ...transcripts.formats import TranscriptDocument
from ..jobs import JobDocument
from .schemas import Schema, example, parameters_of, schemas_of


class Status(TypedDict):
    status: Literal["ok", "not_ready"]
    checks: NotRequired[Mapping[str, str]]


class Received(TypedDict):
    accepted: int
    duplicates: int
    rejected: int


class OneAlert(BaseModel):
    name: str = Field(
        pattern="^[A-Za-z][A-Za-z0-9]{0,99}$",
        description="The alert's name.",
        examples=["CircuitBreakerOpenTooLong"],
    )


class OneJob(BaseModel):
    job_id: str = Field(
        pattern="^[0-9a-f]{32}$",
        description="As the 202 answer gave it.",
        examples=["0123456789abcdef0123456789abcdef"],
    )


_LANGUAGE: Final = "[A-Za-z]{2,3}([-_][A-Za-z0-9][A-Za-z0-9_-]{0,31})?"
_CONTROL: Final = r"\x00-\x1f\x7f-\x9f"
# The most usual form of URL; more are understood (`transcripts/wanted.py`).
_WATCH_URL: Final = r"https://(www\.|m\.)?youtube\.com/watch\?v=[A-Za-z0-9_-]{11}"


class OneTranscript(BaseModel):
    video: (
        Annotated[str, Field(pattern="^[A-Za-z0-9_-]{11}$")]
        | Annotated[str, Field(pattern=f"^{_WATCH_URL}$")]
    ) = Field(
        description="An 11-character id, or any form of YouTube URL.", examples=["dQw4w9WgXcQ"]
    )
    lang: str = Field(
        pattern=f"^{_LANGUAGE}(,{_LANGUAGE}){{0,9}}$",
        description="Wanted languages, most wanted first; ten at most.",
        examples=["en,de"],
    )
    translate: str = Field(
        pattern=f"^{_LANGUAGE}$",
        description="Have YouTube translate the chosen captions into this language;"
        " `translated_from` says what they were. Captions that are in it already are given"
        " as they are.",
        examples=["de"],
    )
    track: str = Field(
        pattern=rf"^[^{_CONTROL}]*[^\s{_CONTROL}][^{_CONTROL}]*$",
        min_length=1,
        max_length=200,
        description="Only the caption track of this name, as `available` lists it or without"
        " its language: `English - Dialogue` or `Dialogue`.",
        examples=["Dialogue"],
    )
    format: Literal["json", "srt", "vtt", "text"] = Field("json", examples=["srt"])
    Prefer: str = Field(
        description="`respond-async` (RFC 7240): answer at once with a job.",
        examples=["respond-async"],
    )


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes:
        answers: by status what a good answer is, and its shape by media type.
        problems: the statuses of its bad answers.
        asked: the shape of its parameters.
        security: names of schemes, each enough by itself; `""` for none.
        body: OpenAPI's description of what is sent, with POST.
    """

    path: str
    id: str
    tag: str
    summary: str
    answers: Mapping[int, tuple[str, Mapping[str, Any]]]
    problems: str = ""
    description: str | None = None
    asked: Any = None
    security: Sequence[str] = ()
    body: Mapping[str, Any] | None = None


def _json(told: str, shape: Any) -> tuple[str, Mapping[str, Any]]:
    return told, {"application/json": shape}


def _text(example: str) -> Any:
    return Annotated[str, Field(examples=[example])]


_CUE: Final = "00:00:00{0}400 --> 00:00:03{0}000\nThis is film number 1.\n"
_METRICS: Final = (
    "# TYPE transcript_requests{} counter\n"
    'transcript_requests_total{{outcome="success",source="youtube_api"}} 1580\n'
)
_SAMPLES: Final = {
    "text/plain": _text(_METRICS.format("_total")),
    "application/openmetrics-text": _text(_METRICS.format("") + "# EOF\n"),
}
_HTML: Final = _text('<!doctype html><html lang="en"><h1>Runbooks</h1></html>')
_PAGE: Final = {200: ("A page.", {"text/html": _HTML})}
_GUARDED: Final = "Where TRANSCRIPTS_REQUIRE_TOKEN is set, needs the scope `transcripts:read`."
_NOTIFICATION: Final = {
    "required": True,
    "description": "Alertmanager's webhook form, version 4. An alert that cannot be used is"
    " counted as rejected and does not keep the others from being recorded.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {"version": {"const": "4"}, "alerts": {"type": "array"}},
                "required": ["version", "alerts"],
            },
            "example": {
                "version": "4",
                "alerts": [
                    {
                        "status": "firing",
                        "labels": {"alertname": "CircuitBreakerOpenTooLong"},
                        "annotations": {"summary": "A circuit breaker stays open."},
                        "startsAt": "2026-11-24T17:57:05Z",
                        "endsAt": "0001-01-01T00:00:00Z",
                        "fingerprint": "9f00aa11bb22cc33",
                    }
                ],
            },
        }
    },
}
OPERATIONS: Final = (
    Operation(
        "/api/transcripts/{video}",
        "transcript",
        "transcripts",
        "The transcript of a video",
        {
            200: (
                "The transcript.",
                {
                    "application/json": TranscriptDocument,
                    "application/x-subrip": _text("1\n" + _CUE.format(",")),
                    "text/vtt": _text("WEBVTT\n\nNOTE Language: en\n\n" + _CUE.format(".")),
                    "text/plain": _text("This is film number 1.\n"),
                },
            ),
            202: _json("To be answered later.", JobDocument),
        },
        "400 401 403 404 429 500 502 503 504",
        _GUARDED,
        OneTranscript,
        ("", "token"),
    ),
    Operation(
        "/api/jobs/{job_id}",
        "job",
        "transcripts",
        "How a request that is answered later is getting on",
        {200: _json("The job, with its result once it has succeeded.", JobDocument)},
        "401 403 404 429 500 503",
        _GUARDED,
        OneJob,
        ("", "token"),
    ),
    *(
        Operation(
            "/api/dashboard/" + route.path.replace("<", "{").replace(">", "}"),
            route.name,
            "dashboard",
            route.summary,
            {
                200: _json(route.told, route.shape) if route.shape else (route.told, _SAMPLES),
                304: ("Nothing new since the ETag that was sent.", {}),
            },
            "400 401 403 404 429 500 502 503 504",
            f"Needs the scope `{route.scope}`.",
            route.asked,
            ("token",),
        )
        for route in ROUTES
    ),
    Operation(
        "/api/alerts/webhook",
        "receiveAlerts",
        "alerts",
        "A notification of Alertmanager",
        {200: _json("Recorded.", Received)},
        "400 401 413 415 500 503",
        "With the token of `ALERT_WEBHOOK_TOKEN_FILE`, which is none of those that open the"
        " dashboard.",
        security=("webhookToken",),
        body=_NOTIFICATION,
    ),
    Operation("/runbooks", "runbooks", "alerts", "What to do about each alert: the list", _PAGE),
    Operation(
        "/runbooks/{name}",
        "runbook",
        "alerts",
        "What to do about one alert",
        _PAGE,
        "404",
        asked=OneAlert,
    ),
    Operation(
        "/health/live", "live", "health", "The process answers", {200: _json("It does.", Status)}
    ),
    Operation(
        "/health/ready",
        "ready",
        "health",
        "It can do its work",
        {200: _json("It can.", Status), 503: _json("It cannot.", Status)},
    ),
    Operation(
        "/api/openapi.json",
        "openapi",
        "health",
        "This document",
        {200: _json("OpenAPI 3.1.", Mapping[str, Any])},
    ),
)


TRACE_ID_HEADER: Final = {"description": "The trace id.", "schema": {"type": "string"}}


def paths_and_schemas() -> tuple[dict[str, Any], dict[str, Schema]]:
    """The document's path items, each body with its example, and the schemas they refer to."""
    shapes = {id(s): s for o in OPERATIONS for _, by in o.answers.values() for s in by.values()}
    made, definitions = schemas_of([*shapes.values(), ProblemDocument])
    # such as `attempts`
    definitions["Problem"] = {**definitions.pop("ProblemDocument"), "additionalProperties": True}
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        responses: Schema = {
            status: {"$ref": "#/components/responses/Problem"}
            for status in operation.problems.split()
        }
        for status, (told, bodies) in operation.answers.items():
            answer: Schema = {"description": told, "headers": {"X-Correlation-ID": TRACE_ID_HEADER}}
            if bodies:
                answer["content"] = {
                    media: {"schema": made[shape], "example": example(made[shape], definitions)}
                    for media, shape in bodies.items()
                }
            responses[str(status)] = answer
        item: Schema = {
            "operationId": operation.id,
            "tags": [operation.tag],
            "summary": operation.summary,
            "parameters": parameters_of(operation.asked, operation.path) if operation.asked else [],
            "responses": responses,
        }
        if operation.body:
            item["requestBody"] = operation.body
        if operation.description:
            item["description"] = operation.description
        if operation.security:
            item["security"] = [{name: []} if name else {} for name in operation.security]
        paths.setdefault(operation.path, {})["post" if operation.body else "get"] = item
    return paths, definitions
