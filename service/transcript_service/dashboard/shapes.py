"""The shapes of the dashboard's answers, declared once.

mypy holds the code that builds an answer against them, and `web.openapi` makes the schemas
and the examples of the document from them. Nothing is validated while a request is served.

Durations are seconds and end in `_s`. What is not known is `None`, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Generic, Literal, NotRequired, TypeVar

from pydantic import Field
from typing_extensions import TypedDict

from ..problem import TraceId
from ..telemetry.vocabulary import BreakerState, Stage

T = TypeVar("T")

_time = Field(json_schema_extra={"format": "date-time"}, examples=["2026-11-24T17:41:09Z"])
Time = Annotated[str, _time]
Seconds = Annotated[float, Field(examples=[0.42])]
Ratio = Annotated[float, Field(examples=[0.981])]
Count = Annotated[float, Field(examples=[1840.0])]
Outcomes = Annotated[Mapping[str, float], Field(examples=[{"success": 1760.0, "blocked": 34.0}])]
Errors = Annotated[Mapping[str, float], Field(examples=[{"ip_blocked": 34.0, "timeout": 2.0}])]
# Counts by word, the largest first; `None` when the query failed.
Tally = Mapping[str, float]
Labels = Annotated[Mapping[str, str], Field(examples=[{"stage": "youtube_api"}])]
Availability = Literal["ok", "no_data", "unavailable"]


class Window(TypedDict):
    hours: Annotated[float, Field(examples=[1.0])]
    start: Time
    end: Time
    step_s: Annotated[int, Field(examples=[30])]
    stage: Annotated[Stage | None, Field(examples=[None])]


class Series(TypedDict):
    """A chart line: value `i` belongs to `start + i × step_s`."""

    name: Annotated[str, Field(examples=["stage_p95"])]
    labels: Labels
    unit: Annotated[str, Field(examples=["s"])]
    start: Time
    step_s: Annotated[int, Field(examples=[30])]
    values: Annotated[Sequence[float | None], Field(max_length=401, examples=[[0.9, 0.94, None]])]


class Requests(TypedDict):
    total: Count | None
    rate_per_s: Annotated[float | None, Field(examples=[0.511])]
    success_ratio: Annotated[
        Ratio | None,
        Field(
            description="Of the requests that could succeed: videos without captions and"
            " callers' mistakes stay out."
        ),
    ]
    p50_s: Seconds | None
    p95_s: Seconds | None
    outcomes: Outcomes | None
    sources: Annotated[Tally | None, Field(examples=[{"youtube_api": 1580.0}])]
    errors: Errors | None


class StageNumbers(TypedDict):
    stage: Stage
    attempts: Count | None
    success_ratio: Ratio | None
    p50_s: Seconds | None
    p95_s: Seconds | None
    outcomes: Outcomes | None
    errors: Errors | None
    skipped: Annotated[Tally | None, Field(examples=[{"breaker_open": 12.0}])]


class Ended(TypedDict):
    """How something ended. `worker` is the `service.instance.id`."""

    video_id: Annotated[str | None, Field(examples=["dQw4w9WgXcQ"])]
    outcome: Annotated[str | None, Field(examples=["blocked"])]
    error_type: Annotated[str | None, Field(examples=["ip_blocked"])]
    worker: Annotated[str | None, Field(examples=["f3a1c2d4"])]


class TracedRequest(Ended):
    trace_id: TraceId
    at: Time
    duration_s: Seconds
    source: Annotated[str | None, Field(examples=[None])]


class Request(TracedRequest):
    stage: Annotated[str | None, Field(description="The last one tried.", examples=["timedtext"])]


class Point(TypedDict):
    """A traced request; where a stage was asked for, its attempt."""

    trace_id: TraceId
    at: Time
    duration_s: Seconds
    outcome: Annotated[str | None, Field(examples=["success"])]


class Mark(TypedDict):
    """Something that happened beside the requests and may be the cause of a curve."""

    kind: Literal["deploy", "demo_fault"]
    name: Annotated[str, Field(examples=["1.4.0"])]
    start: Time
    end: Annotated[Time | None, Field(description="`null` for what has no length.")]


class Performance(TypedDict):
    """The lists and points are those of the stage where one was asked for."""

    requests: Requests
    stages: list[StageNumbers]
    slow_requests: list[Request]
    failed_requests: list[Request]
    points: Annotated[list[Point], Field(description="The slowest of each stretch of the window.")]
    marks: list[Mark]
    series: list[Series]


# `from` is no name that a class could have.
Transition = TypedDict(
    "Transition",
    {
        "from": Annotated[str, Field(examples=["closed"])],
        "to": Annotated[str, Field(examples=["open"])],
        "count": Annotated[float, Field(examples=[1.0])],
    },
)


class Opening(TypedDict):
    """Why a breaker is not closed, by the log of the last seven days."""

    since: Annotated[Time, Field(description="When it left `closed`.")]
    worker: Annotated[str | None, Field(examples=["f3a1c2d4"])]
    trace_id: Annotated[TraceId | None, Field(description="Of the call that opened it.")]
    reason: Annotated[str | None, Field(examples=["failure_rate"])]
    failure_rate: Ratio | None
    slow_call_rate: Ratio | None
    errors: Annotated[
        Tally | None,
        Field(
            description="The stage's failures in the ten minutes before it opened.",
            examples=[{"rate_limited": 9.0}],
        ),
    ]
    next_probe_at: Annotated[
        Time | None, Field(description="When the next call may be let through.")
    ]


class Breaker(TypedDict):
    name: Stage
    state: BreakerState | None
    workers: Annotated[Tally | None, Field(examples=[{"open": 1.0, "closed": 1.0}])]
    calls: Annotated[Tally | None, Field(examples=[{"successful": 1580.0, "failed": 214.0}])]
    transitions: list[Transition] | None
    recovery_p50_s: Seconds | None
    recovery_p95_s: Seconds | None
    opening: Annotated[
        Opening | None, Field(description="`null` while it is closed, or where no log tells.")
    ]


class StateSegment(TypedDict):
    state: Annotated[str, Field(examples=["closed"])]
    start: Time
    end: Time


class Timeline(TypedDict):
    name: Stage
    segments: list[StateSegment]


class CircuitBreaker(TypedDict):
    breakers: list[Breaker]
    timeline: list[Timeline]


class Contexts(TypedDict):
    profile: Annotated[str, Field(examples=["desktop"])]
    state: Annotated[str, Field(examples=["idle"])]
    count: Annotated[float, Field(examples=[2.0])]


class WorkerMemory(TypedDict):
    worker: Annotated[str, Field(examples=["f3a1c2d4"])]
    bytes: Annotated[float, Field(examples=[429916160.0])]


class BrowserContexts(TypedDict):
    contexts: list[Contexts]
    limit: Annotated[float | None, Field(examples=[4.0])]
    memory_bytes: Annotated[float | None, Field(examples=[429916160.0])]
    workers: list[WorkerMemory]
    memory_threshold_bytes: Annotated[
        float | None,
        Field(description="Of one worker; above it an alert fires.", examples=[1610612736.0]),
    ]
    created: Annotated[Tally | None, Field(examples=[{"desktop": 9.0}])]
    closed: Annotated[Tally | None, Field(examples=[{"uses": 5.0, "age": 1.0}])]
    leases: Count | None
    reuse_ratio: Ratio | None
    wait_p50_s: Seconds | None
    wait_p95_s: Seconds | None
    age_p95_s: Annotated[float | None, Field(examples=[1660.0])]
    uses_mean: Annotated[float | None, Field(examples=[47.0])]
    series: list[Series]


class ProxyProbes(TypedDict):
    proxy: Annotated[str, Field(examples=["p-7f3a91"])]
    probes: Annotated[Tally | None, Field(examples=[{"success": 118.0}])]
    p50_s: Seconds | None
    p95_s: Seconds | None


class ProxySuccess(TypedDict):
    with_proxy: Ratio | None
    direct: Ratio | None


class Proxy(TypedDict):
    pool: Annotated[Tally | None, Field(examples=[{"healthy": 3.0, "quarantined": 1.0}])]
    rotations: Annotated[Tally | None, Field(examples=[{"ip_blocked": 4.0}])]
    proxies: list[ProxyProbes]
    success_ratio: ProxySuccess
    series: list[Series]


Level = Literal["ok", "warn", "fail", "unknown"]
Verdict = Literal["healthy", "degraded", "unhealthy", "unknown"]


class Check(TypedDict):
    name: Annotated[str, Field(examples=["telemetry"])]
    level: Level
    text: Annotated[str, Field(examples=["2 workers reporting."])]
    value: Annotated[float | None, Field(examples=[2.0])]


class Health(TypedDict):
    verdict: Verdict
    checks: list[Check]
    workers: Annotated[float | None, Field(examples=[2.0])]
    telemetry_age_s: Annotated[float | None, Field(examples=[6.1])]
    engines: Annotated[
        Mapping[str, bool] | None, Field(examples=[{"jaeger": True, "otel-collector": True}])
    ]
    redaction_failures: Annotated[float | None, Field(examples=[0.0])]
    logs_suppressed: Annotated[float | None, Field(examples=[0.0])]


class LoggedAlert(TypedDict):
    alertname: Annotated[str, Field(examples=["CircuitBreakerOpenTooLong"])]
    severity: Annotated[str | None, Field(examples=["critical"])]
    state: Annotated[str | None, Field(examples=["firing"])]
    since: Annotated[str | None, Field(examples=["2026-11-24T17:57:05Z"])]
    labels: Labels
    last_notified: Time | None
    next_repeat_at_earliest: Time | None
    runbook_url: Annotated[str | None, Field(examples=["/runbooks/CircuitBreakerOpenTooLong"])]
    dashboard_url: Annotated[str | None, Field(examples=["/dashboard?stage=youtube_api"])]


class ActiveAlert(LoggedAlert):
    summary: Annotated[str | None, Field(examples=["A circuit breaker stays open."])]
    description: Annotated[str | None, Field(examples=["That of youtube_api, for 5 minutes."])]
    silenced: bool | None
    inhibited: bool | None


class Alerts(TypedDict):
    active: list[ActiveAlert]
    firing: int
    history: list[LoggedAlert]


Age = Annotated[float, Field(ge=0, examples=[4.2])]
Stale = Annotated[bool, Field(description="Asking again failed; these are the last good numbers.")]
Partial = Annotated[bool, Field(description="Some queries failed; `missing` says which and why.")]
Missing = Annotated[Mapping[str, str], Field(examples=[{}])]


class InnerBlock(TypedDict, Generic[T]):
    """A block inside of `/metrics`, which may be unavailable while others are not."""

    status: Availability
    as_of: Time | None
    age_s: NotRequired[Age]
    stale: NotRequired[Stale]
    partial: NotRequired[Partial]
    missing: NotRequired[Missing]
    reason: NotRequired[Annotated[str, Field(examples=[])]]
    data: T | None


class Block(TypedDict, Generic[T]):
    """A block by itself."""

    window: Window
    status: Literal["ok", "no_data"]
    as_of: Time
    age_s: Age
    stale: Stale
    partial: Partial
    missing: Missing
    reason: NotRequired[Annotated[str, Field(examples=[])]]
    data: T | None


class Blocks(TypedDict):
    health: InnerBlock[Health]
    performance: InnerBlock[Performance]
    circuit_breaker: InnerBlock[CircuitBreaker]
    browser_contexts: InnerBlock[BrowserContexts]
    proxy: InnerBlock[Proxy]
    alerts: InnerBlock[Alerts]


class Overview(TypedDict):
    window: Window
    partial: bool
    stale: bool
    age_s: Annotated[float | None, Field(examples=[4.2])]
    blocks: Blocks


Attributes = Annotated[Mapping[str, Any], Field(examples=[{"transcript.outcome": "success"}])]


class Event(TypedDict):
    name: str
    at_s: Seconds
    attributes: Attributes


class Span(TypedDict):
    span_id: Annotated[str, Field(examples=["00f067aa0ba902b7"])]
    parent_id: Annotated[str, Field(examples=[""])]
    name: Annotated[str, Field(examples=["GET /api/transcripts/<path:video>"])]
    service: Annotated[str | None, Field(examples=["tldw-transcript-service"])]
    worker: Annotated[str | None, Field(examples=["f3a1c2d4"])]
    kind: Literal["server", "internal", "client", "producer", "consumer"]
    start_s: Annotated[float, Field(description="After the trace's start.")]
    duration_s: Seconds
    depth: int
    error: bool
    status_message: Annotated[str | None, Field(examples=[None])]
    attributes: Attributes
    events: list[Event]


class Line(TypedDict):
    at: Time
    level: Annotated[str, Field(examples=["info"])]
    text: Annotated[str, Field(examples=["transcript.request.finished"])]
    span_id: Annotated[str | None, Field(examples=["00f067aa0ba902b7"])]
    worker: Annotated[str | None, Field(examples=["f3a1c2d4"])]
    attributes: Annotated[Mapping[str, str], Field(examples=[{"outcome": "success"}])]


class TraceLine(Line):
    offset_s: Annotated[
        float,
        Field(description="After the trace's start, or the first line's while there is no trace."),
    ]


class Part(TypedDict, Generic[T]):
    status: Availability
    data: list[T] | None


class Trace(TypedDict):
    trace_id: TraceId
    partial: bool
    start: Time | None
    duration_s: Seconds | None
    spans: Part[Span]
    logs: Part[TraceLine]


class StageAttempt(TypedDict):
    stage: Annotated[str, Field(examples=["youtube_api"])]
    outcome: Annotated[str | None, Field(examples=["blocked"])]
    error_type: Annotated[str | None, Field(examples=["ip_blocked"])]
    duration_s: Seconds


class FoundTrace(TracedRequest):
    stages: list[StageAttempt]
    spans: Annotated[int, Field(examples=[14])]


class TraceList(TypedDict):
    start: Time
    end: Time
    partial: Annotated[
        bool, Field(description="There may be more: the limit was reached, or spans are missing.")
    ]
    traces: list[FoundTrace]


class FailureGroup(Ended):
    """Failures of one kind; without a stage they are those of whole requests."""

    stage: Annotated[str | None, Field(examples=["youtube_api"])]
    count: Annotated[int, Field(examples=[34])]
    first: Time
    last: Time
    trace_id: Annotated[str | None, Field(description="Of the last one.", examples=[None])]


class Failures(TypedDict):
    window: Window
    partial: bool
    groups: list[FailureGroup]


class TailedLine(Line):
    id: Annotated[
        str, Field(description="The same for the same line.", examples=["9f00aa11bb22cc33"])
    ]
    trace_id: Annotated[str | None, Field(examples=["4bf92f3577b34da6a3ce929d0e0e4736"])]


class LogTail(TypedDict):
    lines: list[TailedLine]
    next_since: Annotated[
        Time,
        Field(
            description="Ask with it again; it overlaps, because lines come late: leave out the"
            " ids that you have."
        ),
    ]
    partial: Annotated[bool, Field(description="There are more than were asked for.")]
