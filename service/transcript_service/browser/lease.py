"""What a leaseholder gets: the context and its pages, for a time.

Both are thin: what is not defined here is Playwright's own method of the same name.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from playwright.async_api import Page, Response

from ..telemetry import set_attributes, span
from .context import PooledContext
from .errors import LeaseLost, LostReason

# What a leaseholder may do to a context and cleaning takes back. Anything else (init
# scripts, exposed functions, clocks, HAR and socket routes, raw sessions, Playwright's own
# objects with a hold on it) cannot be undone from outside: whoever uses it gets it, and the
# context is closed after the lease.
_UNDOABLE: Final = frozenset(
    {
        "add_cookies",
        "clear_cookies",
        "clear_permissions",
        "cookies",
        "expect_console_message",
        "expect_event",
        "expect_page",
        "grant_permissions",
        "is_closed",
        "pages",
        "route",
        "service_workers",
        "set_default_navigation_timeout",
        "set_default_timeout",
        "set_extra_http_headers",
        "set_geolocation",
        "set_offline",
        "storage_state",
        "unroute",
        "unroute_all",
        "wait_for_event",
    }
)


class Lease:
    """The right to use one context for some seconds."""

    def __init__(self, entry: PooledContext, *, hold_s: float, wait_s: float) -> None:
        self.entry = entry
        self.reused = entry.uses > 0
        self.wait_s = wait_s
        # Measured by the same clock as the loop's timers.
        self.started_at = time.monotonic()
        self.deadline = self.started_at + hold_s
        # The block has ended, whose thread says so: nothing may be done with the context from
        # now on. The pool learns of it a moment later and takes back what was not lost.
        self.ended = False
        self.returned = False
        self.reaper: asyncio.TimerHandle | None = None
        self.context = LeasedContext(self)

    @property
    def lost(self) -> LostReason | None:
        """Why the context was taken away, if it was."""
        return None if self.returned else self.entry.lost

    @property
    def held_s(self) -> float:
        """Seconds since the context was handed out."""
        return time.monotonic() - self.started_at

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline; past it the pool closes the context."""
        return max(0.0, self.deadline - time.monotonic())

    def check(self) -> None:
        """Raise `LeaseLost` if the context was taken away or given back."""
        if self.lost is not None:
            raise LeaseLost(self.lost)
        if self.ended:
            raise LeaseLost("returned")

    def guarded(self, value: Any) -> Any:
        """A method that checks when it is called, however long it was kept; else `value`."""
        if not inspect.ismethod(value):
            return value

        @functools.wraps(value)
        def method(*args: Any, **kwargs: Any) -> Any:
            self.check()
            return value(*args, **kwargs)

        return method


class LeasedContext:
    """A `playwright.async_api.BrowserContext` on loan. It need not be closed.

    `new_page` first hands out the page that the pool has opened and tried out already.
    """

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._listeners: list[tuple[str, Callable[..., Any]]] = []

    @property
    def remaining_s(self) -> float:
        """Seconds until the lease's deadline; past it the context is closed."""
        return self._lease.remaining_s

    @property
    def pages(self) -> list[LeasedPage]:
        """The pages opened in this lease."""
        self._lease.check()
        entry = self._lease.entry
        return [LeasedPage(page, self) for page in entry.context.pages if page is not entry.spare]

    async def new_page(self) -> LeasedPage:
        """Open a page; the first one is ready already."""
        self._lease.check()
        entry = self._lease.entry
        page, entry.spare = entry.spare, None
        if page is None or page.is_closed():
            page = await entry.context.new_page()
            self._lease.check()  # it may have ended meanwhile; cleaning closes the page
        return LeasedPage(page, self)

    async def close(self) -> None:
        """Close the pages. The context itself goes back to the pool with the lease."""
        for page in self.pages:
            await page.close()

    def on(self, event: Any, handler: Callable[..., Any]) -> None:
        """Listen to an event until the lease ends."""
        self._lease.check()
        self._listeners.append((event, handler))
        self._lease.entry.context.on(event, handler)

    def remove_listener(self, event: Any, handler: Callable[..., Any]) -> None:
        self._lease.check()
        self._listeners.remove((event, handler))
        self._lease.entry.context.remove_listener(event, handler)

    def forget_listeners(self) -> None:
        """Remove all listeners of this lease; the pool does when it ends."""
        while self._listeners:
            self._lease.entry.context.remove_listener(*self._listeners.pop())

    def __getattr__(self, name: str) -> Any:
        self._lease.check()
        if name not in _UNDOABLE:
            self._lease.entry.condemn("unhealthy", name)
        return self._lease.guarded(getattr(self._lease.entry.context, name))


class LeasedPage:
    """A `playwright.async_api.Page` whose navigations are spans."""

    def __init__(self, page: Page, context: LeasedContext) -> None:
        self._page = page
        self.context = context

    async def goto(self, url: str, **options: Any) -> Response | None:
        """Navigate, in a span `browser.navigate` with the host (never the query) and status."""
        lease = self.context._lease
        lease.check()
        profile, host = lease.entry.identity.profile, urlsplit(url).hostname
        with span("browser.navigate", profile=profile, host=host) as opened:
            response = await self._page.goto(url, **options)
            set_attributes(opened, status=response.status if response is not None else None)
            return response

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LeasedPage) and self._page == other._page

    def __hash__(self) -> int:
        return hash(self._page)

    def __getattr__(self, name: str) -> Any:
        self.context._lease.check()
        return self.context._lease.guarded(getattr(self._page, name))
