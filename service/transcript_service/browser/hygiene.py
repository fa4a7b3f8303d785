"""Making a context as good as new between two leases, and trying it out.

What a new context has not, a cleaned one has not either: no page, route, listener, cookie
beyond the identity's own, storage of any kind, permission, header or emulation. What it
keeps is what makes it worth keeping: open connections and the HTTP cache of its identity.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from .entry import PROBES_KEPT, Entry, State

if TYPE_CHECKING:
    from playwright.async_api import ConsoleMessage, Frame, Page

# Playwright's own default, which a lease may have changed.
_DEFAULT_TIMEOUT_MS: Final = 30_000
# A context counts as worn when a page takes this many times as long to open as in a fresh
# one (crawl4ai measured 4 to 5 times, in contexts that had opened 1,000 pages) and long
# enough to matter.
WEAR_RATIO: Final = 3.0
WEAR_LEAST_S: Final = 0.5


def watch(
    entry: Entry,
    on_crash: Callable[[Entry], None],
    on_stray: Callable[[Entry], None],
    on_console: Callable[[Entry, str, str], None],
) -> None:
    """Follow every page of a context: where it goes, what it says, if it crashes or may be."""

    def navigated(frame: Frame) -> None:
        entry.saw_url(frame.url)

    def crashed(_: Page) -> None:
        on_crash(entry)

    def said(message: ConsoleMessage) -> None:
        on_console(entry, message.type, message.text)

    def follow(page: Page) -> None:
        if entry.state is State.IDLE:
            on_stray(entry)
        entry.saw_url(page.url)
        page.on("framenavigated", navigated)
        page.on("crash", crashed)
        page.on("console", said)

    entry.context.on("page", follow)


async def prepare(entry: Entry) -> None:
    """Give a new context its cookies and its first page."""
    await _seed_cookies(entry)
    await _open_spare(entry)


async def clean(entry: Entry) -> None:
    """Take away all that a lease left and open the next lease's page.

    Raises:
        Exception: the context cannot be trusted any more (a page that does not close, a
            dead browser); the pool closes it.
    """
    context = entry.context
    await _close_pages(entry)
    await context.unroute_all(behavior="ignoreErrors")
    await context.clear_permissions()
    await context.set_extra_http_headers({})
    await context.set_geolocation(None)
    await context.set_offline(False)
    context.set_default_timeout(_DEFAULT_TIMEOUT_MS)
    context.set_default_navigation_timeout(_DEFAULT_TIMEOUT_MS)
    await _open_spare(entry)
    # What a closing page had opened has arrived by now, the browser having answered twice.
    await _close_pages(entry)
    await _clear_storage(entry)
    # Last: storage of an origin includes its cookies. No page is left that could write.
    await context.clear_cookies()
    await _seed_cookies(entry)


async def _close_pages(entry: Entry) -> None:
    # A page may open another while it is being closed.
    while pages := [page for page in entry.context.pages if page is not entry.spare]:
        await asyncio.gather(*(page.close(run_before_unload=False) for page in pages))


async def _seed_cookies(entry: Entry) -> None:
    if entry.identity.cookies:
        # Playwright's type of a cookie is not public; it checks the fields itself.
        cookies: Any = [dict(cookie) for cookie in entry.identity.cookies]
        await entry.context.add_cookies(cookies)


async def _open_spare(entry: Entry) -> None:
    """Open a blank page and have it answer: proof of life and measure of wear in one."""
    started = time.perf_counter()
    page = await entry.context.new_page()
    await page.evaluate("1")
    entry.probes_s.append(time.perf_counter() - started)
    entry.spare = page


async def _clear_storage(entry: Entry) -> None:
    """Local storage, IndexedDB, Cache Storage, service workers: all kinds, per origin."""
    if not entry.origins or entry.spare is None:
        return
    session = await entry.context.new_cdp_session(entry.spare)
    try:
        for origin in sorted(entry.origins):
            await session.send(
                "Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "all"}
            )
    finally:
        await session.detach()
    entry.origins.clear()


class WearGauge:
    """Tells a worn context by how long it takes to open a page.

    The yardstick is the same measurement in the pool's newest contexts, so a machine that
    is slow as a whole makes nothing look worn.
    """

    def __init__(self) -> None:
        self._fresh_s: deque[float] = deque(maxlen=8)

    def fresh(self, entry: Entry) -> None:
        """Take a new context's first measurement as part of the yardstick."""
        self._fresh_s.extend(entry.probes_s)

    def is_worn(self, entry: Entry) -> bool:
        """Whether a context has become slow for good: by the median of its last probes."""
        if len(entry.probes_s) < PROBES_KEPT or not self._fresh_s:
            return False
        limit_s = max(WEAR_LEAST_S, WEAR_RATIO * statistics.median(self._fresh_s))
        return statistics.median(entry.probes_s) > limit_s

    def fields(self, entry: Entry) -> dict[str, Any]:
        """The measurements behind a verdict, in seconds."""
        return {
            "median_s": round(statistics.median(entry.probes_s), 3),
            "fresh_s": round(statistics.median(self._fresh_s), 3) if self._fresh_s else None,
        }
