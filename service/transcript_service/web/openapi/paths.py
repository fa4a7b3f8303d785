"""The operations of the API."""

from __future__ import annotations

from typing import Any, Final

from ...dashboard.board import SCOPE_OF
from ...dashboard.routes import BLOCK_PATHS, EXPORT_SCOPE, OVERVIEW_SCOPE, TRACE_SCOPE
from ...dashboard.window import MAX_HOURS
from ...telemetry.vocabulary import STAGES
from .examples import NOTIFICATION, add_to
from .shapes import Schema, ref, shape

_PROBLEM: Final[Schema] = {"$ref": "#/components/responses/Problem"}
_WINDOW: Final[list[Schema]] = [
    {
        "name": "hours",
        "in": "query",
        "description": f"How far back to look: above 0, at most {MAX_HOURS}.",
        "schema": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": MAX_HOURS,
            "default": 1,
        },
        "examples": {"hour": {"value": 1}, "quarter": {"value": 0.25}, "week": {"value": 168}},
    },
    {
        "name": "stage",
        "in": "query",
        "description": "Look at one stage only.",
        "schema": {"enum": list(STAGES)},
        "example": STAGES[0],
    },
]
_SUMMARIES: Final = {
    "health": "Is it healthy, and what does that rest on",
    "performance": "Requests, stages, P50 and P95, errors, slow and failed requests",
    "circuit_breaker": "State, calls, transitions and recovery of every breaker",
    "browser_contexts": "The browser pool: contexts, memory, waiting",
    "proxy": "The proxy pool by masked id",
    "alerts": "Active alerts with their runbooks, and the history of notifications",
}


def _ok(description: str, content: Schema) -> Schema:
    return {
        "description": description,
        "headers": {
            "X-Correlation-ID": {"description": "The trace id.", "schema": {"type": "string"}}
        },
        "content": content,
    }


def _guarded(
    operation: str, summary: str, scope: str, answer: Schema, parameters: list[Schema]
) -> Schema:
    return {
        "get": {
            "operationId": operation,
            "tags": ["dashboard"],
            "summary": summary,
            "description": f"Needs the scope `{scope}`.",
            "security": [{"token": []}],
            "parameters": parameters,
            "responses": {
                "200": answer,
                "304": {"description": "Nothing new since the ETag that was sent."},
                **dict.fromkeys(
                    ("400", "401", "403", "404", "429", "500", "502", "503", "504"), _PROBLEM
                ),
            },
        }
    }


def _json(schema: str) -> Schema:
    return {"application/json": {"schema": ref(schema)}}


def _blocks() -> dict[str, Any]:
    return {
        f"/api/dashboard/metrics/{path}": _guarded(
            name,
            _SUMMARIES[name],
            SCOPE_OF[name],
            _ok("The block.", _json(f"{name.title().replace('_', '')}Block")),
            _WINDOW,
        )
        for path, name in BLOCK_PATHS.items()
    }


# The most usual form of URL; more are understood (`transcripts/video_id.py`).
_WATCH_URL: Final = r"https://(www\.|m\.)?youtube\.com/watch\?v=[A-Za-z0-9_-]{11}"
_LANGUAGE: Final = "[A-Za-z]{2,3}([-_][A-Za-z0-9][A-Za-z0-9_-]{0,31})?"

# Anything that can be printed; of the world's letters a few ranges stand for all.
_NAME_CHARACTERS: Final = "!-~À-ɏА-яא-תぁ-ん一-龥가-힣"
_TRACK_NAME: Final = f"^[{_NAME_CHARACTERS}]([ {_NAME_CHARACTERS}]*[{_NAME_CHARACTERS}])?$"

_TRANSCRIPT: Final[Schema] = {
    "get": {
        "operationId": "transcript",
        "tags": ["transcripts"],
        "summary": "The transcript of a video",
        "parameters": [
            {
                "name": "video",
                "in": "path",
                "required": True,
                "description": "An 11-character id, or any form of YouTube URL.",
                "schema": {
                    "anyOf": [
                        {"type": "string", "pattern": "^[A-Za-z0-9_-]{11}$"},
                        {"type": "string", "pattern": f"^{_WATCH_URL}$"},
                    ]
                },
                "example": "dQw4w9WgXcQ",
            },
            {
                "name": "lang",
                "in": "query",
                "description": "Wanted languages, most wanted first; ten at most.",
                "schema": {"type": "string", "pattern": f"^{_LANGUAGE}(,{_LANGUAGE}){{0,9}}$"},
                "example": "en,de",
            },
            {
                "name": "translate",
                "in": "query",
                "description": "Have YouTube translate the chosen captions into this language; "
                "`translated_from` says what they were. Captions that are in it already are "
                "given as they are.",
                "schema": {"type": "string", "pattern": f"^{_LANGUAGE}$"},
                "examples": {"german": {"value": "de"}},
            },
            {
                "name": "track",
                "in": "query",
                "description": "Only the caption track of this name, as `available` lists it "
                "or without its language: `English - Dialogue` or `Dialogue`.",
                "schema": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 200,
                    "pattern": "^[!-~]([ -~]*[!-~])?$",
                },
                "examples": {"dialogue": {"value": "Dialogue"}},
            },
            {
                "name": "format",
                "in": "query",
                "schema": {"enum": ["json", "srt", "vtt", "text"], "default": "json"},
                "example": "srt",
            },
            {
                "name": "Prefer",
                "in": "header",
                "description": "`respond-async` (RFC 7240): answer at once with a job.",
                "schema": {"type": "string"},
                "example": "respond-async",
            },
        ],
        "responses": {
            "200": _ok(
                "The transcript.",
                {
                    "application/json": {"schema": ref("Transcript")},
                    **{
                        media: {"schema": {"type": "string"}}
                        for media in ("application/x-subrip", "text/vtt", "text/plain")
                    },
                },
            ),
            "202": _ok("To be answered later.", {"application/json": {"schema": ref("Job")}}),
            **dict.fromkeys(("400", "403", "404", "429", "500", "502", "503", "504"), _PROBLEM),
        },
    }
}
_JOB: Final[Schema] = {
    "get": {
        "operationId": "job",
        "tags": ["transcripts"],
        "summary": "How a request that is answered later is getting on",
        "parameters": [
            {
                "name": "job_id",
                "in": "path",
                "required": True,
                "description": "As the 202 answer gave it.",
                "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
                "example": "0123456789abcdef0123456789abcdef",
            }
        ],
        "responses": {
            "200": _ok(
                "The job, with its result once it has succeeded.",
                {"application/json": {"schema": ref("Job")}},
            ),
            **dict.fromkeys(("404", "500"), _PROBLEM),
        },
    }
}


def _health(name: str, summary: str, schema: Schema, *also: str) -> Schema:
    content = {"application/json": {"schema": schema}}
    return {
        "get": {
            "operationId": name,
            "tags": ["health"],
            "summary": summary,
            "responses": {status: _ok(summary, content) for status in ("200", *also)},
        }
    }


_COUNTS: Final = ("accepted", "duplicates", "rejected")
_WEBHOOK: Final[Schema] = {
    "post": {
        "operationId": "receiveAlerts",
        "tags": ["alerts"],
        "summary": "A notification of Alertmanager",
        "description": "With the token of `ALERT_WEBHOOK_TOKEN_FILE`, which is none of those "
        "that open the dashboard.",
        "security": [{"webhookToken": []}],
        "requestBody": {
            "required": True,
            "description": "Alertmanager's webhook form, version 4. An alert that cannot be used "
            "is counted as rejected and does not keep the others from being recorded.",
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": {"version": {"const": "4"}, "alerts": {"type": "array"}},
                        "required": ["version", "alerts"],
                    },
                    "example": NOTIFICATION,
                }
            },
        },
        "responses": {
            "200": _ok(
                "Recorded.",
                {
                    "application/json": {
                        "schema": shape({word: {"type": "integer"} for word in _COUNTS})
                    }
                },
            ),
            **dict.fromkeys(("400", "401", "413", "415", "500", "503"), _PROBLEM),
        },
    }
}
_STATUS: Final[Schema] = {
    "type": "object",
    "properties": {"status": {"type": "string"}},
    "required": ["status"],
}


def _page(operation: str, summary: str, parameters: list[Schema]) -> Schema:
    problems = dict.fromkeys(("404",) if parameters else (), _PROBLEM)
    return {
        "get": {
            "operationId": operation,
            "tags": ["alerts"],
            "summary": summary,
            "parameters": parameters,
            "responses": {
                "200": _ok("A page.", {"text/html": {"schema": {"type": "string"}}}),
                **problems,
            },
        }
    }


_PATHS: Final[dict[str, Any]] = {
    "/api/transcripts/{video}": _TRANSCRIPT,
    "/api/jobs/{job_id}": _JOB,
    "/api/dashboard/metrics": _guarded(
        "overview",
        "Everything at once",
        OVERVIEW_SCOPE,
        _ok("All blocks; those the token does not open say so.", _json("Overview")),
        _WINDOW,
    ),
    **_blocks(),
    "/api/dashboard/metrics/export": _guarded(
        "export",
        "The service's metrics as text, for a second Prometheus (honor_labels: true)",
        EXPORT_SCOPE,
        _ok(
            "Text exposition; OpenMetrics where Accept prefers it.",
            {
                media: {"schema": {"type": "string"}}
                for media in ("text/plain", "application/openmetrics-text")
            },
        ),
        [],
    ),
    "/api/dashboard/traces/{trace_id}": _guarded(
        "trace",
        "One request: its spans and its log lines",
        TRACE_SCOPE,
        _ok("What has arrived of it.", _json("Trace")),
        [
            {
                "name": "trace_id",
                "in": "path",
                "required": True,
                "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
                "example": "4bf92f3577b34da6a3ce929d0e0e4736",
            }
        ],
    ),
    "/api/alerts/webhook": _WEBHOOK,
    "/runbooks": _page("runbooks", "What to do about each alert: the list", []),
    "/runbooks/{name}": _page(
        "runbook",
        "What to do about one alert",
        [
            {
                "name": "name",
                "in": "path",
                "required": True,
                "description": "The alert's name.",
                "schema": {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9]{0,99}$"},
                "example": "CircuitBreakerOpenTooLong",
            }
        ],
    ),
    "/health/live": _health("live", "The process answers", _STATUS),
    "/health/ready": _health("ready", "It can do its work", _STATUS, "503"),
    "/api/openapi.json": {
        "get": {
            "operationId": "openapi",
            "summary": "This document",
            "responses": {
                "200": _ok("OpenAPI 3.1.", {"application/json": {"schema": {"type": "object"}}})
            },
        }
    },
}

PATHS: Final = add_to(_PATHS)
