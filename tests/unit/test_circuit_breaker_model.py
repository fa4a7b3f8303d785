"""The breaker against a model that keeps everything and works every rate out from scratch.

The model has no window, no buckets, no eras and no permits to run out of step: only a list
of all that happened since the state was entered. Hypothesis plays calls that overlap, end
late, never end, and clocks that jump, on both; after each step they must agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.resilience import (
    CallNotPermitted,
    CircuitBreaker,
    CircuitBreakerConfig,
    Permit,
)
from transcript_service.resilience.circuit_breaker import ForcedState

# Quarters of a second, which floats add exactly; the thresholds themselves are among them.
PAUSES = st.sampled_from([0.25, 0.75, 1.0, 3.75, 4.0, 4.75, 5.0, 7.0, 20.0])
DURATIONS = st.sampled_from([0.0, 0.0, 0.0, 0.25, 1.0, 2.0, 2.25])
RESULTS = st.sampled_from(["successful", "failed", "failed", "ignored"])
# Most of the time none.
FORCED = st.sampled_from([None] * 9 + [*get_args(ForcedState)])

configs = st.builds(
    CircuitBreakerConfig,
    window_type=st.sampled_from(["count", "time"]),
    window_size=st.integers(4, 8),
    minimum_calls=st.integers(1, 4),
    failure_rate=st.sampled_from([0.25, 0.5, 1.0]),
    slow_call_rate=st.sampled_from([0.5, 1.0]),
    slow_call_s=st.just(2.0),
    open_s=st.just(5.0),
    half_open_calls=st.integers(1, 3),
    permit_expiry_s=st.just(4.0),
)


@dataclass(eq=False)  # two calls that look alike are two calls
class Call:
    """One call, and what the model knows about it."""

    began: float
    spell: int
    place_until: float | None = None
    place_lost: bool = False


@dataclass
class Model:
    """The rules, word for word."""

    config: CircuitBreakerConfig
    state: str = "closed"
    entered: float = 0.0
    spell: int = 0
    """Counts the times a state was entered."""
    finished: list[tuple[float, bool, bool]] = field(default_factory=list)
    """(when, failed, slow) of every call that counts in this spell."""
    under_way: list[Call] = field(default_factory=list)

    def enter(self, state: str, now: float) -> None:
        self.state, self.entered, self.spell = state, now, self.spell + 1
        self.finished, self.under_way = [], []

    def ask(self, now: float) -> Call | None:
        if self.state == "forced_open":
            return None
        if self.state == "open":
            if now < self.entered + self.config.open_s:
                return None
            self.enter("half_open", now)
        call = Call(now, self.spell)
        if self.state == "half_open":
            for probe in self.under_way:
                if probe.place_until is not None and probe.place_until <= now:
                    probe.place_lost = True
            places_taken = sum(not probe.place_lost for probe in self.under_way)
            if places_taken + len(self.finished) >= self.config.half_open_calls:
                return None
            call.place_until = now + self.config.permit_expiry_s
        self.under_way.append(call)
        return call

    def end(self, call: Call, result: str, now: float) -> None:
        if call.spell != self.spell:
            return
        self.under_way.remove(call)
        if call.place_lost or result == "ignored" or self.state == "disabled":
            return
        slow = now - call.began > self.config.slow_call_s
        self.finished.append((now, result == "failed", slow))
        if self.state == "half_open":
            if len(self.finished) == self.config.half_open_calls:
                self.enter("open" if self.too_bad(self.finished) else "closed", now)
        elif self.state == "closed":
            window = self.window(now)
            if len(window) >= self.config.minimum_calls and self.too_bad(window):
                self.enter("open", now)

    def window(self, now: float) -> list[tuple[float, bool, bool]]:
        if self.config.window_type == "count":
            return self.finished[-self.config.window_size :]
        oldest = math.floor(now) - self.config.window_size + 1
        return [call for call in self.finished if math.floor(call[0]) >= oldest]

    def too_bad(self, calls: list[tuple[float, bool, bool]]) -> bool:
        failed = Fraction(sum(call[1] for call in calls), len(calls))
        slow = Fraction(sum(call[2] for call in calls), len(calls))
        return failed >= self.config.failure_rate or slow >= self.config.slow_call_rate


class BreakerMachine(RuleBasedStateMachine):
    calls = Bundle("calls")

    @initialize(config=configs, forced=FORCED)
    def begin(self, config: CircuitBreakerConfig, forced: ForcedState | None) -> None:
        self.now = 1000.0
        self.telemetry = InMemoryTelemetry()
        self.telemetry.__enter__()
        self.breaker = CircuitBreaker("asr", config, lambda: self.now, forced=forced)
        self.model = Model(config, forced or "closed")
        self.counts = dict.fromkeys(("successful", "failed", "ignored", "not_permitted"), 0)
        self.slow = 0

    @rule(seconds=PAUSES)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def the_moment_comes(self) -> None:
        """When a wait or a place ends exactly now: a moment that chance would miss."""
        moments = [call.place_until for call in self.model.under_way if call.place_until]
        if self.model.state == "open":
            moments.append(self.model.entered + self.model.config.open_s)
        self.now = min((moment for moment in moments if moment > self.now), default=self.now)

    @rule(results=st.lists(st.sampled_from(["successful", "slow"]), min_size=1, max_size=8))
    def calls_that_work_in_the_end(self, results: list[str]) -> None:
        """No failures, so that only slowness can open it."""
        self.whole_calls([("successful", 2.25 if each == "slow" else 0.0) for each in results])

    @rule(target=calls)
    def begin_call(self) -> object:
        call = self.ask()
        return multiple() if call is None else call

    @rule(call=consumes(calls), result=RESULTS)
    def end_call(self, call: tuple[Permit, Call], result: str) -> None:
        self.end(call, result)

    @rule(calls=st.lists(st.tuples(RESULTS, DURATIONS), min_size=1, max_size=8))
    def whole_calls(self, calls: list[tuple[str, float]]) -> None:
        """One call after another: the quick way from one state to the next."""
        for result, seconds in calls:
            call = self.ask()
            self.now += seconds
            if call is not None:
                self.end(call, result)
            self.they_agree()

    @rule(call=consumes(calls))
    def lose_call(self, call: tuple[Permit, Call]) -> None:
        """Its thread died: no verdict ever comes."""

    def ask(self) -> tuple[Permit, Call] | None:
        expected = self.model.ask(self.now)
        permit = self.breaker.permit()
        refused = None
        try:
            permit.__enter__()
        except CallNotPermitted as error:
            refused = error
        assert (refused is None) == (expected is not None), f"the model: {expected}; {refused}"
        if refused is not None:
            assert refused.retry_after_s > 0
            self.counts["not_permitted"] += 1
        return None if expected is None else (permit, expected)

    def end(self, call: tuple[Permit, Call], result: str) -> None:
        permit, expected = call
        self.model.end(expected, result, self.now)
        if result == "successful":
            permit.success()
        elif result == "failed":
            permit.failure()
        else:
            permit.ignore()
        self.counts[result] += 1
        took = self.now - expected.began
        self.slow += result != "ignored" and took > self.breaker.config.slow_call_s

    @invariant()
    def they_agree(self) -> None:
        if hasattr(self, "breaker"):
            assert self.breaker.state == self.model.state

    def teardown(self) -> None:
        if not hasattr(self, "telemetry"):
            return
        try:
            for kind, count in self.counts.items():
                assert (
                    self.telemetry.metric("circuit_breaker.calls", name="asr", kind=kind) == count
                )
            assert (
                self.telemetry.metric("circuit_breaker.calls", name="asr", kind="slow") == self.slow
            )
            moves = sum(
                value
                for (name, _), value in self.telemetry.metrics().items()
                if name == "circuit_breaker.transitions"
            )
            assert moves == len(self.telemetry.events("circuit_breaker.state_changed"))
        finally:
            self.telemetry.__exit__()


BreakerMachine.TestCase.settings = settings(stateful_step_count=40)
# Hypothesis may spend five minutes on the shortest way to a failure.
TestBreakerAgainstModel = pytest.mark.timeout(600)(BreakerMachine.TestCase)
