"""The pool itself: who gets which context, and who is told that there is none.

Everything here runs on one event loop and changes state only between two `await`s, so no
lock is needed. What is done to contexts and browsers is the business of `Stock`.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from ..telemetry import get_logger
from .config import PoolConfig
from .context import PooledContext, State
from .errors import BrowserUnavailable, LostReason
from .identity import Identity
from .lease import Lease
from .process import Process
from .report import Report
from .stock import Stock, Told

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
        self.report = Report()
        self.clock = clock
        told = Told(
            changed=self._pump,
            no_context=self._refuse_one,
            no_browser=self._refuse_all,
            lost=self._lose,
            console=self._say,
        )
        jitter = rng or random.Random()  # noqa: S311 - no secret
        self.stock = Stock(config, launch, self.report, told, clock, jitter)
        self._waiters: deque[_Waiter] = deque()
        self._leases: dict[PooledContext, Lease] = {}
        self._ticking: asyncio.Task[None] | None = None
        self._returned = asyncio.Event()
        self._hold_s = 1.0  # how long leases last on average, for Retry-After

    @property
    def waiting(self) -> int:
        """Callers waiting for a context."""
        return len(self._waiters)

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
            identity: which context may serve.
            wait_s: most seconds to wait for one; `PoolConfig.wait_s` if not given.
            hold_s: seconds until the lease is ended by force; `PoolConfig.lease_s`.

        Raises:
            BrowserUnavailable: none can be had, with the reason.
        """
        self._start_ticking()
        hold_s = self.config.lease_s if hold_s is None else hold_s
        waiter = _Waiter(identity, hold_s, asyncio.get_running_loop().create_future())
        try:
            self._admit()
            self._waiters.append(waiter)
            self.stock.ensure_browser()
            self._pump()
            async with asyncio.timeout(self.config.wait_s if wait_s is None else wait_s):
                lease = await waiter.lease
        except TimeoutError:
            if not _has_come(waiter):  # not even in this moment
                raise self._refused(waiter, self._waited_in_vain()) from None
            lease = waiter.lease.result()
        except BrowserUnavailable as refusal:
            raise self._refused(waiter, refusal) from refusal.__cause__
        except asyncio.CancelledError:
            if _has_come(waiter):
                self.release(waiter.lease.result())
            raise
        finally:
            with suppress(ValueError):
                self._waiters.remove(waiter)
        # By the caller's task, so that it belongs to its trace.
        self.report.context_leased(lease.entry, reused=lease.reused, wait_s=lease.wait_s)
        return lease

    def release(self, lease: Lease) -> None:
        """Take a context back. Returning twice, or after the deadline, is no error."""
        if lease.returned:
            return
        lease.end()
        lease.returned = True
        self._returned.set()
        if lease.reaper is not None:
            lease.reaper.cancel()
        if lease.lost is not None:
            return
        del self._leases[lease.entry]
        self._hold_s += 0.2 * (lease.held_s - self._hold_s)
        self.report.context_returned(lease.entry, lease.held_s)
        lease.context.forget_listeners()
        self.stock.take_back(lease.entry)
        self._pump()

    async def is_lost(self, lease: Lease) -> bool:
        """Whether a lease's browser is gone, asked now: Playwright cannot always tell."""
        if lease.lost is None:
            await self.stock.check(lease.entry.process)
        return lease.lost is not None

    def _refused(self, waiter: _Waiter, refusal: BrowserUnavailable) -> BrowserUnavailable:
        waited_s = time.monotonic() - waiter.since
        self.report.lease_refused(waiter.identity.profile, refusal.reason, waited_s)
        return refusal

    def _admit(self) -> None:
        if self.stock.closing:
            raise BrowserUnavailable("shutting_down", "The browser pool is shutting down.")
        if (problem := self.stock.launches.problem) is not None:
            raise problem
        if len(self._waiters) >= self.config.queue_limit:
            raise BrowserUnavailable(
                "queue_full",
                f"All {self.config.max_contexts} browser contexts are in use and "
                f"{len(self._waiters)} callers wait already.",
                self.retry_after_s(),
            )

    def _waited_in_vain(self) -> BrowserUnavailable:
        if (problem := self.stock.launches.problem) is not None:
            return problem
        if self.stock.memory.high:
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

    def _pump(self) -> None:
        """Give idle contexts to waiters, and see that contexts for the others are made."""
        if self.stock.closing or self.stock.process is None:
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

    def _idle_for(self, identity: Identity) -> PooledContext | None:
        if self.leased() >= self.config.max_contexts:  # a replacement may be one too many
            return None
        fit = [e for e in self.stock.entries if e.key == identity.key and self._is_leasable(e)]
        # The one used last has the warmest connections; the others may grow old in peace.
        return max(fit, key=lambda entry: entry.last_used_at, default=None)

    def _is_leasable(self, entry: PooledContext) -> bool:
        return (
            entry.state is State.IDLE
            and entry.process is self.stock.process
            and entry.process.is_connected()
            and self.clock() < entry.expires_at
        )

    def _lend(self, entry: PooledContext, waiter: _Waiter) -> Lease:
        lease = Lease(entry, reused=entry.uses > 0, hold_s=waiter.hold_s)
        lease.wait_s = time.monotonic() - waiter.since
        entry.enter(State.LEASED)
        self._leases[entry] = lease
        entry.uses += 1
        entry.last_used_at = self.clock()
        lease.reaper = asyncio.get_running_loop().call_later(waiter.hold_s, self._expire, lease)
        self.report.context_moved(entry, "leased")
        if entry.uses >= self.config.max_uses:
            entry.condemn("uses")
            self.stock.renew(entry)
        return lease

    def _expire(self, lease: Lease) -> None:
        """The holder did not come back: take the context away."""
        if lease.returned or lease.lost is not None:
            return
        self._lose(lease.entry, "expired")
        self.report.lease_expired(lease.entry, lease.held_s)
        lease.entry.retire = None  # whatever was planned, this is what happened
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
            if waiter.lease.done():
                continue
            if coming[key] > 0:
                coming[key] -= 1
            elif self.stock.has_room():
                self.stock.make(waiter.identity)
            elif leaving > 0:
                leaving -= 1
            else:
                victim = self._least_recent_idle()
                if victim is None:
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

    # What has happened to contexts and browsers

    def _lose(self, entry: PooledContext, reason: LostReason) -> None:
        if (lease := self._leases.pop(entry, None)) is not None:
            lease.lost = reason

    def _say(self, entry: PooledContext, level: str, text: str) -> None:
        if (lease := self._leases.get(entry)) is not None:
            # In the context of whoever leased it: the line belongs to that request.
            lease.caller.run(self.report.console, entry.identity.profile, level, text)

    def _refuse_one(self, identity: Identity, error: Exception) -> None:
        """A context that cannot be made is the answer to the one who waited for it."""
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

    def _refuse_all(self, error: BrowserUnavailable) -> None:
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
                self.report.limit(self.config.max_contexts)  # exported when it was set
                self.stock.tick()
            except Exception:
                log.exception("browser.janitor.failed")

    async def close(self, grace_s: float) -> None:
        """Refuse new leases, wait for the present ones, then close everything.

        Args:
            grace_s: seconds the leaseholders get to return.
        """
        self.stock.closing = True
        self._refuse_all(BrowserUnavailable("shutting_down", "The browser pool is shutting down."))
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                while self._leases:
                    self._returned.clear()
                    await self._returned.wait()
        if self._ticking is not None:
            self._ticking.cancel()
        await self.stock.close()


def _has_come(waiter: _Waiter) -> bool:
    lease = waiter.lease
    return lease.done() and not lease.cancelled() and lease.exception() is None
