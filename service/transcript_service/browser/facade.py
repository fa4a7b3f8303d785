"""The pool as the rest of the service sees it: from any thread, started on first use."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast

from ..proxies import Proxy
from ..settings import Settings, get_settings
from ..telemetry import set_attributes, span
from .errors import BrowserUnavailable, LeaseLost
from .identity import Cookie, Identity
from .lease import Lease, LeasedContext
from .pool import ContextPool
from .process import ChromiumProcess
from .stock import Timing
from .sync_view import Bridge, SyncView

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext as SyncBrowserContext

T = TypeVar("T")
ProxyLike = Proxy | Mapping[str, Any] | None

# For a loop that does not answer at all; every wait on the loop has its own bound.
_LOOP_SLACK_S: Final = 5.0
# Threads for `on` and `route` handlers of sync leaseholders, and for measuring.
_THREADS: Final = 8


class _Running(NamedTuple):
    loop: asyncio.AbstractEventLoop
    thread: threading.Thread
    core: ContextPool


class BrowserPool:
    """Browser contexts for the threads of one process.

    Nothing runs before the first lease: then a loop thread and one Chromium are started,
    in this process (so after gunicorn's fork). Leases are exclusive; a context goes back
    to the pool when the block ends and is cleaned there while nobody waits for it.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        timing: Timing | None = None,
    ) -> None:
        self.settings = settings or get_settings()
        self._timing = timing or Timing()
        self._start_lock = threading.Lock()
        self._running: _Running | None = None
        self._closed = False
        self._pid = os.getpid()

    # Leasing

    @contextmanager
    def lease(
        self,
        profile: str = "desktop",
        proxy: ProxyLike = None,
        cookies: Sequence[Cookie] | None = None,
        *,
        timeout_s: float | None = None,
        deadline_s: float | None = None,
    ) -> Iterator[SyncBrowserContext]:
        """Lease a context for a block, from any thread.

        Args:
            profile: `desktop` or `mobile`.
            proxy: server, username and password (raw, not percent-encoded).
            cookies: the cookies the context has, in Playwright's form.
            timeout_s: most seconds to wait for a context (BROWSER_ACQUIRE_TIMEOUT_S).
            deadline_s: seconds the block may take (BROWSER_LEASE_TIMEOUT_S); past it the
                context is closed and calls in progress end with `LeaseLost`.

        Yields:
            A view with the methods of `playwright.sync_api.BrowserContext` (it is not an
            instance of that class). It need not be closed, and is of no use after the block.

        Raises:
            BrowserUnavailable: no Chromium on this machine, all contexts busy for too
                long, memory, or shutdown; its `reason` says which.
            LeaseLost: the deadline passed or the browser died inside the block.
            ValueError: unknown profile, or credentials inside the proxy's address.
        """
        wait_s = self.settings.browser_acquire_timeout_s if timeout_s is None else timeout_s
        with self._leased(profile, proxy, cookies, wait_s, deadline_s) as bridge:
            yield cast("SyncBrowserContext", SyncView(bridge.lease.context, bridge))

    def run(
        self,
        work: Callable[[LeasedContext], Awaitable[T]],
        profile: str = "desktop",
        proxy: ProxyLike = None,
        cookies: Sequence[Cookie] | None = None,
        *,
        timeout_s: float,
    ) -> T:
        """Run a coroutine function with a leased context and wait for its result.

        Args:
            work: gets the context, on the pool's loop; it must not block.
            profile, proxy, cookies: as in `lease`.
            timeout_s: seconds for everything, waiting for a context included. A hard
                limit: past it the work is cancelled and its context closed.

        Raises:
            BrowserUnavailable: no context came free in time, or as in `lease`.
            TimeoutError: the work did not end in time.
            LeaseLost: the browser died.
        """
        end = time.monotonic() + timeout_s
        wait_s = min(self.settings.browser_acquire_timeout_s, timeout_s)
        with self._leased(profile, proxy, cookies, wait_s, timeout_s) as bridge:

            async def in_time() -> T:
                async with asyncio.timeout(end - time.monotonic()):
                    return await work(bridge.lease.context)

            try:
                return cast("T", bridge.result_of(in_time))
            except LeaseLost as error:  # also where the work swallows its cancellation
                if error.reason == "expired":
                    raise TimeoutError from error
                raise

    @contextmanager
    def _leased(
        self,
        profile: str,
        proxy: ProxyLike,
        cookies: Sequence[Cookie] | None,
        wait_s: float,
        hold_s: float | None,
    ) -> Iterator[Bridge]:
        # Chromium cannot be given one more CA from the command line. Where the operator names
        # one, YouTube's hosts lead to it and no others exist.
        lenient = self.settings.youtube_ca_file is not None
        identity = Identity.of(profile, proxy, cookies, ignore_https_errors=lenient)
        loop, _, core = self._started()
        proxied = identity.proxy is not None
        with span("browser.lease", profile=identity.profile, proxy_used=proxied) as opened:
            leased: Future[Lease] = Future()
            holding = _submit(_hold(core, identity, wait_s, hold_s, leased), loop)
            try:
                if not wait([leased], wait_s + _LOOP_SLACK_S).done:
                    text = "The browser pool's loop does not answer."
                    raise BrowserUnavailable("wait_timeout", text, 60.0)
                lease = leased.result()
                try:
                    yield Bridge(loop, lease, core.explaining)
                finally:
                    lease.ended = True
                    set_attributes(
                        opened,
                        reused=lease.reused,
                        uses=lease.entry.uses,
                        wait_s=round(lease.wait_s, 4),
                        context_key=lease.entry.key,
                        retired=lease.entry.retire,
                    )
            finally:
                holding.cancel()  # wherever this thread was stopped, the lease goes back

    # Life

    def close(self, grace_s: float = 10.0) -> None:
        """Stop leasing, give leaseholders `grace_s` seconds, end browser and thread.

        Safe to call twice and on a pool that was never used. In a forked child nothing is
        done: thread and browser are the parent's.
        """
        if self._pid != os.getpid():
            return
        with self._start_lock:
            again, self._closed = self._closed, True
        if again or self._running is None:
            return
        atexit.unregister(self.close)
        loop, thread, core = self._running
        with suppress(TimeoutError):
            _submit(_end(core, grace_s), loop).result(grace_s + 4 * self._timing.operation_s)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_LOOP_SLACK_S)

    def _started(self) -> _Running:
        with self._start_lock:
            if self._closed:
                raise BrowserUnavailable("shutting_down", "The browser pool is closed.")
            if self._running is None:
                loop = asyncio.new_event_loop()
                loop.set_default_executor(ThreadPoolExecutor(_THREADS, "browser-handler"))
                thread = threading.Thread(
                    target=_serve, args=(loop,), name="browser-pool", daemon=True
                )
                thread.start()
                core = ContextPool(
                    self.settings, lambda: ChromiumProcess.launch(self.settings), self._timing
                )
                self._running = _Running(loop, thread, core)
                # A script that ends without closing the pool must not leave a browser.
                atexit.register(self.close, 0.0)
            return self._running


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


async def _end(core: ContextPool, grace_s: float) -> None:
    await core.close(grace_s)
    # Of leaseholders who did not come back.
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=_LOOP_SLACK_S)


async def _hold(
    core: ContextPool,
    identity: Identity,
    wait_s: float,
    hold_s: float | None,
    leased: Future[Lease],
) -> None:
    """Lease a context for a thread, until that cancels this."""
    try:
        lease = await core.acquire(identity, wait_s=wait_s, hold_s=hold_s)
    except Exception as error:
        leased.set_exception(error)
        return
    try:
        leased.set_result(lease)
        await asyncio.get_running_loop().create_future()
    finally:
        core.release(lease)


def _submit(work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> Future[T]:
    try:
        return asyncio.run_coroutine_threadsafe(work, loop)
    except RuntimeError as error:  # closed between two lines of the caller's
        work.close()
        raise BrowserUnavailable("shutting_down", "The browser pool is closed.") from error


_pool: BrowserPool | None = None
_pool_lock = threading.Lock()


def get_browser_pool() -> BrowserPool:
    """This process's pool, configured by the environment. It starts on its first lease."""
    global _pool  # noqa: PLW0603 - one per process
    with _pool_lock:
        if _pool is None or _pool._closed:
            _pool = BrowserPool()
        return _pool


def _forget_after_fork() -> None:
    """A child has neither the parent's loop thread nor a right to its browser."""
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_after_fork)


def get_optimized_browser_context(
    profile: str = "desktop", proxy_config: ProxyLike = None
) -> AbstractContextManager[SyncBrowserContext]:
    """Lease a browser context for a `with` block; works from any thread.

        with get_optimized_browser_context("desktop", proxy_config) as context:
            page = context.new_page()
            page.goto("https://www.youtube.com/watch?v=...")

    The names are those of Playwright's sync API. Without Chromium on the machine it raises
    `BrowserUnavailable` with `reason == "not_installed"` and how to install one; for the
    other errors see `BrowserPool.lease`.
    """
    return get_browser_pool().lease(profile, proxy_config)
