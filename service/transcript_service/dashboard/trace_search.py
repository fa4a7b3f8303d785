"""Requests that were traced, found by what is known of them.

Jaeger's own HTTP API (https://www.jaegertracing.io/docs/2.13/architecture/apis/): the newer
`/api/v3/traces` of this version ignores attributes over HTTP. Jaeger matches the parts of a
search anywhere in a trace; what is shown here is checked once more, against the request's
span or, where a stage is asked for, that stage's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from ..rfc3339 import rfc3339
from . import shapes
from .engines import Engines
from .inputs import Search
from .upstream import understanding

_REQUEST: Final = "transcript.fetch"
_STAGE: Final = "transcript.stage"


def find_traces(engines: Engines, search: Search) -> shapes.TraceList:
    """The newest traces that are as asked for.

    Raises:
        UpstreamError: Jaeger did not answer usefully in time.
    """
    start, end = search.within()
    question = _question(search, engines.service, start, end)
    answer = engines.jaeger.json("/api/traces", question, engines.deadline())
    with understanding("/api/traces"):
        found = [_described(trace) for trace in answer["data"] or ()]
    shown = [trace for trace in found if trace is not None and _fits(trace, search)]
    shown.sort(key=lambda trace: trace["at"], reverse=True)
    return {
        "start": rfc3339(start, "milliseconds"),
        "end": rfc3339(end, "milliseconds"),
        # Jaeger stopped at the limit, or holds a trace of which the request has not come yet.
        "partial": len(found) >= search.limit or None in found,
        "traces": shown,
    }


def _question(search: Search, service: str, start: float, end: float) -> dict[str, str]:
    attributes = {
        "video_id": search.video,
        "stage": search.stage,
        "outcome": search.outcome,
        "error.type": search.error_type,
        "source": search.source,
    }
    question = {
        "service": service,
        "operation": _REQUEST,
        "start": str(int(start * 1e6)),
        "end": str(int(end * 1e6)),
        "limit": str(search.limit),
        "tags": orjson.dumps({k: v for k, v in attributes.items() if v is not None}).decode(),
    }
    if search.min_s is not None:
        question["minDuration"] = f"{round(search.min_s * 1e6)}us"
    if search.max_s is not None:
        question["maxDuration"] = f"{round(search.max_s * 1e6)}us"
    return question


def _described(trace: Mapping[str, Any]) -> shapes.FoundTrace | None:
    """What a trace says about its request; `None` while the request's span is not there."""
    request: Mapping[str, Any] | None = None
    stages: list[tuple[int, shapes.StageAttempt]] = []
    for span in trace["spans"]:
        tags = {tag["key"]: tag["value"] for tag in span["tags"]}
        if span["operationName"] == _REQUEST:
            request = {**span, "tags": tags}
        elif span["operationName"] == _STAGE:
            attempt: shapes.StageAttempt = {
                "stage": str(tags.get("stage")),
                "outcome": tags.get("outcome"),
                "error_type": tags.get("error.type"),
                "duration_s": int(span["duration"]) / 1e6,
            }
            stages.append((int(span["startTime"]), attempt))
    if request is None:
        return None
    tags = request["tags"]
    process = trace["processes"][request["processID"]]
    workers = {tag["key"]: tag["value"] for tag in process.get("tags", ())}
    return {
        "trace_id": str(trace["traceID"]),
        "at": rfc3339(int(request["startTime"]) / 1e6, "milliseconds"),
        "duration_s": int(request["duration"]) / 1e6,
        "video_id": tags.get("video_id"),
        "outcome": tags.get("outcome"),
        "error_type": tags.get("error.type"),
        "source": tags.get("source"),
        "worker": workers.get("service.instance.id"),
        "stages": [attempt for _, attempt in sorted(stages, key=lambda pair: pair[0])],
        "spans": len(trace["spans"]),
    }


def _fits(trace: shapes.FoundTrace, search: Search) -> bool:
    def as_asked(of: Mapping[str, Any]) -> bool:
        return search.outcome in (None, of["outcome"]) and search.error_type in (
            None,
            of["error_type"],
        )

    if search.stage is None:
        right = as_asked(trace)
    else:
        right = any(as_asked(a) for a in trace["stages"] if a["stage"] == search.stage)
    return (
        right
        and search.video in (None, trace["video_id"])
        and search.source in (None, trace["source"])
        and (search.min_s or 0.0) <= trace["duration_s"]
        and (search.max_s is None or trace["duration_s"] <= search.max_s)
    )
