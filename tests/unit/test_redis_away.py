"""How often a Redis that hangs is asked, and which of its answers mean that it is away."""

from __future__ import annotations

import threading
from typing import Any

import orjson
import redis

from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.resilience.breaker_state import Bucket, Record
from transcript_service.resilience.breaker_store import RedisStore
from transcript_service.resilience.shared_redis import Shared

NOWHERE = redis.Redis(host="127.0.0.1", port=1)  # connects at its first use, which never comes


def lost(client: redis.Redis) -> str:
    raise redis.TimeoutError


def test_of_many_threads_one_asks_a_redis_that_hangs() -> None:
    now = [0.0]
    shared = Shared(NOWHERE, "test", lambda: now[0])
    assert shared.ask(lost, "otherwise") == "otherwise"
    now[0] += 6
    asked, answer = threading.Event(), threading.Event()

    def hang(client: redis.Redis) -> str:
        asked.set()
        answer.wait(60)
        return lost(client)

    first = threading.Thread(target=shared.ask, args=(hang, "otherwise"), daemon=True)
    first.start()
    try:
        assert asked.wait(60)
        told: list[str] = []
        others = [
            threading.Thread(target=lambda: told.append(shared.ask(lambda _: "asked", "otherwise")))
            for _ in range(8)
        ]
        for thread in others:
            thread.start()
        for thread in others:
            thread.join(60)
        assert told == ["otherwise"] * 8
    finally:
        answer.set()
        first.join(60)
    now[0] += 6
    assert shared.ask(lambda _: "asked", "otherwise") == "asked"
    assert shared.ask(lambda _: "again", "otherwise") == "again"


class Hanging(RedisStore):
    """Whose Redis hangs until `answer` is set."""

    asked, answer = threading.Event(), threading.Event()
    hangs = False
    reads = 0

    def _read(self, key: str) -> tuple[bytes, float]:
        self.reads += 1
        if self.hangs:
            self.asked.set()
            self.answer.wait(60)
        raise redis.TimeoutError


def test_of_many_threads_one_waits_for_the_records_of_breakers() -> None:
    now = [0.0]
    store = Hanging(NOWHERE, clock=lambda: now[0])

    def change(record: Record, at: float) -> str:
        return "decided"

    assert store.update("a", change) == "decided"
    now[0] += 6
    store.hangs = True
    first = threading.Thread(target=store.update, args=("a", change), daemon=True)
    first.start()
    try:
        assert store.asked.wait(60)
        assert [store.update("a", change) for _ in range(8)] == ["decided"] * 8
        assert store.reads == 2
    finally:
        store.answer.set()
        first.join(60)


class Full(RedisStore):
    """Whose Redis is read and cannot be written."""

    def _read(self, key: str) -> tuple[bytes, float]:
        return orjson.dumps(Record().to_json()), 0.0


def test_what_breakers_decide_while_redis_is_full_is_not_forgotten() -> None:
    def refuse(*_: object) -> bool:
        raise redis.exceptions.OutOfMemoryError

    def fail(record: Record, at: float) -> None:
        record.window.append(Bucket(at, 1, 1, 0))

    store: Any = Full(NOWHERE, clock=lambda: 0.0)
    store._compare_and_set = refuse
    for calls in range(1, 4):
        store.update("a", fail)
        assert store.update("a", lambda record, _: len(record.window)) == calls


def test_a_redis_that_refuses_is_not_away_and_that_is_said_once(
    telemetry: InMemoryTelemetry,
) -> None:
    shared = Shared(NOWHERE, "test", lambda: 0.0)

    def full(client: redis.Redis) -> str:
        raise redis.exceptions.OutOfMemoryError

    for _ in range(3):
        assert shared.ask(full, "otherwise") == "otherwise"
        assert shared.ask(lambda _: "read", "otherwise") == "read"
    told = [line["error_type"] for line in telemetry.events("shared_state.refused")]
    assert told == ["OutOfMemoryError"]
    assert not telemetry.events("shared_state.lost")
