"""What a breaker remembers, and how a call changes it: plain data and pure decisions.

Nothing here knows a clock, a lock, a network or telemetry. The same functions decide for
a breaker inside one process and for one that several workers share, because a store runs
them on a record that it read and keeps only if nobody else changed it meanwhile.

States and rules follow resilience4j (CircuitBreakerStateMachine), with one difference:
a half-open permit has an id and an expiry, so the place of a worker that died with one
is given to another call, and a result that arrives too late decides nothing.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from ..telemetry.vocabulary import BreakerState

Reason = Literal["failure_rate", "slow_call_rate", "wait_elapsed", "recovered", "forced"]


@dataclass(frozen=True)
class CircuitBreakerConfig:
    """When a breaker opens and how it closes again. Rates are ratios between 0 and 1.

    resilience4j's defaults (100 calls) are for thousands of calls a second; a transcript
    stage sees a few a minute, hence the smaller window.
    """

    window_type: Literal["count", "time"] = "count"
    window_size: int = 20
    """Calls (count) or seconds (time) that the rates are computed over."""
    minimum_calls: int = 5
    """Calls in the window before a rate means anything."""
    failure_rate: float = 0.5
    slow_call_rate: float = 0.8
    slow_call_s: float = 30.0
    """A call that takes longer than this is slow, whatever it returned."""
    open_s: float = 60.0
    """Seconds without calls before a probe is let through."""
    half_open_calls: int = 2
    """Probes that are let through and must end before the state is decided."""
    permit_expiry_s: float = 120.0
    """Seconds after which the place of a probe that never reported is given away."""

    def __post_init__(self) -> None:
        if self.window_type == "count" and self.minimum_calls > self.window_size:
            raise ValueError("minimum_calls does not fit into window_size: it could never open")


class Bucket(NamedTuple):
    """One call (count window) or the calls of one second (time window)."""

    at: float
    calls: int
    failed: int
    slow: int


class Transition(NamedTuple):
    """One change of state, told to metrics and logs once the store has kept it."""

    before: BreakerState
    after: BreakerState
    reason: Reason
    failure_rate: float | None
    slow_call_rate: float | None
    recovery_s: float | None = None


class Ticket(NamedTuple):
    """Leave to make one call. `era` tells which spell of which state gave it."""

    era: int
    probe: str | None = None


class Refusal(NamedTuple):
    """No leave; worth asking again in `retry_after_s` seconds."""

    state: BreakerState
    retry_after_s: float


@dataclass
class Record:
    """Everything one breaker remembers; as JSON a few hundred bytes."""

    state: BreakerState = "closed"
    since: float = 0.0
    era: int = 0
    opened_at: float | None = None
    """When it last left `closed`: reopening after a failed probe does not move it."""
    window: list[Bucket] = field(default_factory=list)
    probes: dict[str, float] = field(default_factory=dict)
    """Probes under way and when each one's permit expires."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**vars(self), "window": [list(bucket) for bucket in self.window]}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Record:
        """The record that `to_json` wrote.

        Raises:
            TypeError, KeyError, ValueError: it is not one.
        """
        return cls(**{**value, "window": [Bucket(*bucket) for bucket in value["window"]]})

    def rates(self) -> tuple[int, float | None, float | None]:
        """Calls in the window, their failure rate and slow-call rate (`None` without calls)."""
        calls = failed = slow = 0
        for bucket in self.window:
            calls += bucket.calls
            failed += bucket.failed
            slow += bucket.slow
        return (calls, failed / calls, slow / calls) if calls else (0, None, None)

    def set_back(self, now: float) -> None:
        """Where the clock went back, put everything that lies in the future before `now`.

        Redis's time is that of a machine that may be corrected, or be another one after a
        failover. Without this an open breaker would refuse for the length of the jump.
        """
        ahead = max(self.since, self.window[-1].at if self.window else self.since) - now
        if ahead > 0:
            self.since -= ahead
            self.opened_at = None if self.opened_at is None else self.opened_at - ahead
            self.window = [bucket._replace(at=bucket.at - ahead) for bucket in self.window]
            self.probes = {probe: end - ahead for probe, end in self.probes.items()}

    def enter(self, state: BreakerState, now: float, reason: Reason) -> Transition:
        """Change the state; the window starts empty and tickets given before decide nothing."""
        _, failure_rate, slow_call_rate = self.rates()
        recovery_s = None
        if state == "open" and self.opened_at is None:
            self.opened_at = now
        elif state == "closed":
            if self.state == "half_open" and self.opened_at is not None:
                recovery_s = now - self.opened_at
            self.opened_at = None
        transition = Transition(self.state, state, reason, failure_rate, slow_call_rate, recovery_s)
        self.state, self.since, self.era = state, now, self.era + 1
        self.window, self.probes = [], {}
        return transition


def acquire(
    record: Record, config: CircuitBreakerConfig, now: float, lifetime_s: float | None = None
) -> tuple[Ticket | Refusal, list[Transition]]:
    """Ask for leave to make one call at `now` that is given up after `lifetime_s` seconds.

    The record may be of another configuration (a deploy) or another time (a clock that was
    set back): it is mended here, and no wait exceeds what is configured now.
    """
    transitions = []
    lifetime_s = config.permit_expiry_s if lifetime_s is None else lifetime_s
    record.set_back(now)
    if record.state == "forced_open":
        return Refusal("forced_open", config.open_s), []
    if record.state == "open":
        wait = record.since + config.open_s - now
        if wait > 0:
            return Refusal("open", wait), []
        transitions.append(record.enter("half_open", now, "wait_elapsed"))
    if record.state == "half_open" and len(record.window) >= config.half_open_calls:
        # More probes were wanted when these ended; they are enough now.
        verdict = record.enter(*_verdict_of_probes(record, config, now))
        transitions.append(verdict)
        if verdict.after == "open":
            return Refusal("open", config.open_s), transitions
    if record.state != "half_open":
        return Ticket(record.era), transitions
    most_s = max(config.permit_expiry_s, lifetime_s)
    record.probes = {
        probe: min(end, now + most_s) for probe, end in record.probes.items() if end > now
    }
    if len(record.probes) + len(record.window) >= config.half_open_calls:
        return Refusal("half_open", min(record.probes.values()) - now), transitions
    probe = secrets.token_hex(4)
    record.probes[probe] = now + lifetime_s
    return Ticket(record.era, probe), transitions


def finish(
    record: Record,
    config: CircuitBreakerConfig,
    now: float,
    ticket: Ticket,
    result: Literal["successful", "failed", "ignored"],
    slow: int,
) -> list[Transition]:
    """Take the result of a call into account."""
    record.set_back(now)
    if ticket.era != record.era:
        return []
    if ticket.probe is not None and record.probes.pop(ticket.probe, None) is None:
        return []  # it expired and its place was given to another call
    if result == "ignored" or record.state == "disabled":
        return []
    failed = int(result == "failed")
    if record.state == "half_open":
        record.window.append(Bucket(now, 1, failed, slow))
        if len(record.window) < config.half_open_calls:
            return []
        return [record.enter(*_verdict_of_probes(record, config, now))]
    _remember(record, config, now, failed, slow)
    if record.state == "metrics_only":
        return []
    reason = _exceeded(record, config, config.minimum_calls)
    return [record.enter("open", now, reason)] if reason else []


def _verdict_of_probes(
    record: Record, config: CircuitBreakerConfig, now: float
) -> tuple[BreakerState, float, Reason]:
    reason = _exceeded(record, config, config.half_open_calls)
    return ("open", now, reason) if reason else ("closed", now, "recovered")


def _exceeded(
    record: Record, config: CircuitBreakerConfig, minimum: int
) -> Literal["failure_rate", "slow_call_rate"] | None:
    calls, failure_rate, slow_call_rate = record.rates()
    if calls < minimum or failure_rate is None or slow_call_rate is None:
        return None
    if failure_rate >= config.failure_rate:
        return "failure_rate"
    return "slow_call_rate" if slow_call_rate >= config.slow_call_rate else None


def _remember(
    record: Record, config: CircuitBreakerConfig, now: float, failed: int, slow: int
) -> None:
    window = record.window
    if config.window_type == "count":
        window.append(Bucket(now, 1, failed, slow))
        del window[: -config.window_size]
        return
    # Seconds, as resilience4j does: the window's size is bounded however many calls come.
    second = math.floor(now)
    record.window = window = [b for b in window if b.at > second - config.window_size]
    if window and window[-1].at == second:
        last = window.pop()
        window.append(Bucket(second, last.calls + 1, last.failed + failed, last.slow + slow))
    else:
        window.append(Bucket(second, 1, failed, slow))
