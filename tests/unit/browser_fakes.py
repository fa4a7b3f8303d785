"""A browser without Chromium: only what the pool's decisions look at."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

from tests.browser_settings import pool_limits
from transcript_service.browser.errors import BrowserUnavailable
from transcript_service.browser.identity import Identity
from transcript_service.browser.pool import ContextPool

DESKTOP = Identity.of("desktop")
MOBILE = Identity.of("mobile")


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakePage:
    url = "about:blank"

    def __init__(self, context: FakeContext) -> None:
        self._context = context
        self._listeners: dict[str, Callable[..., Any]] = {}
        self.closed = False

    def on(self, event: str, handler: Callable[..., Any]) -> None:
        self._listeners[event] = handler

    def crash(self) -> None:
        self._listeners["crash"](self)

    def is_closed(self) -> bool:
        return self.closed

    async def evaluate(self, _: str) -> int:
        await self._context.process.work("evaluate")
        return 1

    async def close(self, **_: object) -> None:
        await self._context.process.work("close_page")
        self.closed = True
        self._context.pages.remove(self)


class FakeContext:
    def __init__(self, process: FakeProcess, identity: Identity) -> None:
        self.process = process
        self.identity = identity
        self.pages: list[FakePage] = []
        self.closed = False
        self._on_page: Callable[[FakePage], None] = lambda _: None

    def on(self, _: str, handler: Callable[[FakePage], None]) -> None:
        self._on_page = handler

    async def new_page(self) -> FakePage:
        await self.process.work("new_page")
        page = FakePage(self)
        self.pages.append(page)
        self._on_page(page)
        return page

    async def close(self) -> None:
        await self.process.work("close_context")
        self.closed = True
        self.process.contexts.remove(self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("set_default"):
            return lambda *_: None

        async def nothing(*_: object, **__: object) -> None:
            await self.process.work(name)

        return nothing


class FakeProcess:
    """A browser whose operations can be made to fail or hang by name."""

    def __init__(self) -> None:
        self.pid = 1
        self.version = "156.0.0.0"
        self.started_at = time.monotonic()
        self.baseline_bytes = 100
        self.missed = 0
        self.ended = False
        self.memory: Callable[[], int | None] = lambda: 100
        self.contexts: list[FakeContext] = []
        self.most_contexts = 0
        self.connected = True
        self.destroyed = False
        self.failing: set[str] = set()
        self.hanging: set[str] = set()
        self._lost: Callable[[], None] = lambda: None
        self._gone = asyncio.Event()

    async def work(self, name: str) -> None:
        await asyncio.sleep(0)
        if name in self.failing or not self.connected:
            raise RuntimeError(f"{name} failed")
        if name in self.hanging:
            await self._gone.wait()
            raise RuntimeError("the browser is gone")

    def on_lost(self, callback: Callable[[], None]) -> None:
        self._lost = callback

    def die(self) -> None:
        self.connected = False
        self.contexts.clear()
        self._lost()

    async def new_context(self, identity: Identity) -> Any:
        await self.work("new_context")
        context = FakeContext(self, identity)
        self.contexts.append(context)
        self.most_contexts = max(self.most_contexts, len(self.contexts))
        return context

    async def heartbeat(self) -> None:
        await self.work("heartbeat")

    async def usage_bytes(self) -> int | None:
        await asyncio.sleep(0)
        return self.memory()

    async def destroy(self) -> None:
        self.connected = False
        self.contexts.clear()
        self.destroyed = True
        self._gone.set()


class Lab:
    """A pool over fake browsers, with a clock that stands still."""

    def __init__(self, **config: Any) -> None:
        self.clock = Clock()
        self.launched: list[Any] = []
        self.refusal: BrowserUnavailable | None = None
        # No background ticks: a test that wants one calls `pool.tick()`.
        limits = pool_limits(**{"wait_s": 1.0, "tick_s": 3600.0, "age_jitter": 0.0, **config})
        self.pool = ContextPool(limits.settings, self._launch, limits.timing, clock=self.clock)

    async def _launch(self) -> Any:
        await asyncio.sleep(0)
        if self.refusal is not None:
            raise self.refusal
        self.launched.append(FakeProcess())
        return self.launched[-1]

    @property
    def browser(self) -> Any:
        return self.launched[-1]

    @property
    def open(self) -> int:
        stock = self.pool.stock
        return stock.counts["created"] - stock.closed.total()

    def page(self, index: int = 0) -> FakePage:
        """The ready page of an entry."""
        return cast("FakePage", self.pool.stock.entries[index].spare)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the pool work until something holds; fails after a second."""
        async with asyncio.timeout(1):
            for _ in iter(condition, True):
                await asyncio.sleep(0)  # one turn of the loop

    async def settle(self) -> None:
        """Let the pool finish what it has begun."""
        await self.until(lambda: not self.pool.stock._tasks)
