"""A circuit breaker: stop asking a source that fails, and find out when it works again.

Vocabulary and rules are resilience4j's. What the common Python libraries lack and this
one has: it decides by rate over a window, knows slow calls, lets exactly the configured
number of probes through when half open, keeps `not_permitted` apart from failures, can
share its state between workers, and never holds a lock while the call runs.

    breaker = CircuitBreaker("timedtext")
    with breaker.permit() as permit:        # raises CallNotPermitted when open
        captions = fetch()
        permit.success()

An exception that leaves the block without a verdict is a failure. An answer such as
"this video has no captions" is not: say `permit.ignore()`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

from opentelemetry import trace

from ..telemetry import get_logger, instruments
from ..telemetry.vocabulary import BREAKER_STATES, BreakerState
from .breaker_state import (
    CircuitBreakerConfig,
    Record,
    Refusal,
    Ticket,
    Transition,
    acquire,
    finish,
)
from .breaker_store import LocalStore, Store

log = get_logger(__name__)

Result = Literal["successful", "failed", "ignored"]
ForcedState = Literal["disabled", "forced_open", "metrics_only"]


class CallNotPermitted(Exception):
    """The breaker refused the call.

    Attributes:
        name: the breaker's name.
        state: what it was in: `open`, `half_open` (all probes are under way) or `forced_open`.
        retry_after_s: seconds after which asking again may help.
    """

    def __init__(self, name: str, state: BreakerState, retry_after_s: float) -> None:
        super().__init__(f"the breaker {name} is {state}; try again in {retry_after_s:.1f} s")
        self.name = name
        self.state = state
        self.retry_after_s = retry_after_s


class CircuitBreaker:
    """Decides whether a call may be made, by how earlier ones went. Thread-safe.

    Args:
        name: the stage it protects; the `name` attribute of its metrics.
        config: thresholds.
        clock: monotonic seconds; measures calls, and is the store's time when there is none.
        store: where its record lives; a private one in this process by default.
        forced: the state to stay in. It reaches no shared store, so that it does not outlive
            the variable that asked for it.
    """

    def __init__(
        self,
        name: str,
        config: CircuitBreakerConfig | None = None,
        clock: Callable[[], float] = time.monotonic,
        store: Store | None = None,
        forced: ForcedState | None = None,
    ) -> None:
        self.name = name
        self.config = config or CircuitBreakerConfig()
        self.clock = clock
        self._store: Store = store or LocalStore(clock)
        if forced is not None:
            self._store = LocalStore(clock, {name: Record(state=forced)})
            self._tell([Transition("closed", forced, "forced", None, None)])
        instruments.CIRCUIT_BREAKER_STATE.refreshed_by(self.refresh)

    @property
    def state(self) -> BreakerState:
        """The state now; with a shared store this asks it."""
        return self._store.update(self.name, lambda record, _: record.state)

    def permit(self, lifetime_s: float | None = None) -> Permit:
        """A context manager around one call; entering it raises `CallNotPermitted`.

        Args:
            lifetime_s: seconds after which a half-open place is given to another call
                (the job's deadline is a good value); the configured expiry by default.
        """
        return Permit(self, lifetime_s)

    def refresh(self) -> None:
        """Say the state to the metrics; another worker may have changed it."""
        state = self.state
        for known in BREAKER_STATES:
            instruments.CIRCUIT_BREAKER_STATE.set(int(known == state), name=self.name, state=known)

    def _acquire(self, lifetime_s: float | None) -> Ticket:
        answer, transitions = self._store.update(
            self.name, lambda record, now: acquire(record, self.config, now, lifetime_s)
        )
        self._tell(transitions)
        if isinstance(answer, Refusal):
            instruments.CIRCUIT_BREAKER_CALLS.add(name=self.name, kind="not_permitted")
            log.debug("circuit_breaker.call_refused", breaker=self.name, state=answer.state)
            raise CallNotPermitted(self.name, answer.state, answer.retry_after_s)
        return answer

    def _finish(self, ticket: Ticket, result: Result, duration_s: float) -> None:
        slow = int(result != "ignored" and duration_s > self.config.slow_call_s)
        transitions = self._store.update(
            self.name, lambda record, now: finish(record, self.config, now, ticket, result, slow)
        )
        instruments.CIRCUIT_BREAKER_CALLS.add(name=self.name, kind=result)
        if slow:
            instruments.CIRCUIT_BREAKER_CALLS.add(name=self.name, kind="slow")
        self._tell(transitions)

    def _tell(self, transitions: list[Transition]) -> None:
        for change in transitions:
            instruments.CIRCUIT_BREAKER_TRANSITIONS.add(
                name=self.name, from_=change.before, to=change.after
            )
            if change.recovery_s is not None:
                instruments.CIRCUIT_BREAKER_RECOVERY_DURATION.record(
                    change.recovery_s, name=self.name
                )
            tell = log.warning if change.after in ("open", "forced_open") else log.info
            # Also where it happened in its trace, which sampling keeps for this
            # (otel-collector/gateway.yaml).
            trace.get_current_span().add_event(
                "circuit_breaker.state_changed",
                {"breaker": self.name, "from_state": change.before, "to_state": change.after},
            )
            tell(
                "circuit_breaker.state_changed",
                breaker=self.name,
                from_state=change.before,
                to_state=change.after,
                reason=change.reason,
                failure_rate=change.failure_rate,
                slow_call_rate=change.slow_call_rate,
                recovery_s=change.recovery_s,
            )


class Permit:
    """Leave for one call. The first verdict counts, later ones are ignored."""

    __slots__ = ("_breaker", "_lifetime_s", "_started", "_ticket")

    def __init__(self, breaker: CircuitBreaker, lifetime_s: float | None) -> None:
        self._breaker = breaker
        self._lifetime_s = lifetime_s
        self._ticket: Ticket | None = None
        self._started = 0.0

    def __enter__(self) -> Self:
        self._ticket = self._breaker._acquire(self._lifetime_s)
        self._started = self._breaker.clock()
        return self

    def success(self) -> None:
        """The source did what was asked."""
        self._conclude("successful")

    def failure(self) -> None:
        """The source failed."""
        self._conclude("failed")

    def ignore(self) -> None:
        """The result says nothing about the source's health: an answer, a cancelled job."""
        self._conclude("ignored")

    def _conclude(self, result: Result) -> None:
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            elapsed = self._breaker.clock() - self._started
            self._breaker._finish(ticket, result, elapsed)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.success()
        elif isinstance(error, Exception):
            self.failure()
        else:  # the process or the job is being stopped; the source did nothing wrong
            self.ignore()
