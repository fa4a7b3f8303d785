"""One request in full: its spans from Jaeger, its log lines from VictoriaLogs.

Jaeger's own HTTP API (https://www.jaegertracing.io/docs/2.13/architecture/apis/): times are
microseconds. Kind, status and scope of a span stand among its tags, by the names of
https://opentelemetry.io/docs/specs/otel/common/mapping-to-non-otlp/.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..problem import Problem
from ..resilience.deadline import Deadline
from ..rfc3339 import rfc3339
from . import shapes
from .engines import Engines
from .log_search import line_of, read_logs, unix
from .queries import logsql
from .upstream import UpstreamError, UpstreamMissing, understanding, worst

MAX_LINES: Final = 500
# Log lines around a trace: written a little before its first span ends up there, or late.
_BEFORE_S: Final = 60
_AFTER_S: Final = 300
# How far back to look for lines when Jaeger cannot say when the trace was.
_WITHOUT_TRACE_S: Final = 6 * 3600


def fetch_trace(engines: Engines, trace_id: str) -> dict[str, Any]:
    """The trace and its log lines, either of which may be missing with a reason.

    Raises:
        Problem: 404 `trace_not_found` when neither engine knows the id.
        UpstreamError: neither engine answered in the time an answer may take.
    """
    deadline = engines.deadline()
    failures: list[UpstreamError] = []
    spans: list[dict[str, Any]] | None = None
    path = f"/api/traces/{trace_id}"
    try:
        answer = engines.jaeger.json(path, {}, deadline)
        with understanding(path):
            spans = [span for trace in answer["data"] for span in spans_of(trace)]
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


def spans_of(trace: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The spans of a trace in Jaeger's answer; `start` is in Unix seconds.

    Raises:
        LookupError, TypeError, AttributeError: it is not in Jaeger's form.
    """
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
