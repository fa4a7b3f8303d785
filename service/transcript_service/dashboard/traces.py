"""Traced requests: one in full with its log lines, or many by what is known of them.

Jaeger's own HTTP API (https://www.jaegertracing.io/docs/2.13/architecture/apis/), because the
newer `/api/v3/traces` of this version ignores attributes over HTTP. Times are microseconds.
Kind, status and scope of a span stand among its tags, by the names of
https://opentelemetry.io/docs/specs/otel/common/mapping-to-non-otlp/.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from ..problem import Problem
from ..resilience.deadline import Deadline
from ..rfc3339 import rfc3339
from . import shapes
from .engines import Engines
from .inputs import MOST_TRACES, Search
from .log_search import line_of, read_logs, unix
from .queries import logsql
from .upstream import UpstreamError, UpstreamMissing, worst

MAX_LINES: Final = 500
# Log lines around a trace: written a little before its first span ends up there, or late.
_BEFORE_S: Final = 60
_AFTER_S: Final = 300
# How far back to look for lines when Jaeger cannot say when the trace was.
_WITHOUT_TRACE_S: Final = 6 * 3600
_REQUEST: Final = "transcript.fetch"
_STAGE: Final = "transcript.stage"
# How a search goes back in time: a week is five questions, the others are for what does not fit.
_FIRST_S: Final = 60
_WIDER: Final = 12
_QUESTIONS: Final = 10


def fetch_trace(engines: Engines, trace_id: str) -> dict[str, Any]:
    """The trace and its log lines, either of which may be missing with a reason.

    Raises:
        Problem: 404 `trace_not_found` when neither engine knows the id.
        UpstreamError: neither engine answered in the time an answer may take.
    """
    deadline = engines.deadline()
    failures: list[UpstreamError] = []
    spans: list[dict[str, Any]] | None = None
    try:
        spans = engines.jaeger.get(f"/api/traces/{trace_id}", {}, deadline, _all_spans)
    except UpstreamMissing:
        spans = []
    except UpstreamError as error:
        failures.append(error)
    lines: list[shapes.TraceLine] | None = None
    start, end = _extent(spans or [])
    try:
        lines = _lines(engines, trace_id, start, end, deadline, found=bool(spans))
    except UpstreamError as error:
        failures.append(error)
    if len(failures) == 2:
        raise worst(failures)
    if not spans and not lines and not failures:
        raise Problem(
            404,
            "trace_not_found",
            "No trace and no log line by that id: it may not have arrived yet, or is too old.",
            retry_after_s=5,
        )
    return {
        "trace_id": trace_id,
        "partial": bool(failures),
        "start": rfc3339(start) if spans else None,
        "duration_s": end - start if spans else None,
        "spans": {"status": _status(spans), "data": _offset(spans, start) if spans else None},
        "logs": {"status": _status(lines), "data": lines or None},
    }


def find_traces(engines: Engines, search: Search) -> shapes.TraceList:
    """The newest traces that are as asked for.

    Jaeger's time grows with all that its index has between start and end, however few are wanted:
    the newest minute is looked through first, then more. And it matches the parts of a search
    anywhere in a trace: what is shown is checked once more, against the request's span or, where a
    stage is asked for, that stage's. Its newest may all be beside the question: then it is asked
    for older ones.

    Raises:
        UpstreamError: Jaeger did not answer usefully in time.
    """
    start, end = search.within()
    deadline = engines.deadline()
    found: dict[str, shapes.FoundTrace] = {}
    whole, partial = True, True
    since, until, limit = max(start, end - _FIRST_S), end, search.limit
    for already in range(_QUESTIONS):
        question = _question(search, engines.service, since, until, limit)
        try:
            traces = engines.jaeger.get("/api/traces", question, deadline, _all_described)
        except UpstreamError:
            if already:
                break
            raise
        known = [trace for trace in traces if trace is not None]
        # The request of a trace may not have come yet.
        whole = whole and len(known) == len(traces)
        found |= {trace["trace_id"]: trace for _, trace in known if _fits(trace, search)}
        oldest = min((at for at, _ in known), default=until)
        stopped = len(traces) >= limit
        if not stopped and since <= start:
            partial = not whole or len(found) > search.limit
            break
        if len(found) >= search.limit or (stopped and oldest >= until):
            break
        if stopped:
            until, limit = oldest, MOST_TRACES
        else:
            since = max(start, end - (end - since) * _WIDER)
    shown = sorted(found.values(), key=lambda trace: trace["at"], reverse=True)
    return {
        "start": rfc3339(start, "milliseconds"),
        "end": rfc3339(end, "milliseconds"),
        "partial": partial,
        "traces": shown[: search.limit],
    }


def _status(data: Sequence[Any] | None) -> str:
    return "unavailable" if data is None else "ok" if data else "no_data"


def _extent(spans: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """First start and last end, in Unix seconds."""
    if not spans:
        return time.time() - _WITHOUT_TRACE_S, time.time()
    return min(s["start"] for s in spans), max(s["start"] + s["duration_s"] for s in spans)


def _offset(spans: Sequence[Mapping[str, Any]], start: float) -> list[dict[str, Any]]:
    """Spans as a waterfall is read: parents before children, siblings by start."""
    known = {span["span_id"] for span in spans}
    children: dict[str, list[Mapping[str, Any]]] = {}
    for span in sorted(spans, key=lambda found: found["start"]):
        parent = span["parent_id"]
        # A parent in another service, or not exported yet: shown at the top.
        children.setdefault(parent if parent in known else "", []).append(span)
    ordered: list[dict[str, Any]] = []
    stack = [(span, 0) for span in reversed(children.pop("", []))]
    while stack:
        span, depth = stack.pop()
        ordered.append({**span, "start_s": span["start"] - start, "depth": depth})
        del ordered[-1]["start"]
        stack.extend((child, depth + 1) for child in reversed(children.pop(span["span_id"], [])))
    return ordered


def _lines(
    engines: Engines, trace_id: str, start: float, end: float, deadline: Deadline, *, found: bool
) -> list[shapes.TraceLine]:
    def read(record: Mapping[str, str]) -> shapes.TraceLine:
        return {**line_of(record), "offset_s": unix(record["_time"])}

    lines = read_logs(
        engines,
        f"{logsql(engines.service, trace_id=trace_id)} | sort by (_time)",
        read,
        deadline,
        start=rfc3339(start - _BEFORE_S),
        end=rfc3339(end + _AFTER_S),
        limit=str(MAX_LINES),
    )
    if lines and not found:  # no trace to count from
        start = lines[0]["offset_s"]
    for line in lines:
        line["offset_s"] -= start
    return lines


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


def _fits(trace: shapes.FoundTrace, search: Search) -> bool:
    asked_of: Sequence[Mapping[str, Any]] = [trace]
    if search.stage is not None:
        asked_of = [attempt for attempt in trace["stages"] if attempt["stage"] == search.stage]
    return (
        any(
            search.outcome in (None, one["outcome"])
            and search.error_type in (None, one["error_type"])
            for one in asked_of
        )
        and search.video in (None, trace["video_id"])
        and search.source in (None, trace["source"])
        and (search.min_s or 0.0) <= trace["duration_s"]
        and (search.max_s is None or trace["duration_s"] <= search.max_s)
    )


# --- Jaeger's answers --------------------------------------------------------------------------


def _all_spans(body: bytes) -> list[dict[str, Any]]:
    return [span for trace in orjson.loads(body)["data"] for span in _spans(trace)]


def _all_described(body: bytes) -> list[tuple[float, shapes.FoundTrace] | None]:
    return [_described(trace) for trace in orjson.loads(body)["data"] or ()]


def _described(trace: Mapping[str, Any]) -> tuple[float, shapes.FoundTrace] | None:
    """What a trace says about its request, and when that began; `None` while it has no span."""
    spans = sorted(_spans(trace), key=lambda span: span["start"])
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


def _spans(trace: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The spans of a trace; `start` is in Unix seconds."""
    return [_span(span, trace["processes"][span["processID"]]) for span in trace["spans"]]


def _span(span: Mapping[str, Any], process: Mapping[str, Any]) -> dict[str, Any]:
    tags = _tags(span["tags"])
    start = span["startTime"] / 1e6
    return {
        "span_id": span["spanID"],
        "parent_id": next(
            (ref["spanID"] for ref in span["references"] if ref["refType"] == "CHILD_OF"), ""
        ),
        "name": span["operationName"],
        "service": process["serviceName"],
        "worker": _tags(process["tags"]).get("service.instance.id"),
        "kind": tags.pop("span.kind", "internal"),
        "start": start,
        "duration_s": span["duration"] / 1e6,
        "error": tags.pop("error", False) is True,
        "status_message": tags.pop("otel.status_description", None),
        "attributes": {name: tags[name] for name in tags if not name.startswith("otel.")},
        "events": [_event(log, start) for log in span["logs"]],
    }


def _event(log: Mapping[str, Any], start: float) -> dict[str, Any]:
    fields = _tags(log["fields"])
    return {
        "name": fields.pop("event", ""),
        "at_s": log["timestamp"] / 1e6 - start,
        "attributes": fields,
    }


def _tags(pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {pair["key"]: pair["value"] for pair in pairs}
