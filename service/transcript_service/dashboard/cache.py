"""A small answer cache: one refresh at a time per question, old answers when asking fails.

The behaviour is that of caching proxies for Prometheus (Trickster, Thanos query-frontend):
collapsed forwarding, stale-if-error, a short negative cache, and errors that never
replace a good answer. Each worker process has its own.
"""

from __future__ import annotations

import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from ..resilience.single_flight import SingleFlight
from ..telemetry.instruments import DASHBOARD_CACHE_LOOKUPS

T = TypeVar("T")
# Entries fetched in the same round must not expire in the same instant ever after.
_JITTER: Final = 0.1
# How long a failure is remembered, so that a dead upstream costs one wait, not one per caller.
NEGATIVE_TTL_S: Final = 3.0


@dataclass(frozen=True)
class Cached(Generic[T]):
    """An answer with its history.

    Attributes:
        age_s: seconds since it was fetched.
        fresh_for_s: seconds for which it will still be served without asking again.
        stale: it is past its time, and asking again failed with `failure`.
        result: `hit`, `miss` or `stale`, as counted.
    """

    value: T
    age_s: float
    fresh_for_s: float
    stale: bool
    result: str
    failure: Exception | None = None


@dataclass
class _Entry(Generic[T]):
    value: T | None = None
    fetched_at: float = 0.0
    fresh_until: float = 0.0
    failure: Exception | None = None
    failure_until: float = 0.0


class AnswerCache(Generic[T]):
    """Remembers answers for `ttl_s`, and for `stale_s` more while asking again fails.

    Args:
        ttl_s: seconds an answer counts as fresh (±10 %).
        stale_s: seconds beyond that for which it may stand in for a failed refresh.
        brief: tells an answer that is only good for `NEGATIVE_TTL_S`, such as an incomplete one.
        size: most questions remembered; the least recently asked goes first.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        ttl_s: float,
        stale_s: float,
        brief: Callable[[T], bool] = lambda _: False,
        size: int = 512,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ttl_s = ttl_s
        self._stale_s = stale_s
        self._brief = brief
        self._size = size
        self._clock = clock
        self._lock = threading.Lock()
        self._refreshes: SingleFlight[Hashable, Cached[T]] = SingleFlight()
        self._entries: OrderedDict[Hashable, _Entry[T]] = OrderedDict()

    def get(self, key: Hashable, fetch: Callable[[], T]) -> Cached[T]:
        """The answer to `key`, fetched by at most one caller at a time.

        Raises:
            Exception: what `fetch` raised, if there is no answer young enough to serve.
        """
        entry = self._entry(key)
        found = self._fresh(entry)
        if found is None:
            try:
                # Looked at once more: another caller's refresh may have ended just now.
                done = self._refreshes.run(
                    key, lambda: self._fresh(entry) or self._refreshed(entry, fetch)
                )
            except Exception:
                DASHBOARD_CACHE_LOOKUPS.add(1, result="miss")
                raise
            found = done.value if done.led else self._fresh(entry) or done.value
        DASHBOARD_CACHE_LOOKUPS.add(1, result=found.result)
        return found

    def last(self, key: Hashable, failure: Exception) -> Cached[T] | None:
        """What is known about `key` without waiting, as it would be served after `failure`."""
        with self._lock:
            entry = self._entries.get(key)
        if entry is None:
            return None
        try:
            return self._fresh(entry) or self._stale(entry, failure)
        except type(failure):
            return None

    def _entry(self, key: Hashable) -> _Entry[T]:
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)
            return entry

    def _fresh(self, entry: _Entry[T]) -> Cached[T] | None:
        now = self._clock()
        if entry.value is None or now >= entry.fresh_until:
            return None
        age_s, left_s = now - entry.fetched_at, entry.fresh_until - now
        return Cached(entry.value, age_s, left_s, stale=False, result="hit")

    def _refreshed(self, entry: _Entry[T], fetch: Callable[[], T]) -> Cached[T]:
        if entry.failure is not None and self._clock() < entry.failure_until:
            return self._stale(entry, entry.failure)
        try:
            entry.value = fetch()
        except Exception as error:
            entry.failure = error
            entry.failure_until = self._clock() + NEGATIVE_TTL_S
            return self._stale(entry, error)
        entry.failure = None
        entry.fetched_at = self._clock()
        ttl_s = NEGATIVE_TTL_S if self._brief(entry.value) else self._ttl_s
        spread = 1 + random.uniform(-_JITTER, _JITTER)  # noqa: S311 - not a secret
        entry.fresh_until = entry.fetched_at + ttl_s * spread
        return Cached(entry.value, 0.0, ttl_s * spread, stale=False, result="miss")

    def _stale(self, entry: _Entry[T], failure: Exception) -> Cached[T]:
        now = self._clock()
        if entry.value is None or now >= entry.fresh_until + self._stale_s:
            raise failure
        return Cached(
            entry.value, now - entry.fetched_at, 0.0, stale=True, result="stale", failure=failure
        )
