"""The shapes of the API's answers, as JSON Schema 2020-12 (OpenAPI 3.1)."""

from __future__ import annotations

from typing import Final

from ...telemetry.vocabulary import BREAKER_STATES, ERROR_TYPES, OUTCOMES, SOURCES, STAGES
from .examples import PROBLEM
from .shapes import (
    FLAG,
    LABELS,
    MAYBE_FLAG,
    MAYBE_TEXT,
    MAYBE_TIME,
    NUMBER,
    TALLY,
    TEXT,
    TIME,
    Schema,
    listed,
    ref,
    shape,
)


def _maybe(schema: Schema) -> Schema:
    return {"oneOf": [schema, {"type": "null"}]}


def _block(data: str) -> Schema:
    properties: Schema = {
        "window": ref("Window"),
        **_BLOCK_PROPERTIES,
        "data": _maybe(ref(data)),
    }
    return shape(properties, optional=("reason",))


_BLOCK_PROPERTIES: Final[Schema] = {
    "status": {"enum": ["ok", "no_data"]},
    "as_of": TIME,
    "age_s": {"type": "number", "minimum": 0},
    "stale": {**FLAG, "description": "Asking again failed; these are the last good numbers."},
    "partial": {**FLAG, "description": "Some queries failed; `missing` says which and why."},
    "missing": LABELS,
    "reason": TEXT,
}
# A block inside of `/metrics`, which may also be unavailable while others are not.
_INNER_BLOCK: Final[Schema] = {
    "type": "object",
    "properties": {
        **_BLOCK_PROPERTIES,
        "status": {"enum": ["ok", "no_data", "unavailable"]},
        "as_of": MAYBE_TIME,
        "data": {"type": ["object", "null"]},
    },
    "required": ["status", "as_of", "data"],
    "additionalProperties": False,
}
_BLOCK_NAMES: Final = (
    "health",
    "performance",
    "circuit_breaker",
    "browser_contexts",
    "proxy",
    "alerts",
)

_REQUEST: Final = shape(
    {
        "trace_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
        "duration_s": {"type": "number"},
        "at": TIME,
        "outcome": MAYBE_TEXT,
        "source": MAYBE_TEXT,
    }
)
_SERIES: Final = shape(
    {
        "name": TEXT,
        "labels": LABELS,
        "unit": TEXT,
        "start": TIME,
        "step_s": {"type": "integer"},
        "values": {**listed(NUMBER), "maxItems": 721},
    },
    description="A chart line: value `i` belongs to `start + i × step_s`.",
)
_PERFORMANCE: Final = shape(
    {
        "requests": shape(
            {
                "total": NUMBER,
                "rate_per_s": NUMBER,
                "success_ratio": {
                    **NUMBER,
                    "description": "Of the requests that could succeed: videos without "
                    "captions and callers' mistakes stay out.",
                },
                "p50_s": NUMBER,
                "p95_s": NUMBER,
                "outcomes": TALLY,
                "sources": TALLY,
                "errors": TALLY,
            }
        ),
        "stages": listed(
            shape(
                {
                    "stage": {"enum": list(STAGES)},
                    "attempts": NUMBER,
                    "success_ratio": NUMBER,
                    "p50_s": NUMBER,
                    "p95_s": NUMBER,
                    "outcomes": TALLY,
                    "errors": TALLY,
                    "skipped": TALLY,
                }
            )
        ),
        "slow_requests": listed(_REQUEST),
        "failed_requests": listed(_REQUEST),
        "series": listed(ref("Series")),
    }
)
_BREAKERS: Final = shape(
    {
        "breakers": listed(
            shape(
                {
                    "name": {"enum": list(STAGES)},
                    "state": {"enum": [*BREAKER_STATES, None]},
                    "workers": TALLY,
                    "calls": TALLY,
                    "transitions": {
                        "type": ["array", "null"],
                        "items": shape({"from": TEXT, "to": TEXT, "count": {"type": "number"}}),
                    },
                    "recovery_p50_s": NUMBER,
                    "recovery_p95_s": NUMBER,
                }
            )
        ),
        "timeline": listed(
            shape(
                {
                    "name": TEXT,
                    "segments": listed(shape({"state": MAYBE_TEXT, "start": TIME, "end": TIME})),
                }
            )
        ),
    }
)
_BROWSERS: Final = shape(
    {
        "contexts": listed(shape({"profile": TEXT, "state": TEXT, "count": {"type": "number"}})),
        "limit": NUMBER,
        "memory_bytes": NUMBER,
        "created": TALLY,
        "closed": TALLY,
        "leases": NUMBER,
        "reuse_ratio": NUMBER,
        "wait_p50_s": NUMBER,
        "wait_p95_s": NUMBER,
        "age_p95_s": NUMBER,
        "uses_mean": NUMBER,
        "series": listed(ref("Series")),
    }
)
_PROXY: Final = shape(
    {
        "pool": TALLY,
        "rotations": TALLY,
        "proxies": listed(
            shape({"proxy": TEXT, "probes": TALLY, "p50_s": NUMBER, "p95_s": NUMBER})
        ),
        "success_ratio": shape({"with_proxy": NUMBER, "direct": NUMBER}),
        "series": listed(ref("Series")),
    }
)
_HEALTH: Final = shape(
    {
        "verdict": {"enum": ["healthy", "degraded", "unhealthy", "unknown"]},
        "checks": listed(
            shape(
                {
                    "name": TEXT,
                    "level": {"enum": ["ok", "warn", "fail", "unknown"]},
                    "text": TEXT,
                    "value": NUMBER,
                }
            )
        ),
        "workers": NUMBER,
        "telemetry_age_s": NUMBER,
        "engines": {"type": ["object", "null"], "additionalProperties": FLAG},
        "redaction_failures": NUMBER,
        "logs_suppressed": NUMBER,
    }
)
_ALERT: Final[Schema] = {
    "alertname": TEXT,
    "severity": MAYBE_TEXT,
    "state": MAYBE_TEXT,
    "since": MAYBE_TEXT,
    "labels": LABELS,
    "last_notified": MAYBE_TIME,
    "next_repeat_at_earliest": MAYBE_TIME,
    "runbook_url": MAYBE_TEXT,
    "dashboard_url": MAYBE_TEXT,
}
_ALERTS: Final = shape(
    {
        "active": listed(
            shape(
                {
                    **_ALERT,
                    "summary": MAYBE_TEXT,
                    "description": MAYBE_TEXT,
                    "silenced": MAYBE_FLAG,
                    "inhibited": MAYBE_FLAG,
                }
            )
        ),
        "firing": {"type": "integer"},
        "history": listed(shape(_ALERT)),
    }
)
_SPAN: Final = shape(
    {
        "span_id": TEXT,
        "parent_id": TEXT,
        "name": TEXT,
        "service": MAYBE_TEXT,
        "kind": {"enum": ["internal", "server", "client", "producer", "consumer"]},
        "start_s": {"type": "number", "description": "After the trace's start."},
        "duration_s": {"type": "number"},
        "depth": {"type": "integer"},
        "error": FLAG,
        "status_message": MAYBE_TEXT,
        "attributes": {"type": "object"},
        "events": listed(
            shape({"name": TEXT, "at_s": {"type": "number"}, "attributes": {"type": "object"}})
        ),
    }
)
_LINE: Final = shape(
    {
        "at": TIME,
        "offset_s": {
            "type": "number",
            "description": "After the trace's start, or the first line's while there is no trace.",
        },
        "level": TEXT,
        "span_id": MAYBE_TEXT,
        "text": TEXT,
        "attributes": LABELS,
    }
)


def _part(items: Schema) -> Schema:
    return shape(
        {
            "status": {"enum": ["ok", "no_data", "unavailable"]},
            "data": {"type": ["array", "null"], "items": items},
        }
    )


_PROBLEM: Final = shape(
    {
        "type": {"type": "string", "format": "uri-reference"},
        "title": TEXT,
        "status": {"type": "integer"},
        "detail": TEXT,
        "instance": TEXT,
        "code": {**TEXT, "description": "Stable word for programs."},
        "trace_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    },
)
_PROBLEM["additionalProperties"] = True  # such as `attempts`

_ATTEMPT: Final = shape(
    {
        "stage": {"enum": list(STAGES)},
        "outcome": {"enum": list(OUTCOMES)},
        "error_type": {"enum": [*ERROR_TYPES, None]},
        "duration_s": {"type": "number"},
        "profile": MAYBE_TEXT,
        "proxy_used": FLAG,
    }
)
_TRANSCRIPT: Final = shape(
    {
        "video_id": TEXT,
        "source": {"enum": list(SOURCES)},
        "language": TEXT,
        "kind": {"enum": ["manual", "asr", "speech"]},
        "track": MAYBE_TEXT,
        "translated_from": MAYBE_TEXT,
        "segments": listed(
            shape({"start": {"type": "number"}, "duration": {"type": "number"}, "text": TEXT})
        ),
        "available": listed(shape({"language": TEXT, "kind": TEXT, "name": TEXT})),
        "attempts": listed(ref("Attempt")),
        "cached": FLAG,
        "trace_id": TEXT,
    }
)
_JOB: Final = shape(
    {
        "id": TEXT,
        "state": {"enum": ["queued", "running", "succeeded", "failed"]},
        "video_id": TEXT,
        "languages": listed(TEXT),
        "translate": MAYBE_TEXT,
        "track": MAYBE_TEXT,
        "stage": {"enum": [*STAGES, None]},
        "attempts": listed(ref("Attempt")),
        "created_at": TIME,
        "started_at": MAYBE_TIME,
        "finished_at": MAYBE_TIME,
        "error": {
            "oneOf": [
                shape({"code": {"enum": list(ERROR_TYPES)}, "detail": TEXT}),
                {"type": "null"},
            ]
        },
        "trace_id": TEXT,
        "result": ref("Transcript"),
    },
    optional=("result",),
)

SCHEMAS: Final[dict[str, Schema]] = {
    "Problem": _PROBLEM,
    "Window": shape(
        {
            "hours": {"type": "number"},
            "start": TIME,
            "end": TIME,
            "step_s": {"type": "integer"},
            "stage": {"enum": [*STAGES, None]},
        }
    ),
    "Series": _SERIES,
    "Overview": shape(
        {
            "window": ref("Window"),
            "partial": FLAG,
            "stale": FLAG,
            "age_s": NUMBER,
            "blocks": shape(dict.fromkeys(_BLOCK_NAMES, _INNER_BLOCK)),
        }
    ),
    "Performance": _PERFORMANCE,
    "CircuitBreaker": _BREAKERS,
    "BrowserContexts": _BROWSERS,
    "Proxy": _PROXY,
    "Health": _HEALTH,
    "Alerts": _ALERTS,
    "PerformanceBlock": _block("Performance"),
    "CircuitBreakerBlock": _block("CircuitBreaker"),
    "BrowserContextsBlock": _block("BrowserContexts"),
    "ProxyBlock": _block("Proxy"),
    "HealthBlock": _block("Health"),
    "AlertsBlock": _block("Alerts"),
    "Trace": shape(
        {
            "trace_id": TEXT,
            "partial": FLAG,
            "start": MAYBE_TIME,
            "duration_s": NUMBER,
            "spans": _part(_SPAN),
            "logs": _part(_LINE),
        }
    ),
    "Attempt": _ATTEMPT,
    "Transcript": _TRANSCRIPT,
    "Job": _JOB,
}

RESPONSES: Final[dict[str, Schema]] = {
    "Problem": {
        "description": "It did not work; `code` says why.",
        "headers": {
            "X-Correlation-ID": {"description": "The trace id.", "schema": TEXT},
            "Retry-After": {
                "description": "Seconds after which trying again makes sense.",
                "schema": {"type": "integer"},
            },
        },
        "content": {"application/problem+json": {"schema": ref("Problem"), "example": PROBLEM}},
    }
}
