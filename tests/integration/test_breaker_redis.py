"""Breakers of several workers sharing one real Redis."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
import redis

from tests.redis_server import Server, client, until
from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.resilience import (
    CallNotPermitted,
    CircuitBreaker,
    CircuitBreakerConfig,
)
from transcript_service.resilience.breaker_state import Bucket, Record
from transcript_service.resilience.breaker_store import RedisStore

CONFIG = CircuitBreakerConfig(minimum_calls=4, open_s=0.3, half_open_calls=2, permit_expiry_s=30)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    yield server
    server.stop()


def worker(server: Server, config: CircuitBreakerConfig = CONFIG) -> CircuitBreaker:
    """A breaker as another worker would have it: own connection, own store.

    It waits longer than a store that must not: on a busy machine half a second is short, and who
    found Redis away would decide alone.
    """
    return CircuitBreaker("timedtext", config, store=RedisStore(client(server.url, 30)))


def impatient(server: Server) -> CircuitBreaker:
    """As the service has it, which does not wait for Redis."""
    return CircuitBreaker("timedtext", CONFIG, store=RedisStore(client(server.url)))


def fail(breaker: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        with breaker.permit() as permit:
            permit.failure()


def succeed(breaker: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        with breaker.permit():
            pass


def state_of(breaker: CircuitBreaker) -> str:
    return breaker.state


def half_open(breaker: CircuitBreaker) -> bool:
    """Whether the wait is over and the next call would be a probe; makes no call."""
    try:
        with breaker.permit() as permit:
            permit.ignore()
    except CallNotPermitted:
        return False
    return True


def test_failures_seen_by_different_workers_add_up(server: Server) -> None:
    first, second = worker(server), worker(server)
    fail(first, 2)
    assert state_of(second) == "closed"
    fail(second, 2)
    assert state_of(first) == "open"
    with pytest.raises(CallNotPermitted) as refused, first.permit():
        pass
    assert 0 < refused.value.retry_after_s <= CONFIG.open_s


def test_a_worker_that_starts_later_finds_the_breaker_open(server: Server) -> None:
    fail(worker(server, CircuitBreakerConfig(minimum_calls=4, open_s=60)), 4)
    assert state_of(worker(server)) == "open"


def test_probes_are_counted_over_all_workers(server: Server) -> None:
    workers = [worker(server) for _ in range(4)]
    fail(workers[0], 4)
    until(lambda: half_open(workers[3]))
    with workers[0].permit(), workers[1].permit():
        for late in workers[2:]:
            with pytest.raises(CallNotPermitted), late.permit():
                pytest.fail("a third probe was made")
    assert [state_of(each) for each in workers] == ["closed"] * 4


def test_eight_threads_of_eight_workers_get_exactly_the_permitted_probes(
    server: Server, telemetry: InMemoryTelemetry
) -> None:
    workers = [worker(server) for _ in range(8)]
    fail(workers[0], 4)
    until(lambda: half_open(workers[0]))
    telemetry.clear()
    refused_before = telemetry.metric(
        "circuit_breaker.calls", name="timedtext", kind="not_permitted"
    )
    start, tried, finish = threading.Barrier(8), threading.Barrier(9), threading.Event()
    through: list[CircuitBreaker] = []

    def caller(breaker: CircuitBreaker) -> None:
        start.wait()
        try:
            with breaker.permit():
                through.append(breaker)
                tried.wait()
                finish.wait()
        except CallNotPermitted:
            tried.wait()

    threads = [threading.Thread(target=caller, args=(each,)) for each in workers]
    for thread in threads:
        thread.start()
    tried.wait(timeout=60)
    assert len(through) == CONFIG.half_open_calls
    finish.set()
    for thread in threads:
        thread.join()
    assert state_of(workers[7]) == "closed"
    assert (
        telemetry.metric("circuit_breaker.calls", name="timedtext", kind="not_permitted")
        == refused_before + 6
    )
    # One recovery, whoever of the eight happened to bring it about.
    assert telemetry.metric("circuit_breaker.recovery.duration", name="timedtext") == 1


def _record_in_another_process(url: str, failures: int, answers: int) -> None:
    config = CircuitBreakerConfig(window_size=400, minimum_calls=400)
    breaker = CircuitBreaker("asr", config, store=RedisStore(client(url)))
    for turn in range(failures + answers):
        with breaker.permit() as permit:
            permit.failure() if turn < failures else permit.success()


def test_no_result_is_lost_when_processes_write_at_the_same_time(server: Server) -> None:
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_record_in_another_process, args=(server.url, 20, 30))
        for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    store = RedisStore(client(server.url))
    calls, failure_rate, _ = store.update("asr", lambda record, _: record.rates())
    assert calls == 150
    assert failure_rate == pytest.approx(60 / 150)


def test_a_worker_sees_in_its_metrics_what_another_one_decided(
    server: Server, telemetry: InMemoryTelemetry
) -> None:
    first, second = worker(server), worker(server)
    assert state_of(second) == "closed"
    fail(first, 4)
    assert telemetry.metric("circuit_breaker.state", name="timedtext", state="open") == 1
    assert telemetry.metric("circuit_breaker.state", name="timedtext", state="closed") == 0


def test_without_redis_a_worker_goes_on_from_what_it_knew_and_says_so_once(
    server: Server, telemetry: InMemoryTelemetry
) -> None:
    config = CircuitBreakerConfig(minimum_calls=4, open_s=60)
    now = [0.0]
    breaker = CircuitBreaker(
        "timedtext", config, store=RedisStore(client(server.url), clock=lambda: now[0])
    )
    fail(breaker, 4)
    server.stop()
    assert state_of(breaker) == "open"
    now[0] += 60
    assert half_open(breaker), "time goes on while Redis is away"
    with breaker.permit(), breaker.permit():
        pass
    assert state_of(breaker) == "closed"
    assert len(telemetry.events("shared_state.lost")) == 1

    server.start()
    now[0] += 5
    assert state_of(breaker) == "closed"
    assert len(telemetry.events("shared_state.restored")) == 1
    fail(breaker, 4)
    assert state_of(worker(server)) == "open", "the state is shared again"


def test_a_redis_that_hangs_costs_a_second_once_and_then_nothing(server: Server) -> None:
    breaker = impatient(server)
    succeed(breaker, 1)
    server.hang()
    began = time.monotonic()
    # If each waited for Redis this would take fifty seconds.
    succeed(breaker, 101)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("value", ["surprise", "[]", "{}", '{"state": "open"}'])
def test_a_value_that_is_no_record_is_replaced_and_reported(
    server: Server, telemetry: InMemoryTelemetry, value: str
) -> None:
    redis.Redis.from_url(server.url).set("transcript-service:breaker:timedtext", value)
    fail(worker(server), 4)
    assert state_of(worker(server)) == "open"
    assert len(telemetry.events("circuit_breaker.record_discarded")) == 1


def test_a_forced_state_stays_in_its_process(server: Server) -> None:
    store = RedisStore(client(server.url, 30))
    first = CircuitBreaker("timedtext", CONFIG, store=store, forced="forced_open")
    assert state_of(first) == "forced_open"
    assert state_of(worker(server)) == "closed"


def keep(server: Server, record: Record) -> None:
    """Have Redis hold a record, as another deploy or another clock has left it."""
    redis.Redis.from_url(server.url).set(
        "transcript-service:breaker:timedtext", orjson.dumps(record.to_json())
    )


@pytest.mark.parametrize(("failed", "after"), [(0, "closed"), (1, "open")])
def test_probes_of_a_configuration_that_wanted_more_are_judged_by_the_one_of_now(
    server: Server, failed: int, after: str
) -> None:
    now = time.time()
    ended = [Bucket(now, 1, failed, 0)] * 3
    keep(server, Record(state="half_open", since=now, era=5, opened_at=now, window=ended))
    breaker = worker(server)  # two probes are enough for it
    if after == "closed":
        succeed(breaker, 1)
    else:
        with pytest.raises(CallNotPermitted), breaker.permit():
            pass
    assert state_of(breaker) == after
    until(lambda: half_open(breaker))


@pytest.mark.parametrize(
    "record",
    [
        Record(state="open", since=3600.0, era=5, opened_at=3600.0),
        Record(state="half_open", since=3600.0, era=5, opened_at=3500.0, probes={"a": 3700.0}),
        Record(state="half_open", since=-60.0, era=5, opened_at=-90.0, probes={"a": 3e3, "b": 4e3}),
        Record(state="closed", since=-60.0, era=5, window=[Bucket(3600.0, 1, 1, 0)]),
    ],
)
def test_when_the_clock_of_redis_is_set_back_no_wait_exceeds_the_configured_ones(
    server: Server, record: Record
) -> None:
    now = time.time()
    keep(
        server,
        replace(
            record,
            since=record.since + now,
            opened_at=None if record.opened_at is None else record.opened_at + now,
            window=[bucket._replace(at=bucket.at + now) for bucket in record.window],
            probes={probe: end + now for probe, end in record.probes.items()},
        ),
    )
    config = replace(CONFIG, permit_expiry_s=0.2)
    breaker = worker(server, config)
    with suppress(CallNotPermitted):
        try:
            with breaker.permit():
                pass
        except CallNotPermitted as refused:
            assert refused.retry_after_s <= max(config.open_s, config.permit_expiry_s)
            raise
    until(lambda: half_open(breaker), 3.0)
