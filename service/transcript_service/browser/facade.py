"""The pool as the rest of the service sees it: from any thread, started on first use."""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import os
import threading
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from playwright.async_api import Error as PlaywrightError

from ..proxies import Proxy
from ..settings import get_settings
from ..telemetry import span
from ..telemetry.spans import set_attributes
from .config import PoolConfig
from .context import State
from .errors import BrowserUnavailable, LeaseLost
from .identity import Cookie, Identity
from .lease import Lease, LeasedContext
from .pool import ContextPool
from .process import ChromiumProcess
from .sync_view import Bridge, SyncView, running_loop

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext as SyncBrowserContext

T = TypeVar("T")
ProxyLike = Proxy | Mapping[str, Any] | None

# For a loop that does not answer at all; every wait on the loop has its own bound.
_LOOP_SLACK_S: Final = 5.0
# Threads for `on` and `route` handlers of sync leaseholders.
_HANDLER_THREADS: Final = 8


@dataclass(frozen=True)
class PoolStats:
    """The pool at one moment. Counts are since its start, sizes in bytes."""

    limit: int
    idle: int = 0
    leased: int = 0
    waiting: int = 0
    created: int = 0
    closed: Mapping[str, int] = field(default_factory=dict)
    leases: int = 0
    reused: int = 0
    launches: int = 0
    crashes: int = 0
    browser_pid: int | None = None
    memory_bytes: int | None = None
    memory_baseline_bytes: int | None = None
    memory_high: bool = False
    problem: str | None = None

    @property
    def open(self) -> int:
        """Contexts that exist: created less closed."""
        return self.created - sum(self.closed.values())


class BrowserPool:
    """Browser contexts for the threads of one process.

    Nothing runs before the first lease: then a loop thread and one Chromium are started,
    in this process (so after gunicorn's fork). Leases are exclusive; a context goes back
    to the pool when the block ends and is cleaned there while nobody waits for it.
    """

    def __init__(self, config: PoolConfig | None = None) -> None:
        self.config = config or PoolConfig.from_settings(get_settings())
        self._start_lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._core: ContextPool | None = None
        self._handlers: ThreadPoolExecutor | None = None
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
        identity = self._identity(profile, proxy, cookies)
        loop, core, handlers = self._started()
        wait_s = self.config.wait_s if timeout_s is None else timeout_s
        with _lease_span(identity) as begin:
            future = _submit(core.acquire(identity, wait_s=wait_s, hold_s=deadline_s), loop)
            lease = _result_or_give_back(future, wait_s + _LOOP_SLACK_S, core)
            begin(lease)
            try:
                yield cast(
                    "SyncBrowserContext", SyncView(lease.context, Bridge(loop, lease, handlers))
                )
            except PlaywrightError as error:
                if _is_closed(error):
                    _submit(core.is_lost(lease), loop).result(_LOOP_SLACK_S)
                raise _explained(error, lease) from error
            finally:
                lease.end()
                # Where the pool was closed meanwhile, there is nothing left to return.
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(core.release, lease)

    @asynccontextmanager
    async def lease_async(
        self,
        profile: str = "desktop",
        proxy: ProxyLike = None,
        cookies: Sequence[Cookie] | None = None,
        *,
        timeout_s: float | None = None,
        deadline_s: float | None = None,
    ) -> AsyncIterator[LeasedContext]:
        """`lease` for a coroutine that runs on the pool's loop (see `run`)."""
        identity = self._identity(profile, proxy, cookies)
        loop, core, _ = self._started()
        if running_loop() is not loop:
            raise RuntimeError("lease_async works on the pool's own loop: use BrowserPool.run")
        with _lease_span(identity) as begin:
            lease = await core.acquire(identity, wait_s=timeout_s, hold_s=deadline_s)
            begin(lease)
            try:
                yield lease.context
            except PlaywrightError as error:
                if _is_closed(error):
                    await core.is_lost(lease)
                raise _explained(error, lease) from error
            finally:
                core.release(lease)

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
        loop, _, _ = self._started()
        future = _submit(self._run(work, profile, proxy, cookies, timeout_s), loop)
        try:
            # The second bound is for work that swallows its cancellation.
            return future.result(timeout_s + 1.0)
        except TimeoutError:
            future.cancel()
            raise

    async def _run(
        self,
        work: Callable[[LeasedContext], Awaitable[T]],
        profile: str,
        proxy: ProxyLike,
        cookies: Sequence[Cookie] | None,
        timeout_s: float,
    ) -> T:
        wait_s = min(self.config.wait_s, timeout_s)
        async with asyncio.timeout(timeout_s):
            lease = self.lease_async(
                profile, proxy, cookies, timeout_s=wait_s, deadline_s=timeout_s
            )
            try:
                async with lease as context:
                    return await work(context)
            except LeaseLost as error:
                if error.reason == "expired":
                    raise TimeoutError from error
                raise

    # Life

    def stats(self) -> PoolStats:
        """Numbers for health checks and tests; cheap, from any thread."""
        if (core := self._core) is None:
            return PoolStats(limit=self.config.max_contexts)
        report, stock = core.report, core.stock
        process, problem = stock.process, stock.launches.problem
        return PoolStats(
            limit=self.config.max_contexts,
            idle=sum(entry.state is State.IDLE for entry in list(stock.entries)),
            leased=core.leased(),
            waiting=core.waiting,
            created=report.created,
            closed=dict(report.closed),
            leases=report.leases,
            reused=report.reused,
            launches=report.launches,
            crashes=report.crashes,
            browser_pid=process.pid if process is not None else None,
            memory_bytes=stock.memory.used_bytes,
            memory_baseline_bytes=process.baseline_bytes if process is not None else None,
            memory_high=stock.memory.high,
            problem=str(problem) if problem is not None else None,
        )

    def close(self, grace_s: float = 10.0) -> None:
        """Stop leasing, give leaseholders `grace_s` seconds, end browser and thread.

        Safe to call twice and on a pool that was never used. In a forked child nothing is
        done: thread and browser are the parent's.
        """
        if self._pid != os.getpid():
            return
        with self._start_lock:
            self._closed = True
            loop, core, thread, handlers = self._loop, self._core, self._thread, self._handlers
            self._loop = self._thread = None
        if loop is None or core is None or thread is None or handlers is None:
            return
        atexit.unregister(self.close)
        closing = asyncio.run_coroutine_threadsafe(core.close(grace_s), loop)
        with suppress(TimeoutError):
            closing.result(grace_s + 4 * self.config.operation_s)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_LOOP_SLACK_S)
        handlers.shutdown(wait=False, cancel_futures=True)

    def _identity(
        self, profile: str, proxy: ProxyLike, cookies: Sequence[Cookie] | None
    ) -> Identity:
        return Identity.of(
            profile, proxy, cookies, ignore_https_errors=self.config.ignore_https_errors
        )

    def _started(self) -> tuple[asyncio.AbstractEventLoop, ContextPool, ThreadPoolExecutor]:
        with self._start_lock:
            if self._closed:
                raise BrowserUnavailable("shutting_down", "The browser pool is closed.")
            if self._loop is None or self._core is None or self._handlers is None:
                ready: Future[ContextPool] = Future()
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._work, args=(self._loop, ready), name="browser-pool", daemon=True
                )
                self._thread.start()
                self._core = ready.result()
                self._handlers = ThreadPoolExecutor(_HANDLER_THREADS, "browser-handler")
                # A script that ends without closing the pool must not leave a browser.
                atexit.register(self.close, 0.0)
            return self._loop, self._core, self._handlers

    def _work(self, loop: asyncio.AbstractEventLoop, ready: Future[ContextPool]) -> None:
        asyncio.set_event_loop(loop)
        loop.call_soon(
            lambda: ready.set_result(
                ContextPool(self.config, lambda: ChromiumProcess.launch(self.config.launch))
            )
        )
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


@contextmanager
def _lease_span(identity: Identity) -> Iterator[Callable[[Lease], None]]:
    """The span around a lease; what it yields is told the lease once there is one."""
    leases: list[Lease] = []
    proxy_used = identity.proxy is not None
    with span("browser.lease", profile=identity.profile, proxy_used=proxy_used) as opened:

        def begin(lease: Lease) -> None:
            leases.append(lease)
            lease.caller = contextvars.copy_context()
            set_attributes(
                opened,
                reused=lease.reused,
                uses=lease.entry.uses,
                wait_s=round(lease.wait_s, 4),
                context_key=lease.entry.key,
            )

        try:
            yield begin
        finally:
            for lease in leases:
                set_attributes(opened, retired=lease.retired)


def _explained(error: PlaywrightError, lease: Lease) -> Exception:
    """The error to raise for one inside a lease's block."""
    return error if lease.lost is None else LeaseLost(lease.lost)


def _is_closed(error: PlaywrightError) -> bool:
    """Whether the context went away, rather than that a call failed in it."""
    return "closed" in error.message


def _submit(work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> Future[T]:
    try:
        return asyncio.run_coroutine_threadsafe(work, loop)
    except RuntimeError as error:  # closed between two lines of the caller's
        work.close()
        raise BrowserUnavailable("shutting_down", "The browser pool is closed.") from error


def _result_or_give_back(future: Future[Lease], timeout_s: float, core: ContextPool) -> Lease:
    try:
        return future.result(timeout_s)
    except BaseException as error:
        # The thread was interrupted, or the loop is stuck: whatever lease still comes
        # out of it must not be lost. The callback runs on the loop.
        if not future.cancel():
            future.add_done_callback(lambda done: _give_back(done, core))
        if isinstance(error, TimeoutError):
            raise BrowserUnavailable(
                "wait_timeout", "The browser pool's loop does not answer.", 60.0
            ) from error
        raise


def _give_back(done: Future[Lease], core: ContextPool) -> None:
    if not done.cancelled() and done.exception() is None:
        core.release(done.result())


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


def get_optimized_browser_context_async(
    profile: str = "desktop", proxy_config: ProxyLike = None
) -> AbstractAsyncContextManager[LeasedContext]:
    """The async twin, for coroutines given to `BrowserPool.run` or on the pool's loop."""
    return get_browser_pool().lease_async(profile, proxy_config)
