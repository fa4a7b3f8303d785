"""The contexts of a pool and the browsers they live in: made, cleaned, closed, replaced.

Each of these takes time and is a task of its own: a caller who gives up cancels its wait
and nothing else, so no context is ever lost with it. Who gets which context is decided
elsewhere; whoever decides is told what has happened through `Told`.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ..telemetry import get_logger, span
from .config import PoolConfig
from .context import SLOW_S, PooledContext, RetireReason, State
from .errors import BrowserUnavailable, LostReason
from .health import Launches, MemoryPressure, Wear
from .identity import Identity
from .memory import cgroup_pressure
from .process import Process
from .report import Report

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, ConsoleMessage, Frame, Page

log = get_logger(__name__)

# Two silent heartbeats in a row: one can be a machine that was busy.
_MISSED: Final = 2


@dataclass(frozen=True)
class Told:
    """Whom to tell of what has happened."""

    changed: Callable[[], None]
    """There may be a context to lend, or room to make one."""
    no_context: Callable[[Identity, Exception], None]
    """A context that somebody waits for could not be made."""
    no_browser: Callable[[BrowserUnavailable], None]
    lost: Callable[[PooledContext, LostReason], None]
    """A context is gone that may be leased."""
    console: Callable[[PooledContext, str, str], None]
    """A page wrote to its console: its context, the level and the text."""


class Stock:
    """All contexts that exist, and the browser new ones are made in."""

    def __init__(
        self,
        config: PoolConfig,
        launch: Callable[[], Awaitable[Process]],
        report: Report,
        told: Told,
        clock: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._config = config
        self._launch = launch
        self._report = report
        self._told = told
        self._clock = clock
        self._rng = rng
        self.entries: list[PooledContext] = []
        # Contexts being made, by key: their places are taken already.
        self.making: Counter[str] = Counter()
        # One context at a time: several at once are what made others lose contexts.
        self._make_one = asyncio.Lock()
        self._wear = Wear()
        self.memory = MemoryPressure(config.memory_threshold_bytes)
        self._measure_at = -math.inf
        self._measuring = False
        self.process: Process | None = None
        self.launches = Launches()
        self._launching = False
        # Browsers that get no new context, until their last one has gone.
        self._draining: list[Process] = []
        # Those that were ended here, or are known to be dead.
        self._ended: weakref.WeakSet[Process] = weakref.WeakSet()
        self._beat_at = -math.inf
        self._missed: Counter[Process] = Counter()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.closing = False

    def has_room(self, *, extra: int = 0) -> bool:
        """Whether one more context may exist.

        One that takes long to clean or close keeps no other from being made, as long as
        there are not twice as many as wanted.
        """
        most = self._config.max_contexts
        total = len(self.entries) + self.making.total()
        slow = sum(entry.is_slow for entry in self.entries)
        return total - slow < most + extra and total < 2 * most + extra

    # Contexts

    def make(self, identity: Identity, *, for_waiter: bool = True) -> None:
        """Start making a context; `for_waiter` if a failure answers a waiting caller."""
        # Counted before the task has run: its place is taken from now on.
        self.making[identity.key] += 1
        self._spawn(self._make(identity, for_waiter))

    async def _make(self, identity: Identity, for_waiter: bool) -> None:
        entry: PooledContext | None = None
        process = self.process
        try:
            async with self._make_one, asyncio.timeout(self._config.operation_s):
                if process is None or not self._takes_contexts(process):
                    return
                started = time.monotonic()
                context = await self._new_context(process, identity)
                entry = self._adopt(identity, process, context)
                self._report.context_created(entry, time.monotonic() - started)
                await entry.prepare()
        except Exception as error:
            if entry is not None:
                self.retire(entry, "unhealthy", detail=type(error).__name__)
            # In a browser that turns out to be dead the next one will serve the waiter.
            alive = process is not None and await self.check(process)
            if alive and for_waiter:
                self._told.no_context(identity, error)
        finally:
            if entry is None:
                self.making[identity.key] -= 1
            elif entry.state is State.CLEANING:
                self._wear.fresh(entry)
                entry.enter(State.IDLE)
            self._told.changed()

    async def _new_context(self, process: Process, identity: Identity) -> BrowserContext:
        making = asyncio.ensure_future(process.new_context(identity))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:  # one that is finished nevertheless is closed
            self._spawn(_close_late(making))
            raise

    def _takes_contexts(self, process: Process) -> bool:
        return process is self.process and not self.closing

    def _adopt(
        self, identity: Identity, process: Process, context: BrowserContext
    ) -> PooledContext:
        now = self._clock()
        spread = self._rng.uniform(-self._config.age_jitter, self._config.age_jitter)
        entry = PooledContext(
            identity=identity,
            process=process,
            context=context,
            created_at=now,
            expires_at=now + self._config.max_age_s * (1 + spread),
            last_used_at=now,
        )
        context.on("page", lambda page: self._follow(entry, page))
        self.entries.append(entry)
        self.making[identity.key] -= 1
        return entry

    def _follow(self, entry: PooledContext, page: Page) -> None:
        """Watch a page: where it goes, what it says, if it crashes or may be."""

        def navigated(frame: Frame) -> None:
            entry.saw_url(frame.url)

        def crashed(_: Page) -> None:
            self._report.context_crashed(entry)
            entry.condemn("crash")
            if entry.state is State.IDLE:
                self.retire(entry, "crash")

        def said(message: ConsoleMessage) -> None:
            self._told.console(entry, message.type, message.text)

        if entry.state is State.IDLE:  # left over from a lease, past cleaning
            self.retire(entry, "unhealthy", detail="stray page")
        entry.saw_url(page.url)
        page.on("framenavigated", navigated)
        page.on("crash", crashed)
        page.on("console", said)

    def renew(self, entry: PooledContext) -> None:
        """Have a successor ready before the context goes, if one more may exist meanwhile."""
        if entry.replaced or self.memory.high or not self.has_room(extra=1):
            return
        if self._takes_contexts(entry.process):
            entry.replaced = True
            self.make(entry.identity, for_waiter=False)

    def take_back(self, entry: PooledContext) -> None:
        """Clean a context that came back, or close it if it has had its time."""
        entry.last_used_at = self._clock()
        if self._clock() >= entry.expires_at:
            entry.condemn("age")
        if self.memory.high:
            entry.condemn("memory")
        if entry.retire is not None:
            self.retire(entry, entry.retire)
            return
        entry.enter(State.CLEANING)
        self._spawn(self._clean(entry))
        self._look_again()

    async def _clean(self, entry: PooledContext) -> None:
        try:
            async with asyncio.timeout(self._config.operation_s):
                await entry.clean()
        except Exception as error:
            entry.condemn("unhealthy", type(error).__name__)
        if entry.state is not State.CLEANING:  # lost with its browser meanwhile
            return
        if worn := self._wear.verdict(entry, self._clock()):
            entry.condemn("wear", worn)
        if self.memory.high:
            entry.condemn("memory")
        if self._is_surplus():
            entry.condemn("capacity")
        if entry.retire is not None:
            self.retire(entry, entry.retire)
            return
        entry.enter(State.IDLE)
        self._report.context_moved(entry, "idle")
        self._told.changed()

    def _is_surplus(self) -> bool:
        """Whether another was made meanwhile, because this one took so long to clean."""
        staying = sum(e.retire is None and not e.replaced for e in self.entries)
        return staying + self.making.total() > self._config.max_contexts

    def retire(
        self, entry: PooledContext, reason: RetireReason, *, detail: str | None = None
    ) -> None:
        """Close a context. Not under a lease: a leased one is condemned and goes on return."""
        if entry.state in (State.CLOSING, State.GONE):
            return
        entry.condemn(reason, detail)
        entry.enter(State.CLOSING)
        self._spawn(self._close_context(entry))
        self._look_again()

    async def _close_context(self, entry: PooledContext) -> None:
        closed = False
        profile, reason = entry.identity.profile, entry.retire or "unhealthy"
        with span("browser.retire", profile=profile, reason=reason, uses=entry.uses):
            try:
                async with asyncio.timeout(self._config.operation_s):
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
        self._told.changed()

    def _forget(self, entry: PooledContext) -> None:
        if entry.state is State.GONE:
            return
        entry.enter(State.GONE)
        entry.gone.set()
        self.entries.remove(entry)
        age_s = self._clock() - entry.created_at
        self._report.context_closed(entry, entry.retire or "unhealthy", age_s)

    def _look_again(self) -> None:
        """What was begun may turn out to be slow; then others need not wait for it."""
        asyncio.get_running_loop().call_later(SLOW_S, self._told.changed)

    # Browsers

    def ensure_browser(self) -> None:
        """Start a browser unless there is one, one is starting, or it failed just now."""
        if self.process is None and not self._launching and self.launches.problem is None:
            self._launching = True
            self._spawn(self._start())

    async def _start(self) -> None:
        try:
            await asyncio.sleep(self.launches.pause_s)
            if self.closing:
                return
            process = await self._launch()
        except Exception as error:
            refusal = self.launches.failed(error)
            self._report.browser_unavailable(refusal.reason, str(refusal), refusal.retry_after_s)
            self._told.no_browser(refusal)
            return
        finally:
            self._launching = False
        self.launches.succeeded()
        self._report.launches += 1
        self._report.memory(process.baseline_bytes)
        self.process = process
        process.on_lost(lambda: self._lose(process, "disconnected"))
        self._told.changed()

    def _lose(self, process: Process, why: str) -> None:
        """A browser died or no longer answers: drop its contexts, start the next one."""
        if process in self._ended:
            return
        lived_s = time.monotonic() - process.started_at
        self.launches.died(lived_s)
        dead = [entry for entry in self.entries if entry.process is process]
        for entry in dead:
            self._told.lost(entry, "crash")
            entry.retire = "crash"
            self._forget(entry)
        self._report.browser_crashed(why, lived_s=lived_s, contexts=len(dead))
        # Also when it is dead already: it may have left a driver or renderers behind.
        self._end(process)
        if not self.closing:
            self.ensure_browser()

    def replace(self, process: Process, reason: RetireReason) -> None:
        """Make no more contexts in this browser; end it when the last one has gone."""
        if process in self._ended or process in self._draining:
            return
        self._report.browser_replaced(reason, self.memory.used_bytes)
        if self.process is process:
            self.process = None
        self._draining.append(process)
        for entry in list(self.entries):
            if entry.process is process:
                entry.condemn(reason)
                if entry.state is State.IDLE:
                    self.retire(entry, reason)
        self._end_if_drained(process)
        if not self.closing:
            self.ensure_browser()

    def _end_if_drained(self, process: Process) -> None:
        if process in self._draining and not self._has_contexts(process):
            self._end(process)

    def _has_contexts(self, process: Process) -> bool:
        return any(entry.process is process for entry in self.entries)

    def _end(self, process: Process) -> None:
        self._ended.add(process)
        if self.process is process:
            self.process = None
        if process in self._draining:
            self._draining.remove(process)
        del self._missed[process]
        self._spawn(process.destroy())

    async def check(self, process: Process) -> bool:
        """Ask one browser for a sign of life; when it is dead it is dealt with here."""
        if process in self._ended:
            return False
        try:
            async with asyncio.timeout(self._config.heartbeat_s):
                await process.heartbeat()
        except TimeoutError:
            self._missed[process] += 1
            if self._missed[process] >= _MISSED:
                self._lose(process, "hung")
            return False
        except Exception:
            self._lose(process, "driver")
            return False
        del self._missed[process]
        return True

    # Time passing

    def tick(self) -> None:
        """Retire what has grown old; ask for memory and signs of life when it is time."""
        now = self._clock()
        for entry in list(self.entries):
            if now >= entry.expires_at - self._config.replace_ahead_s and entry.uses > 0:
                self.renew(entry)
            if now >= entry.expires_at and entry.state is State.IDLE:
                self.retire(entry, "age")
        if now - self._beat_at >= self._config.heartbeat_s:
            self._beat_at = now
            for process in (self.process, *self._draining):
                if process is not None:
                    self._spawn(self.check(process))
        if self.process is not None and not self._measuring and now >= self._measure_at:
            self._measure_at = now + self._config.memory_interval_s
            self._measuring = True
            self._spawn(self._watch_memory(self.process))

    async def _watch_memory(self, process: Process) -> None:
        """Measure, off the lease path; past the threshold idle contexts go until below."""
        try:
            was_high = self.memory.high
            await self._measure(process)
            while self.memory.high and (victim := self._most_used_idle()) is not None:
                self.retire(victim, "memory")
                await victim.gone.wait()
                await self._measure(process)
            if self.memory.should_replace(empty=not self._has_contexts(process)):
                self.replace(process, "memory")
            if was_high and not self.memory.high:
                self._told.changed()
        finally:
            self._measuring = False

    async def _measure(self, process: Process) -> None:
        used = await process.usage_bytes()
        if process is not self.process:  # replaced meanwhile; its numbers mean nothing
            self.memory.high = False
            return
        self.memory.used_bytes = used
        self._report.memory(used)
        if used is None:
            return
        if process.baseline_bytes is None:
            process.baseline_bytes = used
        over = self.memory.is_over(used, process.baseline_bytes)
        cgroup = not over and await asyncio.to_thread(cgroup_pressure)
        if (over or cgroup) and not self.memory.high:
            self._report.memory_high(used, process.baseline_bytes, cgroup=cgroup)
        self.memory.high = over or cgroup

    def _most_used_idle(self) -> PooledContext | None:
        idle = [entry for entry in self.entries if entry.state is State.IDLE]
        return max(idle, key=lambda entry: (entry.uses, -entry.created_at), default=None)

    # Tasks

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run something that must be finished, whoever is waiting for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("browser.janitor.failed", exc_info=error)

    async def close(self) -> None:
        """Close all contexts and end all browsers."""
        for entry in list(self.entries):
            self._told.lost(entry, "shutdown")
            entry.retire = None  # whatever was planned, it goes with the rest
            self.retire(entry, "shutdown")
        await self._finish()
        for process in (self.process, *self._draining):
            if process is not None:
                self._end(process)
        await self._finish()

    async def _finish(self) -> None:
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=self._config.operation_s)


async def _close_late(making: asyncio.Future[BrowserContext]) -> None:
    with suppress(Exception):
        await (await making).close()
