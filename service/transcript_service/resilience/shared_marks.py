"""Marks with an end, which all workers see through Redis; without it each has its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

import redis

from .shared_redis import Shared

# How long an answer is taken for the truth: that long a proxy may be used that others have left.
_TRUE_S: Final = 1.0


class SharedMarks:
    """Names that are marked for some seconds. Thread-safe; no method raises.

    While Redis is away this process goes on with the marks that it knows, its own included. Those
    that it makes then are its own alone.

    Args:
        client: Redis, if there is one.
        kind: what the marks mean, a part of their keys.
        clock: monotonic seconds.
    """

    def __init__(
        self, client: redis.Redis | None, kind: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._shared = Shared(client, kind, clock)
        self._clock = clock
        self._lock = threading.Lock()
        self._until: dict[str, float] = {}
        self._learned_at: dict[str, float] = {}

    def set(self, name: str, seconds: float) -> None:
        """Mark `name` for so long, from now."""
        with self._lock:
            self._until[name] = self._clock() + seconds
        left_ms = max(1, int(seconds * 1000))
        self._shared.ask(lambda client: client.set(self._shared.key(name), b"", px=left_ms), None)

    def left(self, names: Iterable[str]) -> dict[str, float]:
        """Those of `names` that are marked, and the seconds for which they still are.

        What others have marked is known within a second.
        """
        names = tuple(names)
        self._learn(names)
        with self._lock:
            now = self._clock()
            self._until = {name: until for name, until in self._until.items() if until > now}
            return {name: self._until[name] - now for name in names if name in self._until}

    def _learn(self, names: Iterable[str]) -> None:
        now = self._clock()
        old = [name for name in names if self._learned_at.get(name, -_TRUE_S) + _TRUE_S <= now]
        if not old:
            return

        def ask(client: redis.Redis) -> list[int]:
            pipeline = client.pipeline(transaction=False)
            for name in old:
                pipeline.pttl(self._shared.key(name))
            return list(pipeline.execute())

        nothing: list[int] = []
        answers = self._shared.ask(ask, nothing)
        with self._lock:
            for name, left_ms in zip(old, answers, strict=False):
                self._learned_at[name] = now
                if left_ms > 0:
                    self._until[name] = max(self._until.get(name, 0.0), now + left_ms / 1000)
