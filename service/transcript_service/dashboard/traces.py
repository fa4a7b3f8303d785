"""One request in full: its spans from Jaeger, its log lines from VictoriaLogs.

Jaeger's API v3 answers in OTLP's JSON form
(https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding): ids in hex, times as
decimal strings of nanoseconds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..problem import Problem
from ..resilience.deadline import Deadline
from ..rfc3339 import rfc3339
from .engines import Engines
from .log_search import line_of, read_logs
from .queries import logsql
from .upstream import UpstreamError, UpstreamMissing, understanding, worst

MAX_LINES: Final = 500
# Log lines around a trace: written a little before its first span ends up there, or late.
_BEFORE_S: Final = 60
_AFTER_S: Final = 300
# How far back to look for lines when Jaeger cannot say when the trace was.
_WITHOUT_TRACE_S: Final = 6 * 3600
_KINDS: Final = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}


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
        spans = _spans(engines.jaeger.json(f"/api/v3/traces/{trace_id}", {}, deadline))
    except UpstreamMissing:
        spans = []
    except UpstreamError as error:
        failures.append(error)
    lines: list[dict[str, Any]] | None = None
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


@understanding("/api/v3/traces")
def _spans(answer: Any) -> list[dict[str, Any]]:
    return [
        _span(span, _attributes(resource.get("resource", {}).get("attributes", [])))
        for resource in answer.get("result", answer)["resourceSpans"]
        for scope in resource.get("scopeSpans", [])
        for span in scope.get("spans", [])
    ]


def _span(span: Mapping[str, Any], resource: Mapping[str, Any]) -> dict[str, Any]:
    start_ns, end_ns = int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])
    status = span.get("status", {})
    return {
        "span_id": span["spanId"],
        "parent_id": span.get("parentSpanId", ""),
        "name": span["name"],
        "service": resource.get("service.name"),
        "kind": _KINDS.get(span.get("kind", 0), "internal"),
        "start": start_ns / 1e9,
        "duration_s": (end_ns - start_ns) / 1e9,
        "error": status.get("code") in (2, "STATUS_CODE_ERROR"),
        "status_message": status.get("message") or None,
        "attributes": _attributes(span.get("attributes", [])),
        "events": [
            {
                "name": event.get("name", ""),
                "at_s": (int(event["timeUnixNano"]) - start_ns) / 1e9,
                "attributes": _attributes(event.get("attributes", [])),
            }
            for event in span.get("events", [])
        ],
    }


def _attributes(pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {pair["key"]: _value(pair.get("value", {})) for pair in pairs}


def _value(value: Mapping[str, Any]) -> Any:
    for kind, content in value.items():
        if kind == "arrayValue":
            return [_value(item) for item in content.get("values", [])]
        if kind == "intValue":
            return int(content)
        if kind == "kvlistValue":
            return _attributes(content.get("values", []))
        return content
    return None


def _lines(
    engines: Engines, trace_id: str, start: float, end: float, deadline: Deadline, *, found: bool
) -> list[dict[str, Any]]:
    lines = read_logs(
        engines,
        f"{logsql(engines.service, trace_id=trace_id)} | sort by (_time)",
        line_of,
        deadline,
        start=rfc3339(start - _BEFORE_S),
        end=rfc3339(end + _AFTER_S),
        limit=str(MAX_LINES),
    )
    lines.sort(key=lambda line: line["offset_s"])
    if lines and not found:  # no trace to count from
        start = lines[0]["offset_s"]
    for line in lines:
        line["offset_s"] -= start
    return lines
