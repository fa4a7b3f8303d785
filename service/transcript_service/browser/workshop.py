"""Where contexts are made, cleaned and closed.

Each of these takes time and is a task of the pool's own: a caller who gives up cancels its
wait and nothing else, so no context is ever lost with it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from ..telemetry import span
from . import hygiene
from .entry import Entry, State
from .errors import LostReason
from .identity import Identity
from .process import Process
from .signals import RetireReason

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext

    from .pool import ContextPool

# A context that has become slow is replaced at most this often: on a busy machine all may
# look slow together.
_WEAR_PAUSE_S: Final = 10.0


class Workshop:
    """The contexts of a pool and all that is done to them."""

    def __init__(self, pool: ContextPool) -> None:
        self._pool = pool
        self.entries: list[Entry] = []
        # Contexts being made, by key: their places are taken already.
        self.making: Counter[str] = Counter()
        # One context at a time: several at once are what made others lose contexts.
        self._make_one = asyncio.Lock()
        self._wear = hygiene.WearGauge()
        self._worn_at = -math.inf

    def has_room(self, *, extra: int = 0) -> bool:
        """Whether one more context may exist."""
        total = len(self.entries) + self.making.total()
        return total < self._pool.config.max_contexts + extra

    def make(self, identity: Identity, *, for_waiter: bool = True) -> None:
        """Start making a context; `for_waiter` if a failure answers a waiting caller."""
        # Counted before the task has run: its place is taken from now on.
        self.making[identity.key] += 1
        self._pool.spawn(self._make(identity, for_waiter))

    async def _make(self, identity: Identity, for_waiter: bool) -> None:
        entry: Entry | None = None
        process = self._pool.supervisor.process
        try:
            async with self._make_one, asyncio.timeout(self._pool.config.operation_s):
                if process is None or not self._takes_contexts(process):
                    return
                started = time.monotonic()
                context = await _new_context(process, identity)
                entry = self._adopt(identity, process, context, started)
                await hygiene.prepare(entry)
        except Exception as error:
            if entry is not None:
                self.retire(entry, "unhealthy", detail=type(error).__name__)
            # In a browser that turns out to be dead the next one will serve the waiter.
            alive = process is not None and await self._pool.supervisor.check(process)
            if alive and for_waiter:
                self._pool.refuse_one(identity, error)
        finally:
            if entry is None:
                self.making[identity.key] -= 1
            elif entry.state is State.CLEANING:
                self._wear.fresh(entry)
                entry.state = State.IDLE
            self._pool.pump()

    def _takes_contexts(self, process: Process) -> bool:
        return process is self._pool.supervisor.process and not self._pool.closing

    def _adopt(self, identity: Identity, process: Process, context: Any, started: float) -> Entry:
        now = self._pool.clock()
        spread = self._pool.rng.uniform(-self._pool.config.age_jitter, self._pool.config.age_jitter)
        entry = Entry(
            identity=identity,
            process=process,
            context=context,
            created_at=now,
            expires_at=now + self._pool.config.max_age_s * (1 + spread),
            last_used_at=now,
        )
        hygiene.watch(entry, self._page_crashed, self._page_strayed, self._page_said)
        self.entries.append(entry)
        self.making[identity.key] -= 1
        self._pool.signals.context_created(
            identity.profile,
            entry.occupancy,
            key=entry.key,
            duration_s=time.monotonic() - started,
        )
        return entry

    def replace(self, entry: Entry) -> None:
        """Have a successor ready before the context goes, if one more may exist meanwhile."""
        if entry.replaced or self._pool.memory.high or not self.has_room(extra=1):
            return
        if self._takes_contexts(entry.process):
            entry.replaced = True
            self.make(entry.identity, for_waiter=False)

    def clean(self, entry: Entry) -> None:
        """Start cleaning a context that came back."""
        entry.state = State.CLEANING
        self._pool.spawn(self._clean(entry))

    async def _clean(self, entry: Entry) -> None:
        try:
            async with asyncio.timeout(self._pool.config.operation_s):
                await hygiene.clean(entry)
        except Exception as error:
            entry.condemn("unhealthy", type(error).__name__)
        if entry.state is not State.CLEANING:  # lost with its browser meanwhile
            return
        now = self._pool.clock()
        if self._wear.is_worn(entry) and now - self._worn_at > _WEAR_PAUSE_S:
            self._worn_at = now
            entry.condemn("wear", str(self._wear.fields(entry)))
        if self._pool.memory.high:
            entry.condemn("memory")
        if entry.retire is not None:
            self.retire(entry, entry.retire)
            return
        before = entry.occupancy
        entry.state, entry.lease = State.IDLE, None
        self._pool.signals.context_moved(entry.identity.profile, before, entry.occupancy)
        self._pool.pump()

    def _page_crashed(self, entry: Entry) -> None:
        self._pool.signals.context_crashed(entry.identity.profile, key=entry.key, uses=entry.uses)
        entry.condemn("crash")
        if entry.state is State.IDLE:
            self.retire(entry, "crash")

    def _page_said(self, entry: Entry, level: str, text: str) -> None:
        lease = entry.lease
        if lease is not None:
            # In the context of whoever leased it: the line belongs to that request.
            lease.caller.run(self._pool.signals.console, entry.identity.profile, level, text)

    def _page_strayed(self, entry: Entry) -> None:
        """A page opened in a context nobody uses: left over from a lease, past cleaning."""
        self.retire(entry, "unhealthy", detail="stray page")

    def retire(self, entry: Entry, reason: RetireReason, *, detail: str | None = None) -> None:
        """Close a context. Not under a lease: a leased one is condemned and goes on return."""
        if entry.state in (State.CLOSING, State.GONE):
            return
        entry.condemn(reason, detail)
        entry.state = State.CLOSING
        self._pool.spawn(self._close_context(entry))

    async def _close_context(self, entry: Entry) -> None:
        closed = False
        profile, reason = entry.identity.profile, entry.retire or "unhealthy"
        with span("browser.retire", profile=profile, reason=reason, uses=entry.uses):
            try:
                async with asyncio.timeout(self._pool.config.operation_s):
                    await entry.context.close()
                closed = True
            except Exception as error:
                entry.detail = entry.detail or type(error).__name__
        self._forget(entry)
        if not closed and await self._pool.supervisor.check(entry.process):
            # It lives and cannot close a context. The slot is free again; the browser
            # drains and goes, and with it whatever the context has left behind.
            self._pool.supervisor.replace(entry.process, "unhealthy")
        self._pool.supervisor.drained(entry.process)
        self._pool.pump()

    def _forget(self, entry: Entry) -> None:
        if entry.state is State.GONE:
            return
        entry.state = State.GONE
        entry.gone.set()
        self.entries.remove(entry)
        self._pool.signals.context_closed(
            entry.identity.profile,
            entry.occupancy,
            entry.retire or "unhealthy",
            key=entry.key,
            age_s=self._pool.clock() - entry.created_at,
            uses=entry.uses,
            detail=entry.detail,
        )

    def forget_process(self, process: Process, reason: RetireReason, lost: LostReason) -> int:
        """A browser is gone: so are its contexts. Returns how many there were."""
        dead = [entry for entry in self.entries if entry.process is process]
        for entry in dead:
            if entry.lease is not None and not entry.lease.returned:
                entry.lease.lost = entry.lease.lost or lost
            entry.retire = reason
            self._forget(entry)
        return len(dead)


async def _new_context(process: Process, identity: Identity) -> BrowserContext:
    """Make a context; one that is finished after the caller has given up is closed."""
    making = asyncio.ensure_future(process.new_context(identity))
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        making.add_done_callback(_close_late)
        raise


def _close_late(making: asyncio.Future[BrowserContext]) -> None:
    if not making.cancelled() and making.exception() is None:
        task = asyncio.ensure_future(making.result().close())
        _closing_late.add(task)
        task.add_done_callback(_closing_late.discard)


# The loop keeps only weak references to tasks.
_closing_late: Final[set[asyncio.Future[None]]] = set()
