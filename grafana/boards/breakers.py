"""The circuit breakers: in which state, why they changed it, what they held back."""

from __future__ import annotations

from typing import Final

from grafana.model import COUNT, NONE, PER_SECOND, RATIO, Board, Panel, Query, Row
from grafana.panels import (
    LOGS,
    SERVICE,
    graph,
    latency,
    logs,
    stage_to_logs,
    stat,
)

_BREAKER = f'{SERVICE}, name=~"$stage"'
_CALLS = f"circuit_breaker_calls_total{{{_BREAKER}}}"
_TRANSITIONS = f"circuit_breaker_transitions_total{{{_BREAKER}}}"


def _calls(kind: str) -> str:
    return f'circuit_breaker_calls_total{{{_BREAKER}, kind=~"{kind}"}}'


# One number per breaker and worker: the state that is 1 now. Of the last two minutes, because a
# worker that died would otherwise show its last state for five.
_STATE_NUMBER = " or ".join(
    f"max by (name, instance) (last_over_time(circuit_breaker_state"
    f'{{{_BREAKER}, state="{state}"}}[2m])) * {number} > 0'
    for state, number in (("open", 3), ("forced_open", 3), ("half_open", 2), ("closed", 1))
)

_STATES = Row(
    "States",
    (
        Panel(
            kind="timeline",
            title="State of every breaker",
            description="Each worker has a breaker per stage; it appears with the stage's first "
            "call. Open means that calls are refused without trying.",
            queries=(Query(_STATE_NUMBER, "{{name}} {{instance}}"),),
            unit=NONE,
            width=24,
            height=10,
            must_have=True,
            links=(stage_to_logs("name"),),
            mappings={
                "1": ("closed", "green"),
                "2": ("half-open", "yellow"),
                "3": ("open", "red"),
            },
        ),
        stat(
            "Open now",
            "Breakers that refuse calls, over all workers.",
            COUNT,
            "sum(max by (name, instance) (last_over_time(circuit_breaker_state"
            f'{{{_BREAKER}, state=~"open|forced_open"}}[2m])))',
            thresholds={None: "green", 1: "red"},
            width=6,
            height=8,
            must_have=True,
        ),
        graph(
            "Share of time open",
            "Of the last hour, averaged over the workers.",
            RATIO,
            (
                "avg by (name) (avg_over_time(circuit_breaker_state"
                f'{{{_BREAKER}, state="open"}}[1h]))',
                "{{name}}",
            ),
            width=9,
            must_have=True,
        ),
        graph(
            "Transitions",
            "State changes. Open and closed in quick turns is flapping.",
            COUNT,
            (
                f"sum by (name, from, to) (increase({_TRANSITIONS}[$__rate_interval]))",
                "{{name}} {{from}} to {{to}}",
            ),
            width=9,
            must_have=True,
        ),
    ),
)

_CALL_ROW = Row(
    "Calls",
    (
        graph(
            "Calls by result",
            "Answers such as 'no captions' are ignored: they say nothing about health. Slow "
            "calls count in addition to successful or failed.",
            PER_SECOND,
            (f"sum by (kind) (rate({_CALLS}[$__rate_interval]))", "{{kind}}"),
            must_have=True,
        ),
        graph(
            "Failure ratio by breaker",
            "What the breaker decides by, over all workers; each decides by its own window.",
            RATIO,
            (
                f"sum by (name) (rate({_calls('failed')}[$__rate_interval])) / sum by (name)"
                f" (rate({_calls('successful|failed')}[$__rate_interval]))",
                "{{name}}",
            ),
            thresholds={None: "green", 0.5: "red"},
            links=(stage_to_logs("name"),),
            must_have=True,
        ),
        graph(
            "Not permitted",
            "Calls refused because the breaker was open: time and blocks that were saved.",
            PER_SECOND,
            (
                f"sum by (name) (rate({_calls('not_permitted')}[$__rate_interval]))",
                "{{name}}",
            ),
            links=(stage_to_logs("name"),),
            must_have=True,
        ),
        graph(
            "Slow calls",
            "Share of the calls that took longer than the breaker's limit for slow.",
            RATIO,
            (
                f"sum by (name) (rate({_calls('slow')}[$__rate_interval])) / sum by (name)"
                f" (rate({_calls('successful|failed')}[$__rate_interval]))",
                "{{name}}",
            ),
            width=12,
        ),
        latency(
            "Recovery",
            "Time from opening to closing again, P50 and P95 of the last hour.",
            *(
                (
                    f"histogram_quantile({q}, sum by (name) (rate("
                    f"circuit_breaker_recovery_duration_seconds{{{_BREAKER}}}[1h])))",
                    f"{{{{name}}}} P{int(q * 100)}",
                )
                for q in (0.5, 0.95)
            ),
            width=12,
        ),
    ),
)

_LOG_ROW = Row(
    "Why",
    (
        logs(
            "State changes",
            "One line per change, with its reason; each opens the trace of the call behind it.",
            f"{LOGS} event:=circuit_breaker.state_changed",
        ),
    ),
)

BREAKERS: Final = Board(
    uid="transcripts-breakers",
    title="Circuit breakers",
    description="Which stages are being spared, since when and why.",
    rows=(_STATES, _CALL_ROW, _LOG_ROW),
    variables=("stage",),
)
