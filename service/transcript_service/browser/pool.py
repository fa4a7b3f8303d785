"""The pool itself: who gets which context, when one is made, and when one goes.

Everything here runs on one event loop and changes state only between two `await`s, so no
lock is needed. Four helpers share the work: `Workshop` makes, cleans and closes contexts,
`Supervisor` keeps a browser running, `MemoryWatch` keeps it small, `Signals` reports.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from ..telemetry import get_logger
from .config import PoolConfig
from .entry import Entry, State
from .errors import BrowserUnavailable
from .identity import Identity
from .lease import Lease
from .memory_watch import MemoryWatch
from .process import Process
from .signals import Signals
from .supervisor import Supervisor
from .workshop import Workshop

log = get_logger(__name__)

# Waiters of other identities that may be served before the one that waits longest.
_OVERTAKES: Final = 8
# Failures to make a context after which the one who waits for it is told.
_TRIES: Final = 2


@dataclass(eq=False)
class _Waiter:
    identity: Identity
    hold_s: float
    lease: asyncio.Future[Lease]
    since: float = field(default_factory=time.monotonic)
    overtaken: int = 0
    failures: int = 0


class ContextPool:
    """Leases browser contexts. Use from its event loop only."""

    def __init__(
        self,
        config: PoolConfig,
        launch: Callable[[], Awaitable[Process]],
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        """Nothing is started before the first lease.

        Args:
            config: limits.
            launch: starts a browser or raises `BrowserUnavailable`.
            clock: what ages of contexts are measured with, in seconds.
            rng: where the jitter of age limits comes from.
        """
        self.config = config
        self.signals = Signals()
        self.clock = clock
        self.rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self.supervisor = Supervisor(launch, self)
        self.memory = MemoryWatch(config, self)
        self.workshop = Workshop(self)
        self._waiters: deque[_Waiter] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ticking: asyncio.Task[None] | None = None
        self._returned = asyncio.Event()
        self._hold_s = 1.0  # how long leases last on average, for Retry-After
        self.closing = False

    # What others may look at

    @property
    def entries(self) -> list[Entry]:
        """All contexts that exist."""
        return list(self.workshop.entries)

    @property
    def waiting(self) -> int:
        """Callers waiting for a context."""
        return len(self._waiters)

    @property
    def process(self) -> Process | None:
        """The browser new contexts are made in."""
        return self.supervisor.process

    def leased(self) -> int:
        """Contexts in use, those being cleaned included."""
        busy = (State.LEASED, State.CLEANING)
        return sum(e.lease is not None and e.state in busy for e in self.workshop.entries)

    # Leasing

    async def acquire(
        self, identity: Identity, *, wait_s: float | None = None, hold_s: float | None = None
    ) -> Lease:
        """Lease a context.

        Args:
            identity: which context may serve.
            wait_s: most seconds to wait for one; `PoolConfig.wait_s` if not given.
            hold_s: seconds until the lease is ended by force; `PoolConfig.lease_s`.

        Raises:
            BrowserUnavailable: none can be had, with the reason.
        """
        self._start_ticking()
        waiter = _Waiter(
            identity,
            self.config.lease_s if hold_s is None else hold_s,
            asyncio.get_running_loop().create_future(),
        )
        try:
            self._admit()
            self._waiters.append(waiter)
            self.supervisor.ensure()
            self.pump()
            async with asyncio.timeout(self.config.wait_s if wait_s is None else wait_s):
                lease = await waiter.lease
        except TimeoutError:
            if waiter.lease.done() and not waiter.lease.cancelled():
                return self._tell(waiter.lease.result())  # it came in the same moment
            error = self._waited_in_vain()
        except BrowserUnavailable as refused:
            error = refused
        except asyncio.CancelledError:
            if waiter.lease.done() and not waiter.lease.cancelled():
                with suppress(BrowserUnavailable):
                    self.release(waiter.lease.result())
            raise
        else:
            return self._tell(lease)
        finally:
            with suppress(ValueError):
                self._waiters.remove(waiter)
        self.signals.lease_refused(identity.profile, error.reason, time.monotonic() - waiter.since)
        raise error

    def _tell(self, lease: Lease) -> Lease:
        """Report a lease; done by the caller's task, so that it belongs to its trace."""
        entry = lease.entry
        self.signals.context_leased(
            entry.identity.profile,
            key=entry.key,
            reused=lease.reused,
            wait_s=lease.wait_s,
            uses=entry.uses,
        )
        return lease

    def release(self, lease: Lease) -> None:
        """Take a context back. Returning twice, or after the deadline, is no error."""
        if lease.returned:
            return
        lease.returned = True
        self._returned.set()
        if lease.reaper is not None:
            lease.reaper.cancel()
        if lease.lost is not None:
            return
        entry = lease.entry
        self._hold_s += 0.2 * (lease.held_s - self._hold_s)
        self.signals.context_returned(
            entry.identity.profile, key=entry.key, held_s=lease.held_s, uses=entry.uses
        )
        entry.last_used_at = self.clock()
        if self.clock() >= entry.expires_at:
            entry.condemn("age")
        if self.memory.high:
            entry.condemn("memory")
        lease.context.forget_listeners()
        if entry.retire is not None:
            self.workshop.retire(entry, entry.retire)
        else:
            self.workshop.clean(entry)
        self.pump()

    async def look_after(self, lease: Lease) -> None:
        """See whether the lease's browser is alive, when its holder has reason to doubt it."""
        await self.supervisor.check(lease.entry.process)

    def _admit(self) -> None:
        if self.closing:
            raise BrowserUnavailable("shutting_down", "The browser pool is shutting down.")
        if self.supervisor.problem is not None:
            raise self.supervisor.problem
        if len(self._waiters) >= self.config.queue_limit:
            raise BrowserUnavailable(
                "queue_full",
                f"All {self.config.max_contexts} browser contexts are in use and "
                f"{len(self._waiters)} callers wait already.",
                self.retry_after_s(),
            )

    def _waited_in_vain(self) -> BrowserUnavailable:
        if self.supervisor.problem is not None:
            return self.supervisor.problem
        if self.memory.high:
            return BrowserUnavailable(
                "memory",
                "The browser is above its memory threshold; no new context is made.",
                self.retry_after_s(),
            )
        return BrowserUnavailable(
            "wait_timeout",
            f"No browser context became free in time ({self.leased()} in use).",
            self.retry_after_s(),
        )

    def retry_after_s(self) -> float:
        """When a caller turned away now would have had its turn, 1 to 60 seconds."""
        turns = (len(self._waiters) + 1) / self.config.max_contexts
        return float(min(60, max(1, math.ceil(turns * self._hold_s))))

    # Handing out

    def pump(self) -> None:
        """Give idle contexts to waiters, and see that contexts for the others are made."""
        if self.closing or self.supervisor.process is None:
            return
        self._hand_out()
        self._make_room()

    def _hand_out(self) -> None:
        for waiter in tuple(self._waiters):
            if waiter.lease.done():
                continue
            head = self._waiters[0]
            if waiter is not head and self._head_is_next():
                return
            entry = self._idle_for(waiter.identity)
            if entry is None:
                continue
            if waiter is not head:
                head.overtaken += 1
            self._waiters.remove(waiter)
            waiter.lease.set_result(self._lend(entry, waiter))

    def _idle_for(self, identity: Identity) -> Entry | None:
        if self.leased() >= self.config.max_contexts:  # a replacement may be one too many
            return None
        fit = [e for e in self.workshop.entries if e.key == identity.key and self._is_leasable(e)]
        # The one used last has the warmest connections; the others may grow old in peace.
        return max(fit, key=lambda entry: entry.last_used_at, default=None)

    def _is_leasable(self, entry: Entry) -> bool:
        return (
            entry.state is State.IDLE
            and entry.process is self.supervisor.process
            and entry.process.is_connected()
            and self.clock() < entry.expires_at
        )

    def _lend(self, entry: Entry, waiter: _Waiter) -> Lease:
        before = entry.occupancy
        lease = Lease(entry, reused=entry.uses > 0, hold_s=waiter.hold_s)
        lease.wait_s = time.monotonic() - waiter.since
        entry.state, entry.lease = State.LEASED, lease
        entry.uses += 1
        entry.last_used_at = self.clock()
        lease.reaper = asyncio.get_running_loop().call_later(waiter.hold_s, self._expire, lease)
        self.signals.context_moved(entry.identity.profile, before, entry.occupancy)
        if entry.uses >= self.config.max_uses:
            entry.condemn("uses")
            self.workshop.replace(entry)
        return lease

    def _expire(self, lease: Lease) -> None:
        """The holder did not come back: take the context away."""
        if lease.returned or lease.lost is not None:
            return
        lease.lost = "expired"
        entry = lease.entry
        self.signals.lease_expired(entry.identity.profile, key=entry.key, held_s=lease.held_s)
        entry.retire = None  # whatever was planned, this is what happened
        self.workshop.retire(entry, "expired")

    # Making room

    def _make_room(self) -> None:
        if self.memory.high:
            return
        # A context being made or cleaned will serve one waiter of its identity.
        coming = Counter(self.workshop.making)
        coming.update(e.key for e in self.workshop.entries if e.state is State.CLEANING)
        leaving = sum(entry.state is State.CLOSING for entry in self.workshop.entries)
        waiters = list(self._waiters)[: 1 if self._head_is_next() else None]
        for waiter in waiters:
            key = waiter.identity.key
            if waiter.lease.done():
                continue
            if coming[key] > 0:
                coming[key] -= 1
            elif self.workshop.has_room():
                self.workshop.make(waiter.identity)
            elif leaving > 0:
                leaving -= 1
            else:
                victim = self._least_recent_idle()
                if victim is None:
                    return
                self.workshop.retire(victim, "capacity")

    def _head_is_next(self) -> bool:
        """Whether the one that waits longest has been overtaken often enough."""
        return bool(self._waiters) and self._waiters[0].overtaken >= _OVERTAKES

    def _least_recent_idle(self) -> Entry | None:
        wanted = {waiter.identity.key for waiter in self._waiters}
        if self._head_is_next():
            wanted = {self._waiters[0].identity.key}
        idle = [e for e in self.workshop.entries if e.state is State.IDLE and e.key not in wanted]
        return min(idle, key=lambda entry: entry.last_used_at, default=None)

    def refuse_one(self, identity: Identity, error: Exception) -> None:
        """A context that cannot be made is the answer to the one who waited for it.

        The second time: the first can be a page that crashed while it was opened.
        """
        for waiter in self._waiters:
            if waiter.identity.key == identity.key and not waiter.lease.done():
                waiter.failures += 1
                if waiter.failures >= _TRIES:
                    refusal = BrowserUnavailable(
                        "context_failed",
                        f"The browser could not make a context: {type(error).__name__}",
                        self.retry_after_s(),
                    )
                    refusal.__cause__ = error
                    waiter.lease.set_exception(refusal)
                return

    def fail_waiters(self, error: BrowserUnavailable) -> None:
        """Tell all who wait that no browser can be had."""
        for waiter in self._waiters:
            if not waiter.lease.done():
                waiter.lease.set_exception(error)

    # Time passing

    def _start_ticking(self) -> None:
        if self._ticking is None:
            # In a context of its own: it must not carry the first caller's trace for ever.
            self._ticking = asyncio.get_running_loop().create_task(
                self._tick_for_ever(), context=contextvars.Context()
            )

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self.config.tick_s)
            try:
                self.tick()
            except Exception:
                log.exception("browser.janitor.failed")

    def tick(self) -> None:
        """Retire what has grown old; ask for memory and signs of life when it is time."""
        now = self.clock()
        self.signals.limit(self.config.max_contexts)  # a gauge is exported when it was set
        for entry in self.entries:
            if now >= entry.expires_at - self.config.replace_ahead_s and entry.uses > 0:
                self.workshop.replace(entry)
            if now >= entry.expires_at and entry.state is State.IDLE:
                self.workshop.retire(entry, "age")
        self.supervisor.tick()
        self.memory.tick()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run something the pool must finish, whoever is waiting for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("browser.janitor.failed", exc_info=error)

    # Stopping

    async def close(self, grace_s: float) -> None:
        """Refuse new leases, wait for the present ones, then close everything.

        Args:
            grace_s: seconds the leaseholders get to return.
        """
        self.closing = True
        self.fail_waiters(BrowserUnavailable("shutting_down", "The browser pool is shutting down."))
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                while any(entry.state is State.LEASED for entry in self.workshop.entries):
                    self._returned.clear()
                    await self._returned.wait()
        if self._ticking is not None:
            self._ticking.cancel()
        for entry in self.entries:
            if entry.lease is not None and not entry.lease.returned:
                entry.lease.lost = "shutdown"
            entry.retire = None  # whatever was planned, it goes with the rest
            self.workshop.retire(entry, "shutdown")
        await self._finish_tasks()
        await self.supervisor.close()
        await self._finish_tasks()

    async def _finish_tasks(self) -> None:
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=self.config.operation_s)
