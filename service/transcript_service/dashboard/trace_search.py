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
from .inputs import MOST_TRACES, Search
from .traces import spans_of
from .upstream import UpstreamError, understanding

_REQUEST: Final = "transcript.fetch"
_STAGE: Final = "transcript.stage"
_QUESTIONS: Final = 5
"""To Jaeger for one search: it looks at 850 traces at most where 50 are wanted."""


def find_traces(engines: Engines, search: Search) -> shapes.TraceList:
    """The newest traces that are as asked for.

    Jaeger's newest may all be beside the question: then it is asked for older ones, a few times.

    Raises:
        UpstreamError: Jaeger did not answer usefully in time.
    """
    start, end = search.within()
    deadline = engines.deadline()
    found: dict[str, shapes.FoundTrace] = {}
    whole, partial = True, True
    until, limit = end, search.limit
    for already in range(_QUESTIONS):
        question = _question(search, engines.service, start, until, limit)
        try:
            answer = engines.jaeger.json("/api/traces", question, deadline)
            with understanding("/api/traces"):
                traces = [_described(trace) for trace in answer["data"] or ()]
        except UpstreamError:
            if already:
                break
            raise
        known = [trace for trace in traces if trace is not None]
        # The request of a trace may not have come yet.
        whole = whole and len(known) == len(traces)
        found |= {trace["trace_id"]: trace for _, trace in known if _fits(trace, search)}
        if len(traces) < limit:
            partial = not whole or len(found) > search.limit
            break
        oldest = min((at for at, _ in known), default=until)
        if len(found) >= search.limit or oldest >= until:
            break
        until, limit = oldest, MOST_TRACES
    shown = sorted(found.values(), key=lambda trace: trace["at"], reverse=True)
    return {
        "start": rfc3339(start, "milliseconds"),
        "end": rfc3339(end, "milliseconds"),
        "partial": partial,
        "traces": shown[: search.limit],
    }


def _question(search: Search, service: str, start: float, end: float, limit: int) -> dict[str, str]:
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
        "limit": str(limit),
        "tags": orjson.dumps({k: v for k, v in attributes.items() if v is not None}).decode(),
    }
    if search.min_s is not None:
        question["minDuration"] = f"{round(search.min_s * 1e6)}us"
    if search.max_s is not None:
        question["maxDuration"] = f"{round(search.max_s * 1e6)}us"
    return question


def _described(trace: Mapping[str, Any]) -> tuple[float, shapes.FoundTrace] | None:
    """What a trace says about its request, and when that began; `None` while it has no span."""
    spans = sorted(spans_of(trace), key=lambda span: span["start"])
    request = next((span for span in spans if span["name"] == _REQUEST), None)
    if request is None:
        return None
    attributes = request["attributes"]
    return request["start"], {
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
