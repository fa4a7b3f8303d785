"""Where a breaker's record lives: in this process, or in Redis for all workers.

A store has one operation: read the record, let a pure function change it, keep it. In
this process a lock makes that atomic; it is held for the decision only, never for the
call that the breaker protects. In Redis it is optimistic: the record is written back by
a script that compares it with what was read, and the function runs again if another
worker was faster (as in "Optimistic locking using check-and-set", Redis documentation,
but with one round trip less than WATCH). Time is Redis's own, so workers on machines
whose clocks differ agree on when a breaker may try again.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import orjson
import redis

from ..telemetry import get_logger
from .breaker_state import Record
from .shared_redis import Shared

log = get_logger(__name__)

T = TypeVar("T")
Change = Callable[[Record, float], T]
"""Changes the record given the store's time in seconds. May run more than once."""


class LocalStore:
    """Records of this process alone."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        records: dict[str, Record] | None = None,
    ) -> None:
        self._clock = clock
        self._records = dict(records or {})
        self._lock = threading.Lock()

    def update(self, name: str, change: Change[T]) -> T:
        """Apply `change` atomically to the record of `name` and return its result.

        Never waits for anything but other decisions.
        """
        with self._lock:
            record = self._records.get(name)
            if record is None:
                record = self._records[name] = Record()
            return change(record, self._clock())


def _parse(raw: bytes, name: str) -> Record:
    """The record; a new one where there is none or none that can be read, which is said."""
    if not raw:
        return Record()
    try:
        return Record.from_json(orjson.loads(raw))
    except (TypeError, KeyError, ValueError) as error:
        log.warning(
            "circuit_breaker.record_discarded", breaker=name, error_type=type(error).__name__
        )
        return Record()


_COMPARE_AND_SET = """
local current = redis.call('GET', KEYS[1]) or ''
if current ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""
# A breaker that nobody asked for a day may forget: any window is far shorter.
_KEEP_S = 86_400
# Every round one writer wins, so this is enough for that many at the same instant.
_TRIES = 64


class RedisStore:
    """Records shared through Redis. When Redis fails, this process goes on alone.

    It goes on from the last record it saw, so an outage of Redis does not close an open
    breaker. What was decided meanwhile is dropped when Redis is back: the shared record counts.

    Args:
        client: of `shared_redis.connect`: a breaker must cost less than what it saves.
        clock: monotonic seconds of this process, used while Redis is away.
    """

    def __init__(self, client: redis.Redis, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._shared = Shared(client, "breaker", clock)
        self._compare_and_set = client.register_script(_COMPARE_AND_SET)
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[str, bytes] = {}
        self._ahead_s = 0.0  # Redis's time less this process's
        self._alone: LocalStore | None = None

    def update(self, name: str, change: Change[T]) -> T:
        """As `LocalStore.update`. At most about a second, then this process decides alone."""
        found: tuple[T] | None = self._shared.ask(lambda _: (self._update(name, change),), None)
        if found is None:
            return self._go_on_alone().update(name, change)
        self._alone = None
        return found[0]

    def _update(self, name: str, change: Change[T]) -> T:
        key = self._shared.key(name)
        try:
            for attempt in range(_TRIES):
                raw, now = self._read(key)
                record = _parse(raw, name)
                result = change(record, now)
                new = orjson.dumps(record.to_json())
                if new == raw or self._compare_and_set([key], [raw, new, _KEEP_S]):
                    with self._lock:
                        self._seen[name] = new
                        self._ahead_s = now - self._clock()
                    return result
                time.sleep(random.uniform(0.0, 0.001 * min(attempt + 1, 10)))  # noqa: S311
        except redis.ResponseError as error:
            # One that is full still reads, and would undo what is decided here meanwhile.
            raise redis.RedisError("the record cannot be kept") from error
        raise redis.WatchError(f"{key} changed {_TRIES} times while it was being updated")

    def _read(self, key: str) -> tuple[bytes, float]:
        pipeline = self._client.pipeline(transaction=False)
        pipeline.get(key)
        pipeline.time()
        raw, (seconds, microseconds) = pipeline.execute()
        return raw or b"", seconds + microseconds / 1e6

    def _go_on_alone(self) -> LocalStore:
        with self._lock:
            if self._alone is None:
                ahead = self._ahead_s
                records = {name: _parse(raw, name) for name, raw in self._seen.items()}
                self._alone = LocalStore(lambda: self._clock() + ahead, records)
            return self._alone


Store = LocalStore | RedisStore
