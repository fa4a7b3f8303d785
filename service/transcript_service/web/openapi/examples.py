"""An example of every body that the API takes or gives, by operation and media type.

Kept true by a contract test, which validates each against its schema.
"""

from __future__ import annotations

from typing import Any, Final

_TRACE_ID: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
_WINDOW: Final = {
    "hours": 1.0,
    "start": "2026-11-24T17:00:00Z",
    "end": "2026-11-24T18:00:00Z",
    "step_s": 30,
    "stage": None,
}
_FRESH: Final = {
    "status": "ok",
    "as_of": "2026-11-24T18:00:00Z",
    "age_s": 4.2,
    "stale": False,
    "partial": False,
    "missing": {},
}


def _line(name: str, unit: str, labels: dict[str, str], values: list[float | None]) -> Any:
    """The start of a chart line; a real one has a value for each step of the window."""
    start = {"start": _WINDOW["start"], "step_s": 30}
    return {"name": name, "labels": labels, "unit": unit, **start, "values": values}


_DATA: Final[dict[str, Any]] = {
    "health": {
        "verdict": "degraded",
        "checks": [
            {"name": "telemetry", "level": "ok", "text": "2 workers reporting.", "value": 2.0},
            {"name": "breakers", "level": "warn", "text": "Open: youtube_api.", "value": 1.0},
        ],
        "workers": 2.0,
        "telemetry_age_s": 6.1,
        "engines": {"jaeger": True, "victorialogs": True, "otel-collector": True},
        "redaction_failures": 0.0,
        "logs_suppressed": 0.0,
    },
    "performance": {
        "requests": {
            "total": 1840.0,
            "rate_per_s": 0.511,
            "success_ratio": 0.981,
            "p50_s": 0.42,
            "p95_s": 6.1,
            "outcomes": {"success": 1760.0, "no_captions": 46.0, "blocked": 34.0},
            "sources": {"youtube_api": 1580.0, "timedtext": 180.0},
            "errors": {"transcripts_disabled": 46.0, "ip_blocked": 34.0},
        },
        "stages": [
            {
                "stage": "youtube_api",
                "attempts": 1840.0,
                "success_ratio": 0.9,
                "p50_s": 0.38,
                "p95_s": 0.94,
                "outcomes": {"success": 1580.0, "blocked": 214.0, "no_captions": 46.0},
                "errors": {"ip_blocked": 214.0, "transcripts_disabled": 46.0},
                "skipped": {},
            }
        ],
        "slow_requests": [
            {
                "trace_id": _TRACE_ID,
                "duration_s": 12.4,
                "at": "2026-11-24T17:41:09Z",
                "outcome": "success",
                "source": "timedtext",
            }
        ],
        "failed_requests": [],
        "series": [_line("stage_p95", "s", {"stage": "youtube_api"}, [0.9, 0.94, None])],
    },
    "circuit_breaker": {
        "breakers": [
            {
                "name": "youtube_api",
                "state": "open",
                "workers": {"open": 1.0, "closed": 1.0},
                "calls": {"successful": 1580.0, "failed": 214.0},
                "transitions": [{"from": "closed", "to": "open", "count": 1.0}],
                "recovery_p50_s": None,
                "recovery_p95_s": None,
            }
        ],
        "timeline": [
            {
                "name": "youtube_api",
                "segments": [
                    {"state": "closed", "start": _WINDOW["start"], "end": "2026-11-24T17:52:00Z"},
                    {"state": "open", "start": "2026-11-24T17:52:00Z", "end": _WINDOW["end"]},
                ],
            }
        ],
    },
    "browser_contexts": {
        "contexts": [
            {"profile": "desktop", "state": "idle", "count": 1.0},
            {"profile": "desktop", "state": "leased", "count": 2.0},
        ],
        "limit": 4.0,
        "memory_bytes": 429916160.0,
        "created": {"desktop": 9.0},
        "closed": {"uses": 5.0, "age": 1.0},
        "leases": 412.0,
        "reuse_ratio": 0.978,
        "wait_p50_s": 0.002,
        "wait_p95_s": 0.3,
        "age_p95_s": 1660.0,
        "uses_mean": 47.0,
        "series": [_line("contexts", "{context}", {"state": "leased"}, [2.0, 1.0, 2.0])],
    },
    "proxy": {
        "pool": {"healthy": 3.0, "quarantined": 1.0},
        "rotations": {"ip_blocked": 4.0},
        "proxies": [
            {"proxy": "p-7f3a91", "probes": {"success": 118.0}, "p50_s": 0.2, "p95_s": 0.6}
        ],
        "success_ratio": {"with_proxy": 0.97, "direct": None},
        "series": [],
    },
    "alerts": {
        "active": [
            {
                "alertname": "CircuitBreakerOpenTooLong",
                "severity": "critical",
                "state": "firing",
                "since": "2026-11-24T17:57:05Z",
                "labels": {"name": "youtube_api"},
                "last_notified": "2026-11-24T17:57:35Z",
                "next_repeat_at_earliest": "2026-11-24T18:12:35Z",
                "runbook_url": "http://127.0.0.1:5000/runbooks/CircuitBreakerOpenTooLong",
                "dashboard_url": "http://127.0.0.1:5000/dashboard?stage=youtube_api",
                "summary": "A circuit breaker stays open.",
                "description": "The breaker of stage youtube_api has been open for 5 minutes.",
                "silenced": False,
                "inhibited": False,
            }
        ],
        "firing": 1,
        "history": [],
    },
}


def _block(name: str) -> Any:
    return {"window": _WINDOW, **_FRESH, "data": _DATA[name]}


_ATTEMPT: Final = {
    "stage": "youtube_api",
    "outcome": "success",
    "error_type": None,
    "duration_s": 0.413,
    "profile": None,
    "proxy_used": False,
}
_TRANSCRIPT: Final = {
    "video_id": "dQw4w9WgXcQ",
    "source": "youtube_api",
    "language": "en",
    "kind": "manual",
    "track": "English",
    "translated_from": None,
    "segments": [{"start": 0.4, "duration": 2.6, "text": "This is film number 1."}],
    "available": [{"language": "en", "kind": "manual", "name": "English"}],
    "attempts": [_ATTEMPT],
    "cached": False,
    "trace_id": _TRACE_ID,
}
_QUEUED: Final = {
    "id": "0123456789abcdef0123456789abcdef",
    "state": "queued",
    "video_id": "dQw4w9WgXcQ",
    "languages": ["en"],
    "translate": None,
    "track": None,
    "stage": None,
    "attempts": [],
    "created_at": "2026-11-24T17:59:58.120Z",
    "started_at": None,
    "finished_at": None,
    "error": None,
    "trace_id": _TRACE_ID,
}
_PAGE: Final = '<!doctype html><html lang="en"><main><h1>{}</h1></main></html>'

# By operation: an example for each media type of its good answers, and where statuses
# differ, for each status.
ANSWERS: Final[dict[str, dict[str, Any]]] = {
    "transcript": {
        "application/json": _TRANSCRIPT,
        "application/x-subrip": "1\n00:00:00,400 --> 00:00:03,000\nThis is film number 1.\n",
        "text/vtt": "WEBVTT\n\nNOTE Language: en\n\n00:00:00.400 --> 00:00:03.000\n"
        "This is film number 1.\n",
        "text/plain": "This is film number 1.\n",
    },
    "transcript 202": {"application/json": _QUEUED},
    "job": {
        "application/json": {
            **_QUEUED,
            "state": "succeeded",
            "stage": "youtube_api",
            "attempts": [_ATTEMPT],
            "started_at": "2026-11-24T17:59:58.131Z",
            "finished_at": "2026-11-24T17:59:58.544Z",
            "result": _TRANSCRIPT,
        }
    },
    "overview": {
        "application/json": {
            "window": _WINDOW,
            "partial": False,
            "stale": False,
            "age_s": 4.2,
            "blocks": {
                **{name: {**_FRESH, "data": data} for name, data in _DATA.items()},
                "proxy": {"status": "unavailable", "as_of": None, "data": None, "reason": "scope"},
            },
        }
    },
    **{name: {"application/json": _block(name)} for name in _DATA},
    "export": {
        "text/plain": "# TYPE transcript_requests_total counter\n"
        'transcript_requests_total{outcome="success",source="youtube_api"} 1580\n',
        "application/openmetrics-text": "# TYPE transcript_requests counter\n"
        'transcript_requests_total{outcome="success",source="youtube_api"} 1580\n# EOF\n',
    },
    "trace": {
        "application/json": {
            "trace_id": _TRACE_ID,
            "partial": False,
            "start": "2026-11-24T17:41:09Z",
            "duration_s": 12.4,
            "spans": {
                "status": "ok",
                "data": [
                    {
                        "span_id": "00f067aa0ba902b7",
                        "parent_id": "",
                        "name": "GET /api/transcripts/<path:video>",
                        "service": "tldw-transcript-service",
                        "kind": "server",
                        "start_s": 0.0,
                        "duration_s": 12.4,
                        "depth": 0,
                        "error": False,
                        "status_message": None,
                        "attributes": {"http.response.status_code": 200},
                        "events": [],
                    }
                ],
            },
            "logs": {
                "status": "ok",
                "data": [
                    {
                        "at": "2026-11-24T17:41:21Z",
                        "offset_s": 12.39,
                        "level": "info",
                        "span_id": "00f067aa0ba902b7",
                        "text": "transcript.request.finished",
                        "attributes": {"outcome": "success", "source": "timedtext"},
                    }
                ],
            },
        }
    },
    "receiveAlerts": {"application/json": {"accepted": 1, "duplicates": 0, "rejected": 0}},
    "runbooks": {"text/html": _PAGE.format("Runbooks")},
    "runbook": {"text/html": _PAGE.format("CircuitBreakerOpenTooLong")},
    "live": {"application/json": {"status": "ok"}},
    "ready": {"application/json": {"status": "ok", "checks": {"state_dir": "ok"}}},
    "ready 503": {
        "application/json": {"status": "not_ready", "checks": {"state_dir": "not writable"}}
    },
    "openapi": {"application/json": {"openapi": "3.1.0", "info": {}, "paths": {}}},
}

NOTIFICATION: Final = {
    "version": "4",
    "status": "firing",
    "receiver": "service",
    "alerts": [
        {
            "status": "firing",
            "labels": {
                "alertname": "CircuitBreakerOpenTooLong",
                "severity": "critical",
                "name": "youtube_api",
            },
            "annotations": {"summary": "A circuit breaker stays open."},
            "startsAt": "2026-11-24T17:57:05Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "fingerprint": "9f00aa11bb22cc33",
        }
    ],
}
PROBLEM: Final = {
    "type": "/problems/invalid_parameter",
    "title": "Bad Request",
    "status": 400,
    "detail": "hours must be a decimal number above 0 and at most 168.",
    "instance": "/api/dashboard/metrics",
    "code": "invalid_parameter",
    "trace_id": _TRACE_ID,
}


def add_to(paths: dict[str, Any]) -> dict[str, Any]:
    """The paths, each good answer with its example.

    Raises:
        KeyError: an answer has none.
    """
    for path in paths.values():
        for operation in path.values():
            name = operation["operationId"]
            for status, answer in operation["responses"].items():
                examples = ANSWERS.get(f"{name} {status}", ANSWERS[name])
                for media, content in answer.get("content", {}).items():
                    content["example"] = examples[media]
    return paths
