"""Verdicts on contexts and browsers: from measurements to what should be done.

Nothing here does anything: the pool asks and acts.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from typing import Final, Literal

from playwright.async_api import Error as PlaywrightError

from .context import PROBES_KEPT, PooledContext
from .errors import BrowserUnavailable

# A context counts as worn when a page takes this many times as long to open as in a fresh
# one (crawl4ai measured 4 to 5 times, in contexts that had opened 1,000 pages) and long
# enough to matter.
WEAR_RATIO: Final = 3.0
WEAR_LEAST_S: Final = 0.5
# One worn context is replaced at a time: on a busy machine all may look slow together.
_WEAR_PAUSE_S: Final = 10.0
# A browser without any context gets this many measurements to come down again.
_PATIENCE: Final = 2
# How long a failed launch is remembered before the next caller may try again.
_RETRY_S: Final = 5.0
_RETRY_MOST_S: Final = 60.0
# A browser that dies younger than this counts towards a crash loop, which slows restarts.
_YOUNG_S: Final = 5.0
_FREE_RESTARTS: Final = 3
_RESTART_MOST_S: Final = 30.0


class Wear:
    """Tells a worn context by how long it takes to open a page.

    The yardstick is the same measurement in the pool's newest contexts, so a machine that
    is slow as a whole makes nothing look worn.
    """

    def __init__(self) -> None:
        self._fresh_s: deque[float] = deque(maxlen=8)
        self._last_at = -_WEAR_PAUSE_S

    def fresh(self, entry: PooledContext) -> None:
        """Take a new context's first measurement as part of the yardstick."""
        self._fresh_s.extend(entry.probes_s)

    def verdict(self, entry: PooledContext, now: float) -> str | None:
        """The measurements of a context that has become slow for good, else `None`."""
        if len(entry.probes_s) < PROBES_KEPT or not self._fresh_s:
            return None
        median_s, fresh_s = statistics.median(entry.probes_s), statistics.median(self._fresh_s)
        if median_s <= max(WEAR_LEAST_S, WEAR_RATIO * fresh_s):
            return None
        if now - self._last_at <= _WEAR_PAUSE_S:
            return None
        self._last_at = now
        return str({"median_s": round(median_s, 3), "fresh_s": round(fresh_s, 3)})


class MemoryPressure:
    """Whether the browser takes more than it may, above what it took when idle."""

    def __init__(self, threshold_bytes: int) -> None:
        self._threshold_bytes = threshold_bytes
        self.used_bytes: int | None = None
        self.high = False
        self._strikes = 0

    def judge(
        self, used_bytes: int, baseline_bytes: int, *, cgroup: bool
    ) -> Literal["threshold", "cgroup"] | None:
        """Take a measurement into account; the reason where it is the first that is too high.

        `cgroup` says whether the container is near its own limit.
        """
        was_high, self.used_bytes = self.high, used_bytes
        over = used_bytes - baseline_bytes > self._threshold_bytes
        self.high = over or cgroup
        if was_high or not self.high:
            return None
        return "threshold" if over else "cgroup"

    def should_replace(self, *, empty: bool) -> bool:
        """Whether a browser that is `empty` stays above for too long."""
        self._strikes = self._strikes + 1 if self.high and empty else 0
        if self._strikes < _PATIENCE:
            return False
        self._strikes = 0
        self.high = False
        return True


class Launches:
    """When a browser may be started: pauses after failures and in crash loops."""

    def __init__(self) -> None:
        self._refusal: BrowserUnavailable | None = None
        self._retry_at = 0.0
        self._failures = 0
        self._young_deaths = 0

    @property
    def problem(self) -> BrowserUnavailable | None:
        """Why the last launch failed, until it is time to try again."""
        left_s = self._retry_at - time.monotonic()
        if self._refusal is None or left_s <= 0:
            return None
        return BrowserUnavailable(self._refusal.reason, str(self._refusal), left_s)

    @property
    def pause_s(self) -> float:
        """Seconds to wait before the next launch."""
        excess = self._young_deaths - _FREE_RESTARTS
        return min(_RESTART_MOST_S, 2.0**excess / 4) if excess > 0 else 0.0

    def succeeded(self) -> None:
        self._failures, self._refusal = 0, None

    def failed(self, error: Exception) -> BrowserUnavailable:
        """Remember a failure; the refusal to tell those who wait."""
        if not isinstance(error, BrowserUnavailable):
            said = type(error).__name__
            if isinstance(error, PlaywrightError):
                said = error.message.strip().splitlines()[0]
            error = BrowserUnavailable("launch_failed", f"Chromium did not start: {said}")
        error.retry_after_s = min(_RETRY_MOST_S, _RETRY_S * 2**self._failures)
        self._failures += 1
        self._refusal, self._retry_at = error, time.monotonic() + error.retry_after_s
        return error

    def died(self, lived_s: float) -> None:
        """Count a browser's death."""
        self._young_deaths = self._young_deaths + 1 if lived_s < _YOUNG_S else 0
