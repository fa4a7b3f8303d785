"""Requests that were traced, found by what is known of them.

By Jaeger's own HTTP API: the newer `/api/v3/traces` of this version ignores attributes over
HTTP. Jaeger matches the parts of a search anywhere in a trace; what is shown here is checked
once more, against the request's span or, where a stage is asked for, that stage's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from ..rfc3339 import rfc3339
from . import shapes
from .engines import Engines
from .inputs import Search
from .traces import spans_of
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
    spans = sorted(spans_of(trace), key=lambda span: span["start"])
    request = next((span for span in spans if span["name"] == _REQUEST), None)
    if request is None:
        return None
    attributes = request["attributes"]
    return {
        "trace_id": trace["traceID"],
        "at": rfc3339(request["start"], "milliseconds"),
        "duration_s": request["duration_s"],
        "video_id": attributes.get("video_id"),
        "outcome": attributes.get("outcome"),
        "error_type": attributes.get("error.type"),
        "source": attributes.get("source"),
        "worker": request["worker"],
        "stages": [_attempt(span) for span in spans if span["name"] == _STAGE],
        "spans": len(spans),
    }


def _attempt(span: Mapping[str, Any]) -> shapes.StageAttempt:
    attributes = span["attributes"]
    return {
        "stage": str(attributes.get("stage")),
        "outcome": attributes.get("outcome"),
        "error_type": attributes.get("error.type"),
        "duration_s": span["duration_s"],
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
