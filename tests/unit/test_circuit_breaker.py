"""What a breaker does, state by state, and what it says about it."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from opentelemetry import trace

from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.resilience import (
    CallNotPermitted,
    CircuitBreaker,
    CircuitBreakerConfig,
    breakers,
)
from transcript_service.resilience.circuit_breaker import ForcedState
from transcript_service.settings import Settings, SettingsError

CONFIG = CircuitBreakerConfig(
    window_size=10,
    minimum_calls=4,
    failure_rate=0.5,
    slow_call_rate=0.8,
    slow_call_s=5,
    open_s=60,
    half_open_calls=2,
    permit_expiry_s=30,
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make(clock: Clock, forced: ForcedState | None = None, **changes: Any) -> CircuitBreaker:
    config = CircuitBreakerConfig(**{**vars(CONFIG), **changes})
    return CircuitBreaker("timedtext", config, clock, forced=forced)


def call(breaker: CircuitBreaker, results: str, clock: Clock | None = None) -> None:
    """One call per letter: s(uccess), f(ailure), i(gnored), S and F the slow ones."""
    for result in results:
        with breaker.permit() as permit:
            if clock and result in "SF":
                clock.now += 6
            {"s": permit.success, "f": permit.failure, "i": permit.ignore}[result.lower()]()


def state_of(breaker: CircuitBreaker) -> str:
    return breaker.state


def opened(clock: Clock, **changes: Any) -> CircuitBreaker:
    breaker = make(clock, **changes)
    call(breaker, "ffff")
    assert state_of(breaker) == "open"
    return breaker


# Closed


@pytest.mark.parametrize(
    ("results", "state"),
    [
        ("", "closed"),
        ("fff", "closed"),  # fewer than the minimum
        ("ffff", "open"),
        ("sfsf", "open"),  # the rate is reached, not passed
        ("sssf", "closed"),
        ("sssssfffff", "open"),
        ("ssssssssssffff", "closed"),  # 4 of the last 10
        ("ssssssssssfffff", "open"),  # 5 of the last 10
        ("iiiiiiii", "closed"),
        ("fffiiii", "closed"),  # answers do not count towards the minimum
    ],
)
def test_it_opens_when_the_failure_rate_over_the_window_is_reached(
    clock: Clock, results: str, state: str
) -> None:
    breaker = make(clock)
    call(breaker, results)
    assert state_of(breaker) == state


@pytest.mark.parametrize(
    ("results", "state"), [("SSSS", "open"), ("sSSSS", "open"), ("ssSSS", "closed")]
)
def test_it_opens_when_calls_succeed_but_take_too_long(
    clock: Clock, results: str, state: str
) -> None:
    breaker = make(clock)
    call(breaker, results, clock)
    assert state_of(breaker) == state


def test_a_call_is_slow_only_beyond_the_threshold(clock: Clock) -> None:
    breaker = make(clock, minimum_calls=1, failure_rate=1, slow_call_rate=0.1)
    with breaker.permit():
        clock.now += 5
    assert state_of(breaker) == "closed"
    with breaker.permit():
        clock.now += 5.001
    assert state_of(breaker) == "open"


def test_a_time_window_forgets_calls_by_age(clock: Clock) -> None:
    breaker = make(clock, window_type="time", window_size=10)
    call(breaker, "fff")
    clock.now += 10
    call(breaker, "f")
    assert state_of(breaker) == "closed"
    clock.now += 9
    call(breaker, "fff")
    assert state_of(breaker) == "open"


def test_an_exception_is_a_failure_and_comes_out_unchanged(clock: Clock) -> None:
    breaker = make(clock, minimum_calls=1)
    with pytest.raises(RuntimeError, match="boom"), breaker.permit():
        raise RuntimeError("boom")
    assert state_of(breaker) == "open"


def test_a_verdict_given_before_an_exception_counts(clock: Clock) -> None:
    breaker = make(clock, minimum_calls=1)
    with pytest.raises(LookupError), breaker.permit() as permit:  # noqa: PT012 - the block is what is tested
        permit.ignore()
        raise LookupError("no captions")
    assert state_of(breaker) == "closed"


def test_only_the_first_verdict_counts(clock: Clock, telemetry: InMemoryTelemetry) -> None:
    breaker = make(clock)
    with breaker.permit() as permit:
        permit.success()
        permit.failure()
    assert telemetry.metric("circuit_breaker.calls", name="timedtext", kind="successful") == 1
    assert telemetry.metric("circuit_breaker.calls", name="timedtext", kind="failed") == 0


def test_being_stopped_is_not_held_against_the_source(clock: Clock) -> None:
    breaker = make(clock, minimum_calls=1)
    with pytest.raises(KeyboardInterrupt), breaker.permit():
        raise KeyboardInterrupt
    assert state_of(breaker) == "closed"


# Open and half-open


def test_an_open_breaker_refuses_and_says_for_how_long(clock: Clock) -> None:
    breaker = opened(clock)
    clock.now += 20
    with pytest.raises(CallNotPermitted) as refused, breaker.permit():
        pytest.fail("the call was made")
    assert (refused.value.state, refused.value.retry_after_s) == ("open", 40)


def test_after_the_wait_only_the_configured_number_of_probes_gets_through(clock: Clock) -> None:
    breaker = opened(clock)
    clock.now += 60
    with breaker.permit(), breaker.permit():
        with pytest.raises(CallNotPermitted) as refused, breaker.permit():
            pytest.fail("a third probe was made")
        assert (refused.value.state, refused.value.retry_after_s) == ("half_open", 30)
    assert state_of(breaker) == "closed"


def test_a_recovered_breaker_starts_with_an_empty_window(clock: Clock) -> None:
    breaker = opened(clock)
    clock.now += 60
    call(breaker, "ss")
    assert state_of(breaker) == "closed"
    call(breaker, "fff")
    assert state_of(breaker) == "closed"
    call(breaker, "f")
    assert state_of(breaker) == "open"


@pytest.mark.parametrize(("probes", "state"), [("fs", "open"), ("ff", "open"), ("ss", "closed")])
def test_all_probes_are_heard_before_the_state_is_decided(
    clock: Clock, probes: str, state: str
) -> None:
    breaker = opened(clock)
    clock.now += 60
    call(breaker, probes[0])
    assert state_of(breaker) == "half_open"
    call(breaker, probes[1])
    assert state_of(breaker) == state


def test_slow_probes_open_it_again(clock: Clock) -> None:
    breaker = opened(clock)
    clock.now += 60
    call(breaker, "SS", clock)
    assert state_of(breaker) == "open"


def test_an_answer_gives_the_probes_place_back(clock: Clock) -> None:
    breaker = opened(clock)
    clock.now += 60
    call(breaker, "iiiii")
    assert state_of(breaker) == "half_open"
    call(breaker, "ss")
    assert state_of(breaker) == "closed"


def test_the_place_of_a_probe_that_never_reports_is_given_away_when_it_expires(
    clock: Clock,
) -> None:
    breaker = opened(clock, half_open_calls=1)
    clock.now += 60
    lost = breaker.permit()
    lost.__enter__()
    with pytest.raises(CallNotPermitted), breaker.permit():
        pass
    clock.now += 30
    with breaker.permit() as permit:
        lost.failure()  # too late: another call has its place
        assert state_of(breaker) == "half_open"
        permit.success()
    assert state_of(breaker) == "closed"


def test_a_late_probe_counts_while_nobody_has_its_place(clock: Clock) -> None:
    breaker = opened(clock, half_open_calls=1)
    clock.now += 60
    with breaker.permit() as permit:
        clock.now += 31
        permit.failure()
    assert state_of(breaker) == "open"


def test_a_permit_can_live_as_long_as_its_job(clock: Clock) -> None:
    breaker = opened(clock, half_open_calls=1)
    clock.now += 60
    breaker.permit(lifetime_s=100).__enter__()
    clock.now += 99
    with pytest.raises(CallNotPermitted) as refused, breaker.permit():
        pass
    assert refused.value.retry_after_s == 1


def test_a_call_from_before_the_opening_does_not_decide_a_probe(clock: Clock) -> None:
    breaker = make(clock, half_open_calls=1)
    early = breaker.permit()
    early.__enter__()
    call(breaker, "ffff")
    clock.now += 60
    with breaker.permit() as permit:
        early.success()
        assert state_of(breaker) == "half_open"
        permit.failure()
    assert state_of(breaker) == "open"


def test_a_failed_probe_starts_the_wait_anew(clock: Clock) -> None:
    breaker = opened(clock)
    clock.now += 60
    call(breaker, "ff")
    clock.now += 59
    with pytest.raises(CallNotPermitted) as refused, breaker.permit():
        pass
    assert refused.value.retry_after_s == 1


@pytest.mark.parametrize("jump_s", [0.5, 3600])
def test_a_clock_that_is_set_back_makes_no_wait_longer(clock: Clock, jump_s: float) -> None:
    breaker = opened(clock, half_open_calls=1)
    clock.now -= jump_s
    with pytest.raises(CallNotPermitted) as refused, breaker.permit():
        pytest.fail("the call was made")
    assert (refused.value.state, refused.value.retry_after_s) == ("open", 60)
    clock.now += 60
    breaker.permit(lifetime_s=10).__enter__()
    clock.now -= jump_s
    with pytest.raises(CallNotPermitted) as refused, breaker.permit():
        pytest.fail("a second probe was made")
    assert (refused.value.state, refused.value.retry_after_s) == ("half_open", 10)


# Forced states


@pytest.mark.parametrize("state", ["disabled", "metrics_only"])
def test_a_forced_state_that_allows_calls_never_opens(clock: Clock, state: ForcedState) -> None:
    breaker = make(clock, state)
    call(breaker, "ffffffffff")
    assert state_of(breaker) == state


def test_forced_open_refuses_for_ever(clock: Clock) -> None:
    breaker = make(clock, "forced_open")
    clock.now += 1_000_000
    with pytest.raises(CallNotPermitted) as refused, breaker.permit():
        pytest.fail("the call was made")
    assert refused.value.state == "forced_open"


# What it says


def state_gauge(telemetry: InMemoryTelemetry) -> dict[str, float]:
    return {
        str(dict(attributes)["state"]): value
        for (name, attributes), value in telemetry.metrics(zeros=True).items()
        if name == "circuit_breaker.state"
    }


def test_the_state_is_said_anew_to_metrics_that_never_heard_it(clock: Clock) -> None:
    with InMemoryTelemetry():
        breaker = opened(clock)
    with InMemoryTelemetry() as later:
        breaker.refresh()
        assert later.metric("circuit_breaker.state", name="timedtext", state="open") == 1


def test_a_whole_outage_in_metrics_and_log(clock: Clock, telemetry: InMemoryTelemetry) -> None:
    breaker = make(clock)
    call(breaker, "ssi")
    call(breaker, "fF", clock)
    for _ in range(3):
        with pytest.raises(CallNotPermitted), breaker.permit():
            pass
    clock.now += 60
    call(breaker, "ff")
    clock.now += 60
    call(breaker, "ss")

    assert {
        kind: telemetry.metric("circuit_breaker.calls", name="timedtext", kind=kind)
        for kind in ("successful", "failed", "ignored", "slow", "not_permitted")
    } == {"successful": 4, "failed": 4, "ignored": 1, "slow": 1, "not_permitted": 3}
    assert {
        (dict(key[1])["from"], dict(key[1])["to"]): value
        for key, value in telemetry.metrics().items()
        if key[0] == "circuit_breaker.transitions"
    } == {
        ("closed", "open"): 1,
        ("open", "half_open"): 2,
        ("half_open", "open"): 1,
        ("half_open", "closed"): 1,
    }
    assert telemetry.metric("circuit_breaker.recovery.duration", name="timedtext") == 1
    assert telemetry.histogram_sum("circuit_breaker.recovery.duration", name="timedtext") == 120
    assert state_gauge(telemetry) == {
        "closed": 1,
        "open": 0,
        "half_open": 0,
        "disabled": 0,
        "forced_open": 0,
        "metrics_only": 0,
    }
    assert [
        (line["level"], line["breaker"], line["from_state"], line["to_state"], line["reason"])
        for line in telemetry.events("circuit_breaker.state_changed")
    ] == [
        ("warning", "timedtext", "closed", "open", "failure_rate"),
        ("info", "timedtext", "open", "half_open", "wait_elapsed"),
        ("warning", "timedtext", "half_open", "open", "failure_rate"),
        ("info", "timedtext", "open", "half_open", "wait_elapsed"),
        ("info", "timedtext", "half_open", "closed", "recovered"),
    ]


def test_a_change_is_marked_on_the_span_that_brought_it(
    clock: Clock, telemetry: InMemoryTelemetry
) -> None:
    breaker = make(clock)
    with trace.get_tracer("test").start_as_current_span("call"):
        call(breaker, "ffff")
    (event,) = telemetry.span("call").events
    assert event.name == "circuit_breaker.state_changed"
    assert event.attributes == {
        "breaker": "timedtext", "from_state": "closed", "to_state": "open"
    }  # fmt: skip


@pytest.mark.parametrize("state", ["disabled", "forced_open", "metrics_only"])
def test_a_forced_state_is_seen_in_the_metrics(
    clock: Clock, telemetry: InMemoryTelemetry, state: ForcedState
) -> None:
    breaker = make(clock, state)
    assert breaker.state == state
    assert [name for name, value in state_gauge(telemetry).items() if value] == [state]
    assert (
        telemetry.metric("circuit_breaker.transitions", name="timedtext", from_="closed", to=state)
        == 1
    )


# Eight threads


def test_of_eight_threads_exactly_the_permitted_probes_get_through_and_every_call_is_counted(
    clock: Clock, telemetry: InMemoryTelemetry
) -> None:
    breaker = opened(clock)
    clock.now += 60
    start, tried, finish = threading.Barrier(8), threading.Barrier(9), threading.Event()
    through: list[int] = []
    refused: list[int] = []

    def caller(number: int) -> None:
        start.wait()
        try:
            with breaker.permit() as permit:
                through.append(number)
                tried.wait()
                finish.wait()
                permit.success()
        except CallNotPermitted:
            refused.append(number)
            tried.wait()

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    tried.wait(timeout=30)  # all eight have been let through or refused, none has finished
    assert (len(through), len(refused)) == (CONFIG.half_open_calls, 8 - CONFIG.half_open_calls)
    assert state_of(breaker) == "half_open"
    finish.set()
    for thread in threads:
        thread.join()
    assert state_of(breaker) == "closed"
    counted = {
        kind: telemetry.metric("circuit_breaker.calls", name="timedtext", kind=kind)
        for kind in ("successful", "failed", "ignored", "not_permitted")
    }
    assert counted == {"successful": 2, "failed": 4, "ignored": 0, "not_permitted": 6}


def test_under_eight_threads_the_counts_add_up_to_the_calls_made(
    clock: Clock, telemetry: InMemoryTelemetry
) -> None:
    breaker = make(clock, open_s=0.5)
    calls_each = 500
    start = threading.Barrier(8)

    def caller(number: int) -> None:
        start.wait()
        for turn in range(calls_each):
            clock.now += 0.001
            try:
                with breaker.permit() as permit:
                    (permit.success, permit.failure, permit.ignore)[(number + turn) % 3]()
            except CallNotPermitted:
                pass

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = sum(
        telemetry.metric("circuit_breaker.calls", name="timedtext", kind=kind)
        for kind in ("successful", "failed", "ignored", "not_permitted")
    )
    assert counted == 8 * calls_each
    moves = {
        (dict(key[1])["from"], dict(key[1])["to"]): value
        for key, value in telemetry.metrics().items()
        if key[0] == "circuit_breaker.transitions"
    }
    into_open = moves.get(("closed", "open"), 0) + moves.get(("half_open", "open"), 0)
    assert moves[("closed", "open")] >= 1
    assert into_open - moves.get(("open", "half_open"), 0) in (0, 1)


def test_calls_run_side_by_side(clock: Clock) -> None:
    breaker = make(clock)
    together = threading.Barrier(4)

    def caller() -> None:
        with breaker.permit():
            together.wait(timeout=30)  # passes only if all four are inside at once

    threads = [threading.Thread(target=caller) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not together.broken


# From the settings


def test_every_stage_has_a_breaker_of_its_own(telemetry: InMemoryTelemetry) -> None:
    made = breakers(Settings(circuit_breaker_minimum_calls=1, redis_url=None))
    assert list(made) == ["youtube_api", "timedtext", "youtubei", "asr"]
    assert made["asr"].config.slow_call_s == 300
    call(made["timedtext"], "f")
    assert {stage: breaker.state for stage, breaker in made.items()} == {
        "youtube_api": "closed",
        "timedtext": "open",
        "youtubei": "closed",
        "asr": "closed",
    }


def test_without_redis_it_is_said_once_that_state_is_per_process(
    telemetry: InMemoryTelemetry,
) -> None:
    settings = Settings(circuit_breaker_open_s=61.5, redis_url=None)
    assert breakers(settings) is breakers(settings)
    assert [line["shared"] for line in telemetry.events("circuit_breaker.store_chosen")] == [False]


def test_a_stage_that_is_switched_off_has_no_breaker_that_would_always_be_closed(
    telemetry: InMemoryTelemetry,
) -> None:
    made = breakers(Settings(enable_youtubei=False, enable_asr=False, redis_url=None))
    assert list(made) == ["youtube_api", "timedtext"]
    names = {
        dict(attributes)["name"]
        for (name, attributes) in telemetry.metrics()
        if name == "circuit_breaker.state"
    }
    assert names == {"youtube_api", "timedtext"}


def test_a_state_can_be_forced_by_configuration(telemetry: InMemoryTelemetry) -> None:
    made = breakers(Settings(circuit_breaker_forced=("youtubei=forced_open",), redis_url=None))
    assert made["youtubei"].state == "forced_open"
    assert made["asr"].state == "closed"


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("circuit_breaker_forced", ("nowhere=disabled",), "'nowhere' is no stage"),
        ("circuit_breaker_forced", ("asr=ajar",), "'ajar' cannot be used for asr"),
        ("circuit_breaker_slow_call_s", ("asr=soon",), "'soon' cannot be used for asr"),
        ("circuit_breaker_slow_call_s", ("asr=0",), "'0' cannot be used for asr"),
        ("circuit_breaker_minimum_calls", 21, "could never open"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused_by_name(
    field: str, value: Any, complaint: str
) -> None:
    with pytest.raises(SettingsError, match=complaint) as refused:
        breakers(Settings(redis_url=None).model_copy(update={field: value}))
    assert "CIRCUIT_BREAKER_" in str(refused.value)
