"""One context of the pool: what is known about it, and making it as good as new.

What a new context has not, a cleaned one has not either: no page, route, listener, cookie
beyond the identity's own, storage of any kind, permission, header or emulation. What it
keeps is what makes it worth keeping: open connections and the HTTP cache of its identity.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from playwright.async_api import BrowserContext, Page
from playwright.async_api import Error as PlaywrightError

from ..telemetry import get_logger
from ..telemetry import instruments as metric
from .errors import LostReason
from .identity import Identity
from .process import ChromiumProcess

log = get_logger(__name__)

RetireReason = Literal[
    "age", "uses", "memory", "wear", "unhealthy", "crash", "expired", "capacity", "shutdown"
]
# What `browser.contexts` counts a context as; cleaning after a lease still counts as leased.
Occupancy = Literal["idle", "leased"]

# Opening a page is timed after every lease; a verdict on wear looks at this many.
PROBES_KEPT: Final = 5
# Cleaning and closing take 0.05 to 0.5 s, a second or two on an overloaded machine. What
# takes longer than this occupies nothing but itself: others need not wait for it.
SLOW_S: Final = 3.0
# Playwright's own default, which a lease may have changed.
DEFAULT_TIMEOUT_MS: Final = 30_000


class State(Enum):
    """What a context is doing."""

    IDLE = auto()
    LEASED = auto()
    CLEANING = auto()
    CLOSING = auto()
    GONE = auto()


_COUNTED_AS: Final[Mapping[State, Occupancy]] = {State.IDLE: "idle", State.LEASED: "leased"}


@dataclass(eq=False)
class PooledContext:
    """A browser context in the pool."""

    identity: Identity
    process: ChromiumProcess
    context: BrowserContext
    created_at: float
    expires_at: float
    last_used_at: float
    state: State = State.CLEANING
    state_since: float = field(default_factory=time.monotonic)
    # Opened and tried out while nobody waits; the next lease's first page.
    spare: Page | None = None
    uses: int = 0
    occupancy: Occupancy = "idle"
    # Who leases it: span and log fields for what its pages say.
    holder: contextvars.Context = field(default_factory=contextvars.Context)
    # Why it was taken from its holder. Nobody gets it after that.
    lost: LostReason | None = None
    # Set as soon as it is known that the context ends with its present lease.
    retire: RetireReason | None = None
    detail: str | None = None
    replaced: bool = False
    # Origins that pages of this context have shown: where storage may have been written.
    origins: set[str] = field(default_factory=set)
    probes_s: deque[float] = field(default_factory=lambda: deque(maxlen=PROBES_KEPT))

    @property
    def key(self) -> str:
        return self.identity.key

    @property
    def named(self) -> dict[str, str]:
        """How log lines name it."""
        return {"profile": self.identity.profile, "context_key": self.key}

    def enter(self, state: State) -> None:
        self.state, self.state_since = state, time.monotonic()
        to = _COUNTED_AS.get(state, self.occupancy)
        if to != self.occupancy:
            profile = self.identity.profile
            metric.BROWSER_CONTEXTS.add(-1, profile=profile, state=self.occupancy)
            metric.BROWSER_CONTEXTS.add(1, profile=profile, state=to)
            self.occupancy = to

    @property
    def is_slow(self) -> bool:
        """Whether cleaning or closing it takes longer than others should wait for.

        Not where it is being made: the next one would have to wait for that all the same.
        """
        busy = self.state is State.CLOSING or (self.state is State.CLEANING and self.uses > 0)
        return busy and time.monotonic() - self.state_since >= SLOW_S

    def saw_url(self, url: str) -> None:
        """Remember the origin of a page or frame, if it can have storage."""
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.netloc:
            self.origins.add(f"{parts.scheme}://{parts.netloc}")

    def lose(self, reason: Literal["expired", "crash", "shutdown"]) -> None:
        """Take it from whoever holds it. Whatever was planned, this is what happened."""
        if self.state is State.LEASED:
            self.lost = reason
        if self.state is not State.CLOSING:
            self.retire, self.detail = reason, None

    def condemn(self, reason: RetireReason, detail: str | None = None) -> None:
        """Retire it at the end of its lease. The first reason stays."""
        if self.retire is None:
            self.retire, self.detail = reason, detail

    # What happens to it, each a metric and a log line that cannot drift apart

    def was_created(self, duration_s: float) -> None:
        profile = self.identity.profile
        metric.BROWSER_CONTEXTS_CREATED.add(1, profile=profile)
        metric.BROWSER_CONTEXTS.add(1, profile=profile, state=self.occupancy)
        log.info("browser.context.created", **self.named, duration_s=round(duration_s, 3))

    def was_leased(self, *, reused: bool, wait_s: float) -> None:
        profile = self.identity.profile
        metric.BROWSER_CONTEXT_LEASES.add(1, profile=profile, reused=str(reused).lower())
        metric.BROWSER_CONTEXT_WAIT_DURATION.record(wait_s, profile=profile)
        wait_s = round(wait_s, 3)
        log.info(
            "browser.context.leased", **self.named, reused=reused, wait_s=wait_s, uses=self.uses
        )

    def was_closed(self, reason: RetireReason, age_s: float) -> None:
        profile = self.identity.profile
        metric.BROWSER_CONTEXTS.add(-1, profile=profile, state=self.occupancy)
        metric.BROWSER_CONTEXTS_CLOSED.add(1, profile=profile, reason=reason)
        metric.BROWSER_CONTEXT_AGE.record(age_s, profile=profile)
        metric.BROWSER_CONTEXT_USES.record(self.uses, profile=profile)
        log.info(
            "browser.context.retired",
            **self.named,
            reason=reason,
            age_s=round(age_s, 3),
            uses=self.uses,
            detail=self.detail,
        )

    # Making it ready

    async def prepare(self) -> None:
        """Give a new context its cookies and its first page."""
        await self._seed_cookies()
        await self._open_spare()

    async def clean(self) -> None:
        """Take away all that a lease left and open the next lease's page.

        Raises:
            Exception: the context cannot be trusted any more (a page that does not close,
                a dead browser); the pool closes it.
        """
        context = self.context
        await self._close_pages()
        await context.unroute_all(behavior="ignoreErrors")
        await context.clear_permissions()
        await context.set_extra_http_headers({})
        await context.set_geolocation(None)
        await context.set_offline(False)
        context.set_default_timeout(DEFAULT_TIMEOUT_MS)
        context.set_default_navigation_timeout(DEFAULT_TIMEOUT_MS)
        await self._open_spare()
        # What a closing page had opened has arrived by now, the browser having answered twice.
        await self._close_pages()
        await self._clear_storage()
        # Last: storage of an origin includes its cookies. No page is left that could write.
        await context.clear_cookies()
        await self._seed_cookies()

    async def _close_pages(self) -> None:
        # A page may open another while it is being closed.
        while pages := [page for page in self.context.pages if page is not self.spare]:
            await asyncio.gather(*(page.close(run_before_unload=False) for page in pages))

    async def _seed_cookies(self) -> None:
        # One by one: one that Chromium refuses has all refused that are given with it.
        for cookie in self.identity.cookies:
            # Playwright's type of a cookie is not public; it checks the fields itself.
            given: Any = dict(cookie)
            try:
                await self.context.add_cookies([given])
            except PlaywrightError:
                log.warning(
                    "browser.cookie.refused",
                    profile=self.identity.profile,
                    cookie_name=cookie.get("name"),
                    cookie_domain=cookie.get("domain"),
                )

    async def _open_spare(self) -> None:
        """Open a blank page and have it answer: proof of life and measure of wear in one."""
        started = time.perf_counter()
        page = await self.context.new_page()
        await page.evaluate("1")
        self.probes_s.append(time.perf_counter() - started)
        self.spare = page

    async def _clear_storage(self) -> None:
        """Local storage, IndexedDB, Cache Storage, service workers: all kinds, per origin."""
        if not self.origins or self.spare is None:
            return
        session = await self.context.new_cdp_session(self.spare)
        try:
            for origin in sorted(self.origins):
                await session.send(
                    "Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "all"}
                )
        finally:
            await session.detach()
        self.origins.clear()
