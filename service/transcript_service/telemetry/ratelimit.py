"""Keep one noisy event from drowning the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

_WINDOW_S: Final = 60.0
_MOST_KEYS: Final = 4096
_ALWAYS: Final = 50  # critical lines are never left out


class RateLimit:
    """At most so many lines a minute for each (event, subject, stage).

    The subject is the video where a line has one, else the trace, else (outside requests) the
    logger and text; there is no key that unrelated requests share. What was left out is said
    on the next line of the same key that gets through.
    """

    def __init__(self, per_min: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`per_min` lines a minute and key; 0 for no limit."""
        self.per_min = per_min
        self._clock = clock
        self._lock = threading.RLock()  # `__del__` and signal handlers may log
        # key → [end of its window, lines let through, lines left out]
        self._keys: dict[tuple[Any, ...], list[float]] = {}

    def check(self, event: str, fields: Mapping[str, Any], level: int, trace_id: int = 0) -> int:
        """-1: leave the line out. Else write it; the number was left out before it."""
        if not self.per_min or level >= _ALWAYS:
            return 0
        subject = (
            fields.get("video_id") or trace_id or (fields.get("logger"), fields.get("message"))
        )
        key = (event, subject, fields.get("stage"))
        now = self._clock()
        with self._lock:
            state = self._keys.get(key)
            if state is None:
                if len(self._keys) >= _MOST_KEYS:
                    self._forget(now)
                self._keys[key] = [now + _WINDOW_S, 1, 0]
                return 0
            if now >= state[0]:
                suppressed = int(state[2])
                state[:] = [now + _WINDOW_S, 1, 0]
                return suppressed
            if state[1] < self.per_min:
                state[1] += 1
                return 0
            state[2] += 1
            return -1

    def _forget(self, now: float) -> None:
        """Drop ended windows; if none has ended, the oldest quarter."""
        ended = [key for key, state in self._keys.items() if now >= state[0]]
        for key in ended or list(self._keys)[: _MOST_KEYS // 4]:
            del self._keys[key]
