"""Keeps one browser running: starts it, notices its death, replaces it."""

from __future__ import annotations

import asyncio
import math
import time
import weakref
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from .entry import State
from .errors import BrowserUnavailable
from .process import Process
from .signals import RetireReason

if TYPE_CHECKING:
    from .pool import ContextPool

# How long a failed launch is remembered before the next caller may try again.
_RETRY_S: Final = 5.0
_RETRY_MOST_S: Final = 60.0
# A browser that dies younger than this counts towards a crash loop, which slows restarts.
_YOUNG_S: Final = 5.0
_FREE_RESTARTS: Final = 3
# Two silent heartbeats in a row: one can be a machine that was busy.
_MISSED: Final = 2


class Supervisor:
    """The browser new contexts are made in, and older ones that are still draining."""

    def __init__(self, launch: Callable[[], Awaitable[Process]], pool: ContextPool) -> None:
        self._launch = launch
        self._pool = pool
        self.process: Process | None = None
        self._draining: list[Process] = []
        # Those this class has ended itself, or knows to be dead.
        self._ended: weakref.WeakSet[Process] = weakref.WeakSet()
        self._launching = False
        self._refusal: BrowserUnavailable | None = None
        self._retry_at = 0.0
        self._failures = 0
        self._young_deaths = 0
        self._beat_at = -math.inf
        self._missed: dict[Process, int] = {}

    @property
    def problem(self) -> BrowserUnavailable | None:
        """Why the last launch failed, until it is time to try again."""
        left_s = self._retry_at - time.monotonic()
        if self._refusal is None or left_s <= 0:
            return None
        return BrowserUnavailable(self._refusal.reason, str(self._refusal), left_s)

    def ensure(self) -> None:
        """Start a browser unless there is one, one is starting, or it failed just now."""
        if self.process is None and not self._launching and self.problem is None:
            self._launching = True
            self._pool.spawn(self._start())

    async def _start(self) -> None:
        try:
            if self._young_deaths > _FREE_RESTARTS:
                await asyncio.sleep(min(30.0, 2.0 ** (self._young_deaths - _FREE_RESTARTS) / 4))
            if not self._pool.closing:
                self._adopt(await self._launch())
        except BrowserUnavailable as error:
            self._refuse(error)
        except Exception as error:
            refusal = BrowserUnavailable(
                "launch_failed", f"Chromium did not start: {type(error).__name__}"
            )
            refusal.__cause__ = error
            self._refuse(refusal)
        finally:
            self._launching = False

    def _adopt(self, process: Process) -> None:
        self._failures, self._refusal = 0, None
        self._pool.signals.launches += 1
        self.process = process
        process.on_lost(lambda: self.lost(process, "disconnected"))
        self._pool.signals.memory(process.baseline_bytes)
        self._pool.pump()

    def _refuse(self, error: BrowserUnavailable) -> None:
        pause_s = min(_RETRY_MOST_S, _RETRY_S * 2**self._failures)
        self._failures += 1
        self._refusal, self._retry_at = error, time.monotonic() + pause_s
        error.retry_after_s = pause_s
        self._pool.signals.browser_unavailable(error.reason, str(error), pause_s)
        self._pool.fail_waiters(error)

    def lost(self, process: Process, reason: str) -> None:
        """A browser died or no longer answers: drop its contexts, start the next one."""
        if process in self._ended:
            return
        self._ended.add(process)
        lived_s = time.monotonic() - process.started_at
        self._young_deaths = self._young_deaths + 1 if lived_s < _YOUNG_S else 0
        contexts = self._pool.workshop.forget_process(process, "crash", "crash")
        self._pool.signals.browser_crashed(reason, lived_s=lived_s, contexts=contexts)
        self._remove(process)
        # Also when it is dead already: it may have left a driver or renderers behind.
        self._pool.spawn(process.destroy())
        if not self._pool.closing:
            self.ensure()

    def replace(self, process: Process, reason: RetireReason) -> None:
        """Make no more contexts in this browser; end it when the last one has gone."""
        if process in self._ended or process in self._draining:
            return
        self._pool.signals.browser_replaced(reason, self._pool.memory.used_bytes)
        if self.process is process:
            self.process = None
        self._draining.append(process)
        for entry in self._pool.entries:
            if entry.process is process:
                entry.condemn(reason)
                if entry.state is State.IDLE:
                    self._pool.workshop.retire(entry, reason)
        self.drained(process)
        if not self._pool.closing:
            self.ensure()

    def drained(self, process: Process) -> None:
        """End a replaced browser that has no context left."""
        if process in self._draining and not any(
            entry.process is process for entry in self._pool.entries
        ):
            self._ended.add(process)
            self._remove(process)
            self._pool.spawn(process.destroy())

    def _remove(self, process: Process) -> None:
        if self.process is process:
            self.process = None
        if process in self._draining:
            self._draining.remove(process)
        self._missed.pop(process, None)

    def tick(self) -> None:
        """Ask every browser for a sign of life when it is time."""
        now = self._pool.clock()
        if now - self._beat_at < self._pool.config.heartbeat_s:
            return
        self._beat_at = now
        for process in (self.process, *self._draining):
            if process is not None:
                self._pool.spawn(self.check(process))

    async def check(self, process: Process) -> bool:
        """Ask one browser for a sign of life; when it is dead it is dealt with here."""
        if process in self._ended:
            return False
        try:
            async with asyncio.timeout(self._pool.config.heartbeat_s):
                await process.heartbeat()
        except TimeoutError:
            self._missed[process] = self._missed.get(process, 0) + 1
            if self._missed[process] >= _MISSED:
                self.lost(process, "hung")
            return False
        except Exception:
            self.lost(process, "driver")
            return False
        self._missed.pop(process, None)
        return True

    async def close(self) -> None:
        """End all browsers."""
        ending = [p for p in (self.process, *self._draining) if p is not None]
        self._ended.update(ending)
        self.process, self._draining = None, []
        await asyncio.gather(*(process.destroy() for process in ending))
