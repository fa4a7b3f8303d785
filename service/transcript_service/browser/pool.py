"""The pool itself: who gets which context, and who is told that there is none.

Everything here runs on one event loop and changes state only between two `await`s, so no
lock is needed. What is done to contexts and browsers is the business of `Stock`.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from playwright.async_api import Error as PlaywrightError

from ..settings import Settings
from ..telemetry import get_logger, instruments
from .context import PooledContext, State
from .errors import BrowserUnavailable, LeaseLost, UnavailableReason
from .identity import Identity
from .lease import Lease
from .process import ChromiumProcess
from .stock import Stock, Timing

log = get_logger(__name__)

# Waiters of other identities that may be served before the one that waits longest.
_OVERTAKES: Final = 8
# Failures to make a context after which the one who waits for it is told. The first can be
# a page that crashed while it was opened.
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
        settings: Settings,
        launch: Callable[[], Awaitable[ChromiumProcess]],
        timing: Timing,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is started before the first lease. Ages of contexts are measured by `clock`."""
        self._settings = settings
        self._timing = timing
        self._most = settings.browser_max_contexts
        self.clock = clock
        self.stock = Stock(settings, launch, timing, clock, self._pump, self._refuse_one)
        self._waiters: deque[_Waiter] = deque()
        self._ticking: asyncio.Task[None] | None = None
        self._returned = asyncio.Event()
        self._hold_s = 1.0  # how long leases last on average, for Retry-After

    def leased(self) -> int:
        """Contexts in use, those being cleaned included unless that takes long."""
        busy = (State.LEASED, State.CLEANING)
        return sum(
            entry.occupancy == "leased" and entry.state in busy and not entry.is_slow
            for entry in self.stock.entries
        )

    # Leasing

    async def acquire(
        self, identity: Identity, *, wait_s: float | None = None, hold_s: float | None = None
    ) -> Lease:
        """Lease a context.

        Args:
            wait_s: most seconds to wait for one; BROWSER_ACQUIRE_TIMEOUT_S if not given.
            hold_s: seconds until the lease is ended by force; BROWSER_LEASE_TIMEOUT_S if not given.

        Raises:
            BrowserUnavailable: none can be had, with the reason.
        """
        self._start_ticking()
        hold_s = self._settings.browser_lease_timeout_s if hold_s is None else hold_s
        wait_s = self._settings.browser_acquire_timeout_s if wait_s is None else wait_s
        waiter = _Waiter(identity, hold_s, asyncio.get_running_loop().create_future())
        try:
            self._admit()
            self._waiters.append(waiter)
            self.stock.ensure_browser()
            self._pump()
            await asyncio.wait([waiter.lease], timeout=wait_s)
            if not waiter.lease.done():
                raise self._waited_in_vain()
            lease = waiter.lease.result()
        except BrowserUnavailable as refusal:
            log.warning(
                "browser.context.lease_failed",
                profile=identity.profile,
                reason=refusal.reason,
                error_type=refusal.error_type,
                wait_s=round(time.monotonic() - waiter.since, 3),
            )
            raise
        except asyncio.CancelledError:
            if waiter.lease.done() and waiter.lease.exception() is None:
                self.release(waiter.lease.result())
            raise
        finally:
            with suppress(ValueError):
                self._waiters.remove(waiter)
        # In the caller's task: this and what the pages say belong to its trace.
        lease.entry.was_leased(reused=lease.reused, wait_s=lease.wait_s)
        self.stock.counts.update(leases=1, reused=int(lease.reused))
        lease.entry.holder = contextvars.copy_context()
        return lease

    def release(self, lease: Lease) -> None:
        """Take a context back. Returning twice, or after the deadline, is no error."""
        if lease.returned:
            return
        lease.ended = True
        self._returned.set()
        if lease.reaper is not None:
            lease.reaper.cancel()
        if lease.lost is not None:
            return
        lease.returned = True
        self._hold_s += 0.2 * (lease.held_s - self._hold_s)
        log.info(
            "browser.context.returned",
            **lease.entry.named,
            held_s=round(lease.held_s, 3),
            uses=lease.entry.uses,
        )
        lease.context.forget_listeners()
        self.stock.take_back(lease.entry)
        self._pump()

    @asynccontextmanager
    async def explaining(self, lease: Lease) -> AsyncIterator[None]:
        """Turns an error of Playwright's into `LeaseLost` where the context is gone."""
        try:
            yield
        except PlaywrightError as error:
            if lease.lost is None and "closed" in error.message:
                # Asked now, because Playwright cannot always tell.
                await self.stock.check(lease.entry.process)
            if lease.lost is not None:
                raise LeaseLost(lease.lost) from error
            raise

    def _admit(self) -> None:
        if self.stock.closing:
            raise BrowserUnavailable("shutting_down", "The browser pool is shutting down.")
        if (problem := self.stock.launches.problem) is not None:
            raise problem
        if len(self._waiters) >= self._settings.browser_queue_limit:
            waiting = len(self._waiters)
            text = f"All {self._most} browser contexts are in use and {waiting} callers wait."
            raise self._refusal("queue_full", text)

    def _waited_in_vain(self) -> BrowserUnavailable:
        if (problem := self.stock.launches.problem) is not None:
            return problem
        if self.stock.memory.high:
            text = "The browser is above its memory threshold; no new context is made."
            return self._refusal("memory", text)
        text = f"No browser context became free in time ({self.leased()} in use)."
        return self._refusal("wait_timeout", text)

    def _refusal(self, reason: UnavailableReason, text: str) -> BrowserUnavailable:
        """To be tried again when this caller would have had its turn, in 1 to 60 seconds."""
        turns = (len(self._waiters) + 1) / self._most
        return BrowserUnavailable(reason, text, min(60, max(1, math.ceil(turns * self._hold_s))))

    # Handing out

    def _pump(self) -> None:
        """Give idle contexts to waiters, and see that contexts for the others are made."""
        if self.stock.closing:
            return
        if self.stock.process is not None:
            self._hand_out()
            self._make_room()
        elif (problem := self.stock.launches.problem) is not None:
            self._refuse_all(problem)

    def _hand_out(self) -> None:
        for waiter in tuple(self._waiters):
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

    def _idle_for(self, identity: Identity) -> PooledContext | None:
        if self.leased() >= self._most:  # a replacement may be one too many
            return None
        fit = [
            entry
            for entry in self.stock.entries
            if entry.key == identity.key
            and entry.state is State.IDLE
            and entry.process is self.stock.process
            and self.clock() < entry.expires_at
        ]
        # The one used last has the warmest connections; the others may grow old in peace.
        return max(fit, key=lambda entry: entry.last_used_at, default=None)

    def _lend(self, entry: PooledContext, waiter: _Waiter) -> Lease:
        wait_s = time.monotonic() - waiter.since
        lease = Lease(entry, hold_s=waiter.hold_s, wait_s=wait_s)
        lease.reaper = asyncio.get_running_loop().call_later(waiter.hold_s, self._expire, lease)
        entry.enter(State.LEASED)
        entry.uses += 1
        entry.last_used_at = self.clock()
        if entry.uses >= self._settings.browser_context_max_uses:
            entry.condemn("uses")
            self.stock.renew(entry)
        return lease

    def _expire(self, lease: Lease) -> None:
        """The holder did not come back: take the context away."""
        if lease.returned or lease.lost is not None:
            return
        lease.entry.lose("expired")
        held_s = round(lease.held_s, 3)
        log.warning("browser.context.lease_expired", **lease.entry.named, held_s=held_s)
        self.stock.retire(lease.entry, "expired")

    # Making room

    def _make_room(self) -> None:
        if self.stock.memory.high:
            return
        entries = [entry for entry in self.stock.entries if not entry.is_slow]
        # A context being made or cleaned will serve one waiter of its identity.
        coming = Counter(self.stock.making)
        coming.update(entry.key for entry in entries if entry.state is State.CLEANING)
        leaving = sum(entry.state is State.CLOSING for entry in entries)
        waiters = list(self._waiters)[: 1 if self._head_is_next() else None]
        for waiter in waiters:
            key = waiter.identity.key
            if coming[key] > 0:
                coming[key] -= 1
            elif self.stock.has_room():
                self.stock.make(waiter.identity)
            elif leaving > 0:
                leaving -= 1
            else:
                if (victim := self._least_recent_idle()) is None:
                    return
                self.stock.retire(victim, "capacity")

    def _head_is_next(self) -> bool:
        """Whether the one that waits longest has been overtaken often enough."""
        return bool(self._waiters) and self._waiters[0].overtaken >= _OVERTAKES

    def _least_recent_idle(self) -> PooledContext | None:
        wanted = {waiter.identity.key for waiter in self._waiters}
        if self._head_is_next():
            wanted = {self._waiters[0].identity.key}
        idle = [e for e in self.stock.entries if e.state is State.IDLE and e.key not in wanted]
        return min(idle, key=lambda entry: entry.last_used_at, default=None)

    # Refusing

    def _refuse_one(self, identity: Identity, error: Exception) -> None:
        """A context that cannot be made is the answer to the one who waited for it."""
        waiter = next((w for w in self._waiters if w.identity.key == identity.key), None)
        if waiter is None:
            return
        waiter.failures += 1
        if waiter.failures >= _TRIES:
            text = f"The browser could not make a context: {type(error).__name__}"
            refusal = self._refusal("context_failed", text)
            refusal.__cause__ = error
            self._refuse(waiter, refusal)

    def _refuse(self, waiter: _Waiter, refusal: BrowserUnavailable) -> None:
        self._waiters.remove(waiter)
        waiter.lease.set_exception(refusal)

    def _refuse_all(self, refusal: BrowserUnavailable) -> None:
        for waiter in tuple(self._waiters):
            self._refuse(waiter, refusal)

    # Time passing

    def _start_ticking(self) -> None:
        if self._ticking is None:
            # In a context of its own: it must not carry the first caller's trace for ever.
            self._ticking = asyncio.get_running_loop().create_task(
                self._tick_for_ever(), context=contextvars.Context()
            )

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._timing.tick_s)
            try:
                instruments.BROWSER_CONTEXTS_LIMIT.set(self._most)  # exported when it was set
                self.stock.tick()
            except Exception:
                log.exception("browser.janitor.failed")

    async def close(self, grace_s: float) -> None:
        """Refuse new leases, give the present ones `grace_s` seconds, then close everything."""
        self.stock.closing = True
        self._refuse_all(BrowserUnavailable("shutting_down", "The browser pool is shutting down."))
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                while any(entry.state is State.LEASED for entry in self.stock.entries):
                    self._returned.clear()
                    await self._returned.wait()
        if self._ticking is not None:
            self._ticking.cancel()
        await self.stock.close()
