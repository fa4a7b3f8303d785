"""Log lines from VictoriaLogs: the newest ones, and failures counted by their kind.

LogsQL: https://docs.victoriametrics.com/victorialogs/logsql/. Nothing that a caller wrote
stands in a query: words are of the vocabulary, ids and times were checked. Whatever asks here
raises an `UpstreamError` when VictoriaLogs did not answer usefully in time.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, TypeVar

import orjson

from ..resilience.deadline import Deadline
from ..rfc3339 import rfc3339
from . import shapes
from .engines import Engines
from .inputs import LogLevel, Tail
from .queries import ENDED, FAILED, OPENED, OPENINGS, STAGE_ENDED, logsql
from .window import Window

T = TypeVar("T")
TRACE_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
# What each level is called in a record.
SEVERITIES: Final[dict[LogLevel, tuple[str, ...]]] = {
    "debug": ("DEBUG",),
    "info": ("INFO",),
    "warning": ("WARN", "WARNING"),
    "error": ("ERROR", "FATAL", "CRITICAL"),
}
_LEVELS: Final = tuple(SEVERITIES)
_GROUPS: Final = 50
# Lines reach the store some seconds after they were written, out of order; who asks again
# looks this far back and leaves out the ids it has seen.
OVERLAP_S: Final = 15.0
# How far back the first question looks.
_FIRST_S: Final = 300.0
_WEEK_S: Final = 7 * 86400
_LATE_S: Final = 60.0
# How far before a breaker's opening its cause is looked for.
_BEFORE_S: Final = 600.0


def tail(engines: Engines, asked: Tail) -> shapes.LogTail:
    """The newest lines, oldest first."""
    now = time.time()
    since = max(now - _FIRST_S if asked.since is None else asked.since, now - _WEEK_S)
    query = logsql(
        engines.service,
        severity_text=_from(asked.level) if asked.level else (),
        stage=asked.stage,
        video_id=asked.video,
    )
    query = f"{query} | sort by (_time) desc limit {asked.limit}"
    lines = read_logs(engines, query, _tailed, start=rfc3339(since, "milliseconds"))[::-1]
    newest = max([since, *(unix(line["at"]) for line in lines)])
    return {
        "lines": lines,
        "next_since": rfc3339(max(since, newest - OVERLAP_S), "milliseconds"),
        "partial": len(lines) >= asked.limit,
    }


def failures(engines: Engines, window: Window) -> shapes.Failures:
    """The failed requests and stages of a window by error type, the most frequent first.

    A stage's failure may have been made good by the next stage; that of a request was not.
    """
    query = (
        f"{logsql(engines.service, ENDED, FAILED, stage=window.stage)}"
        " | stats by (_msg, stage, error_type, outcome) count() count, min(_time) first,"
        " max(_time) last, row_max(_time, trace_id, video_id, service.instance.id) example"
        f" | sort by (count) desc limit {_GROUPS}"
    )
    groups = read_logs(
        engines,
        query,
        _group,
        start=rfc3339(window.start),
        # lines of the last moments may be timed a little later
        end=rfc3339(window.now if window.past else window.now + _LATE_S),
    )
    return {
        "window": window.as_json(),
        "partial": len(groups) >= _GROUPS,
        "groups": groups,
    }


def describe(engines: Engines, data: shapes.Performance, window: Window) -> None:
    """Say in each request which video it was about, and where and why it ended."""
    requests = [*data["slow_requests"], *data["failed_requests"]]
    # The ids come from Prometheus, and stand in a query here.
    ids = sorted({r["trace_id"] for r in requests if TRACE_ID.fullmatch(r["trace_id"])})
    if not ids:
        return
    ended = STAGE_ENDED if window.stage else ENDED
    query = logsql(engines.service, ended, trace_id=ids, stage=window.stage) + " | sort by (_time)"
    known: dict[str, dict[str, str]] = {}

    def note(record: Mapping[str, str]) -> None:
        # Of the stages the last one is kept, and the request's own end stands last.
        known.setdefault(record["trace_id"], {}).update(record)

    read_logs(engines, query, note, start=rfc3339(window.start))
    for request in requests:
        facts = known.get(request["trace_id"], {})
        request["video_id"] = facts.get("video_id") or None
        request["stage"] = facts.get("stage") or None
        if request["outcome"] != "success":
            request["error_type"] = facts.get("error_type") or None
        request["worker"] = facts.get("service.instance.id") or request["worker"]


def explain(engines: Engines, data: shapes.CircuitBreaker, window: Window) -> None:
    """Say of each breaker that is not closed since when, by which worker and after what."""
    tripped: dict[str, shapes.Breaker] = {
        breaker["name"]: breaker
        for breaker in data["breakers"]
        if breaker["state"] in ("open", "half_open", "forced_open")
    }
    if not tripped:
        return
    start, end = rfc3339(max(0.0, window.now - _WEEK_S)), rfc3339(window.now + _LATE_S)
    open_s = engines.settings.circuit_breaker_open_s
    openings: dict[str, shapes.Opening] = {}

    def note(record: Mapping[str, str]) -> None:
        found = _example(record.get("opening", ""))
        if not found:  # it has been open for longer than the log goes back
            return
        breaker, last = tripped[record["breaker"]], record["last_opened"]
        probe = unix(last) + open_s if breaker["state"] == "open" and last else None
        openings[breaker["name"]] = breaker["opening"] = {
            "since": _time(found["_time"]),
            "worker": found.get("service.instance.id") or None,
            "trace_id": found.get("trace_id") or None,
            "reason": found.get("reason") or None,
            "failure_rate": _number(found.get("failure_rate")),
            "slow_call_rate": _number(found.get("slow_call_rate")),
            "errors": None,
            "next_probe_at": None if probe is None else rfc3339(probe),
        }

    query = f"{logsql(engines.service, OPENED, breaker=[*tripped])} | {OPENINGS}"
    read_logs(engines, query, note, start=start, end=end)
    if not openings:
        return
    counted: dict[str, dict[str, float]] = {name: {} for name in openings}

    def count(record: Mapping[str, str]) -> None:
        counted[record["stage"]][record["error_type"] or "unknown"] = float(record["count"])

    spells = " or ".join(_spell(name, opening["since"]) for name, opening in openings.items())
    query = (
        f"{logsql(engines.service, STAGE_ENDED, FAILED, f'({spells})')}"
        " | stats by (stage, error_type) count() count | sort by (count) desc"
    )
    read_logs(engines, query, count, start=start, end=end)
    for name, opening in openings.items():
        opening["errors"] = counted[name]


def _spell(stage: str, since: str) -> str:
    start = rfc3339(unix(since) - _BEFORE_S, "milliseconds")
    return f'(stage:="{stage}" _time:[{start}, {since}])'


def read_logs(
    engines: Engines,
    query: str,
    read: Callable[[Mapping[str, str]], T],
    deadline: Deadline | None = None,
    **more: str,
) -> list[T]:
    """What a LogsQL query finds, each record read by `read`."""
    return engines.victorialogs.get(
        "/select/logsql/query",
        {"query": query, **more},
        deadline or engines.deadline(),
        lambda body: [read(orjson.loads(line)) for line in body.splitlines()],
    )


# What the pipeline adds to every line, and what is the same for all lines of a service.
_HIDDEN: Final = ("_", "service.", "telemetry.", "scope.", "deployment.", "severity_")
_HIDDEN_EXACTLY: Final = frozenset({"trace_id", "span_id", "flags", "event_name"})


def line_of(record: Mapping[str, str]) -> shapes.Line:
    """A record of VictoriaLogs as a line."""
    severity = record.get("severity_text") or "unknown"
    return {
        "at": _time(record["_time"]),
        "level": next(
            (word for word, texts in SEVERITIES.items() if severity in texts), severity.lower()
        ),
        "text": record["_msg"],
        "span_id": record.get("span_id") or None,
        "worker": record.get("service.instance.id") or None,
        "attributes": {
            name: value
            for name, value in sorted(record.items())
            if not name.startswith(_HIDDEN) and name not in _HIDDEN_EXACTLY
        },
    }


def _from(level: LogLevel) -> list[str]:
    """What records of this level and above are marked with."""
    return [text for word in _LEVELS[_LEVELS.index(level) :] for text in SEVERITIES[word]]


def _tailed(record: Mapping[str, str]) -> shapes.TailedLine:
    identity = "\0".join((record["_time"], record["_msg"], record.get("span_id", "")))
    return {
        **line_of(record),
        "id": hashlib.blake2b(identity.encode(), digest_size=8).hexdigest(),
        "trace_id": record.get("trace_id") or None,
    }


def _group(record: Mapping[str, str]) -> shapes.FailureGroup:
    example = _example(record.get("example", ""))
    return {
        "stage": record.get("stage") or None,
        "error_type": record.get("error_type") or None,
        "outcome": record.get("outcome") or None,
        "count": int(record["count"]),
        "first": _time(record["first"]),
        "last": _time(record["last"]),
        "trace_id": example.get("trace_id") or None,
        "video_id": example.get("video_id") or None,
        "worker": example.get("service.instance.id") or None,
    }


def _time(text: str) -> str:
    return rfc3339(unix(text), "milliseconds")


def unix(text: str) -> float:
    """Unix seconds of an RFC 3339 time."""
    return datetime.fromisoformat(text).timestamp()


def _number(text: str | None) -> float | None:
    return float(text) if text else None


def _example(text: str) -> Mapping[str, str]:
    found = orjson.loads(text) if text else {}
    return found if isinstance(found, dict) else {}
