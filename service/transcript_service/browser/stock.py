"""The contexts of a pool and the browsers they live in: made, cleaned, closed, replaced.

Each of these takes time and is a task of its own: a caller who gives up cancels its wait
and nothing else, so no context is ever lost with it. Who gets which context is decided
elsewhere; whoever decides looks again when something has changed.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from playwright.async_api import BrowserContext, ConsoleMessage, Page

from ..settings import Settings
from ..telemetry import get_logger, instruments, span
from .context import SLOW_S, PooledContext, RetireReason, State
from .health import Launches, MemoryPressure, Wear
from .identity import Identity
from .memory import cgroup_pressure
from .process import ChromiumProcess, Tasks

log = get_logger(__name__)

# Two silent heartbeats in a row: one can be a machine that was busy.
_MISSED: Final = 2
# Characters of one console message that are kept.
_MOST_SAID: Final = 2000


@dataclass(frozen=True)
class Timing:
    """The pool's own times in seconds, which no operator has to choose; tests shorten them."""

    # How often the pool looks for expired contexts and asks the browser for a sign of life.
    tick_s: float = 1.0
    heartbeat_s: float = 5.0
    memory_interval_s: float = 5.0
    # Making, cleaning or closing one context takes 0.05 to 0.5 s, several seconds on a
    # machine that is overloaded; past this it is stuck.
    operation_s: float = 15.0
    # How long before its age limit a context's replacement is started.
    replace_ahead_s: float = 3.0
    # Share of the age limit by which it is made longer or shorter per context, so that
    # contexts made together do not expire together.
    age_jitter: float = 0.1


class Stock:
    """All contexts that exist, and the browser new ones are made in.

    `changed` is called when there may be a context to lend, room to make one, or no browser;
    `failed` when a browser that lives could not make a context.
    """

    def __init__(
        self,
        settings: Settings,
        launch: Callable[[], Awaitable[ChromiumProcess]],
        timing: Timing,
        clock: Callable[[], float],
        changed: Callable[[], None],
        failed: Callable[[Identity, Exception], None],
    ) -> None:
        self._settings = settings
        self._timing = timing
        self._launch = launch
        self._clock = clock
        self._changed = changed
        self._failed = failed
        # Since the start: contexts created, leases and those of a used context, launches, crashes.
        self.counts: Counter[str] = Counter()
        self.closed: Counter[str] = Counter()
        self.entries: list[PooledContext] = []
        # Contexts being made, by key: their places are taken already.
        self.making: Counter[str] = Counter()
        # One context at a time: several at once are what made others lose contexts.
        self._make_one = asyncio.Lock()
        self._wear = Wear()
        self.memory = MemoryPressure(settings.browser_memory_threshold_mb * 2**20)
        self._measure_at = -math.inf
        self._measuring = False
        # New contexts are made in it. A browser that contexts still live in and that is not
        # this one gets no more and goes with its last.
        self.process: ChromiumProcess | None = None
        self.launches = Launches()
        self._launching = False
        self._beat_at = -math.inf
        self._tasks = Tasks()
        self.closing = False

    def has_room(self, *, extra: int = 0) -> bool:
        """Whether one more context may exist.

        One that takes long to clean or close keeps no other from being made, as long as
        there are not twice as many as wanted.
        """
        most = self._settings.browser_max_contexts
        total = len(self.entries) + self.making.total()
        slow = sum(entry.is_slow for entry in self.entries)
        return total - slow < most + extra and total < 2 * most + extra

    # Contexts

    def make(self, identity: Identity) -> None:
        # Counted before the task has run: its place is taken from now on.
        self.making[identity.key] += 1
        self._tasks.spawn(self._make(identity))

    async def _make(self, identity: Identity) -> None:
        entry: PooledContext | None = None
        process = self.process
        try:
            async with self._make_one, asyncio.timeout(self._timing.operation_s):
                if process is None or process is not self.process or self.closing:
                    return
                started = time.monotonic()
                context = await process.new_context(identity)
                entry = self._adopt(identity, process, context)
                self.counts["created"] += 1
                entry.was_created(time.monotonic() - started)
                await entry.prepare()
        except Exception as error:
            if entry is not None:
                self.retire(entry, "unhealthy", detail=type(error).__name__)
            # In a browser that turns out to be dead the next one will serve the waiter.
            if process is not None and await self.check(process):
                self._failed(identity, error)
        finally:
            if entry is None:
                self.making[identity.key] -= 1
            elif entry.state is State.CLEANING:
                self._wear.fresh(entry)
                entry.enter(State.IDLE)
                if self.closing:
                    self.retire(entry, "shutdown")
            self._changed()

    def _adopt(
        self, identity: Identity, process: ChromiumProcess, context: BrowserContext
    ) -> PooledContext:
        now = self._clock()
        jitter = self._timing.age_jitter
        spread = random.uniform(-jitter, jitter)  # noqa: S311 - no secret
        entry = PooledContext(
            identity=identity,
            process=process,
            context=context,
            created_at=now,
            expires_at=now + self._settings.browser_context_max_age_minutes * 60 * (1 + spread),
            last_used_at=now,
        )
        context.on("page", lambda page: self._follow(entry, page))
        self.entries.append(entry)
        self.making[identity.key] -= 1
        return entry

    def _follow(self, entry: PooledContext, page: Page) -> None:
        """Watch a page: where it goes, what it says, if it crashes or may be."""

        def crashed(_: Page) -> None:
            log.warning("browser.context.crashed", **entry.named, uses=entry.uses)
            entry.condemn("crash")
            if entry.state is State.IDLE:
                self.retire(entry, "crash")

        def said(message: ConsoleMessage) -> None:
            if entry.state is State.LEASED:  # the line belongs to the holder's request
                # Pages say a lot; errors are what somebody who looks for a fault wants to see.
                entry.holder.run(
                    log.info if message.type == "error" else log.debug,
                    "browser.console",
                    profile=entry.identity.profile,
                    console_level=message.type,
                    text=message.text[:_MOST_SAID],
                )

        if entry.state is State.IDLE:  # left over from a lease, past cleaning
            self.retire(entry, "unhealthy", detail="stray page")
        entry.saw_url(page.url)
        page.on("framenavigated", lambda frame: entry.saw_url(frame.url))
        page.on("crash", crashed)
        page.on("console", said)

    def renew(self, entry: PooledContext) -> None:
        """Have a successor ready before the context goes, if one more may exist meanwhile."""
        if entry.replaced or self.memory.high or entry.process is not self.process:
            return
        if self.has_room(extra=1):
            entry.replaced = True
            self.make(entry.identity)

    def take_back(self, entry: PooledContext) -> None:
        """Clean a context that came back, or close it if it has had its time."""
        now = entry.last_used_at = self._clock()
        if now >= entry.expires_at:
            entry.condemn("age")
        entry.enter(State.CLEANING)
        if self._stays(entry):
            self._tasks.spawn(self._clean(entry))

    def _stays(self, entry: PooledContext) -> bool:
        """Whether there is no reason to close a context; closes it if there is."""
        if self.memory.high:
            entry.condemn("memory")
        if entry.retire is not None:
            self.retire(entry, entry.retire)
        return entry.retire is None

    async def _clean(self, entry: PooledContext) -> None:
        try:
            async with asyncio.timeout(self._timing.operation_s):
                await entry.clean()
        except Exception as error:
            entry.condemn("unhealthy", type(error).__name__)
        if entry.state is not State.CLEANING:  # lost with its browser meanwhile
            return
        if worn := self._wear.verdict(entry, self._clock()):
            entry.condemn("wear", worn)
        if self._is_surplus():
            entry.condemn("capacity")
        if self._stays(entry):
            entry.enter(State.IDLE)
            self._changed()

    def _is_surplus(self) -> bool:
        """Whether another was made meanwhile, because this one took so long to clean."""
        staying = sum(e.retire is None and not e.replaced for e in self.entries)
        return staying + self.making.total() > self._settings.browser_max_contexts

    def retire(
        self, entry: PooledContext, reason: RetireReason, *, detail: str | None = None
    ) -> None:
        """Close a context. Not under a lease: a leased one is condemned and goes on return."""
        if entry.state in (State.CLOSING, State.GONE):
            return
        entry.condemn(reason, detail)
        entry.enter(State.CLOSING)
        self._tasks.spawn(self._close_context(entry))

    async def _close_context(self, entry: PooledContext) -> None:
        closed = False
        profile, reason = entry.identity.profile, entry.retire or "unhealthy"
        with span("browser.retire", profile=profile, reason=reason, uses=entry.uses):
            try:
                async with asyncio.timeout(self._timing.operation_s):
                    await entry.context.close()
                closed = True
            except Exception as error:
                entry.detail = entry.detail or type(error).__name__
        self._forget(entry)
        if not closed and await self.check(entry.process):
            # It lives and cannot close a context. The slot is free again; the browser
            # drains and goes, and with it whatever the context has left behind.
            self.replace(entry.process, "unhealthy")
        self._end_if_drained(entry.process)
        self._changed()

    def _forget(self, entry: PooledContext) -> None:
        if entry.state is State.GONE:
            return
        entry.enter(State.GONE)
        self.entries.remove(entry)
        reason = entry.retire or "unhealthy"
        self.closed[reason] += 1
        entry.was_closed(reason, self._clock() - entry.created_at)

    # Browsers

    def ensure_browser(self) -> None:
        """Start a browser unless there is one, one is starting, or it failed just now."""
        if self.process is not None or self._launching or self.closing:
            return
        if self.launches.problem is None:
            self._launching = True
            self._tasks.spawn(self._start())

    async def _start(self) -> None:
        try:
            await asyncio.sleep(self.launches.pause_s)
            if self.closing:
                return
            process = await self._launch()
        except Exception as error:
            refusal = self.launches.failed(error)
            log.error(
                "browser.unavailable",
                reason=refusal.reason,
                problem=str(refusal),
                retry_after_s=refusal.retry_after_s,
            )
        else:
            self.launches.succeeded()
            self.counts["launches"] += 1
            instruments.BROWSER_MEMORY_USAGE.set(process.baseline_bytes)
            self.process = process
            process.on_lost(lambda: self._lose(process, "disconnected"))
        finally:
            self._launching = False
        self._changed()

    def _lose(self, process: ChromiumProcess, why: str) -> None:
        """A browser died or no longer answers: drop its contexts, start the next one."""
        if process.ended:
            return
        lived_s = time.monotonic() - process.started_at
        self.launches.died(lived_s)
        dead = [entry for entry in self.entries if entry.process is process]
        for entry in dead:
            entry.lose("crash")
            self._forget(entry)
        self.counts["crashes"] += 1
        lived_s = round(lived_s, 3)
        log.error("browser.crashed", reason=why, lived_s=lived_s, contexts_lost=len(dead))
        # Also when it is dead already: it may have left a driver or renderers behind.
        self._end(process)
        self.ensure_browser()

    def replace(self, process: ChromiumProcess, reason: RetireReason) -> None:
        """Make no more contexts in this browser; end it when the last one has gone."""
        if process is not self.process:
            return
        log.warning("browser.replaced", reason=reason, used_bytes=self.memory.used_bytes)
        self.process = None
        for entry in list(self.entries):
            if entry.process is process:
                entry.condemn(reason)
                if entry.state is State.IDLE:
                    self.retire(entry, reason)
        self._end_if_drained(process)
        self.ensure_browser()

    def _end_if_drained(self, process: ChromiumProcess) -> None:
        if process is not self.process and process not in self._browsers() and not process.ended:
            self._end(process)

    def _end(self, process: ChromiumProcess) -> None:
        process.ended = True
        if self.process is process:
            self.process = None
        self._tasks.spawn(process.destroy())

    def _browsers(self) -> set[ChromiumProcess]:
        """Those that run, the ones that only wait for their last context included."""
        current = {self.process} if self.process is not None else set()
        return current | {entry.process for entry in self.entries}

    async def check(self, process: ChromiumProcess) -> bool:
        """Ask one browser for a sign of life; when it is dead it is dealt with here."""
        if process.ended:
            return False
        try:
            async with asyncio.timeout(self._timing.heartbeat_s):
                await process.heartbeat()
        except TimeoutError:
            process.missed += 1
            if process.missed >= _MISSED:
                self._lose(process, "hung")
            return False
        except Exception:
            self._lose(process, "driver")
            return False
        process.missed = 0
        return True

    # Time passing

    def tick(self) -> None:
        """Retire what has grown old; ask for memory and signs of life when it is time."""
        now = self._clock()
        for entry in list(self.entries):
            if now >= entry.expires_at - self._timing.replace_ahead_s and entry.uses > 0:
                self.renew(entry)
            if now >= entry.expires_at and entry.state is State.IDLE:
                self.retire(entry, "age")
        if now - self._beat_at >= self._timing.heartbeat_s:
            self._beat_at = now
            for process in self._browsers():
                self._tasks.spawn(self.check(process))
        if self.process is not None and not self._measuring and now >= self._measure_at:
            self._measure_at = now + self._timing.memory_interval_s
            self._measuring = True
            self._tasks.spawn(self._watch_memory(self.process))
        # What was begun may have turned out to be slow; then others need not wait for it.
        self._changed()

    async def _watch_memory(self, process: ChromiumProcess) -> None:
        """Measure, off the lease path; past the threshold idle contexts go until below."""
        try:
            await self._measure(process)
            while self.memory.high and (victim := self._most_used_idle()) is not None:
                victim.condemn("memory")
                victim.enter(State.CLOSING)
                await self._close_context(victim)
                await self._measure(process)
            if self.memory.should_replace(empty=process not in {e.process for e in self.entries}):
                self.replace(process, "memory")
        finally:
            self._measuring = False

    async def _measure(self, process: ChromiumProcess) -> None:
        used = await process.usage_bytes()
        cgroup = await asyncio.to_thread(cgroup_pressure)
        if process is not self.process:  # replaced meanwhile; its numbers mean nothing
            self.memory.high = False
        elif used is not None:
            instruments.BROWSER_MEMORY_USAGE.set(used)
            if reason := self.memory.judge(used, process.baseline_bytes, cgroup=cgroup):
                log.warning(
                    "browser.memory.high",
                    used_bytes=used,
                    baseline_bytes=process.baseline_bytes,
                    reason=reason,
                )

    def _most_used_idle(self) -> PooledContext | None:
        idle = [entry for entry in self.entries if entry.state is State.IDLE]
        return max(idle, key=lambda entry: (entry.uses, -entry.created_at), default=None)

    async def close(self) -> None:
        """Close all contexts and end all browsers."""
        for entry in list(self.entries):
            entry.lose("shutdown")
            self.retire(entry, "shutdown")
        # A context that takes long to close goes with its browser. The second time is for a
        # browser that was still being started.
        for wait_s in (SLOW_S, self._timing.operation_s):
            await self._tasks.finish(wait_s)
            for process in self._browsers():
                if not process.ended:
                    self._end(process)
        await self._tasks.finish(self._timing.operation_s)
