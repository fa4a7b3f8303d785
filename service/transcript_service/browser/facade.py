"""The pool as the rest of the service sees it: from any thread, started on first use."""

from __future__ import annotations

import asyncio
import atexit
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
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast

from opentelemetry.trace import Span

from ..proxies import Proxy
from ..settings import Settings, get_settings
from ..telemetry import set_attributes, span
from .context import State
from .errors import BrowserUnavailable, LeaseLost
from .identity import Cookie, Identity
from .launch import LaunchOptions
from .lease import Lease, LeasedContext
from .pool import ContextPool
from .process import ChromiumProcess
from .sync_view import Bridge, SyncView, running_loop
from .timing import Timing

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext as SyncBrowserContext

T = TypeVar("T")
ProxyLike = Proxy | Mapping[str, Any] | None

# For a loop that does not answer at all; every wait on the loop has its own bound.
_LOOP_SLACK_S: Final = 5.0
# Threads for `on` and `route` handlers of sync leaseholders, and for measuring.
_THREADS: Final = 8


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
        launch: LaunchOptions | None = None,
        timing: Timing | None = None,
    ) -> None:
        self.settings = settings or get_settings()
        self._launch = launch or LaunchOptions.of(self.settings)
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
        identity = self._identity(profile, proxy, cookies)
        loop, _, core = self._started()
        wait_s = self.settings.browser_acquire_timeout_s if timeout_s is None else timeout_s
        with _lease_span(identity) as opened:
            leased: Future[Lease] = Future()
            holding = _submit(_hold(core, identity, wait_s, deadline_s, leased), loop)
            try:
                if not wait([leased], wait_s + _LOOP_SLACK_S).done:
                    text = "The browser pool's loop does not answer."
                    raise BrowserUnavailable("wait_timeout", text, 60.0)
                lease = leased.result()
                with _block(opened, lease):
                    view = SyncView(lease.context, Bridge(loop, lease, core.explaining))
                    yield cast("SyncBrowserContext", view)
            finally:
                holding.cancel()  # wherever this thread was stopped, the lease goes back

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
        loop, _, core = self._started()
        if running_loop() is not loop:
            raise RuntimeError("lease_async works on the pool's own loop: use BrowserPool.run")
        with _lease_span(identity) as opened:
            lease = await core.acquire(identity, wait_s=timeout_s, hold_s=deadline_s)
            try:
                with _block(opened, lease):
                    async with core.explaining(lease):
                        yield lease.context
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

        async def leased() -> T:
            wait_s = min(self.settings.browser_acquire_timeout_s, timeout_s)
            lease = self.lease_async(
                profile, proxy, cookies, timeout_s=wait_s, deadline_s=timeout_s
            )
            async with asyncio.timeout(timeout_s), lease as context:
                return await work(context)

        future = _submit(leased(), self._started().loop)
        try:
            # The second bound is for work that swallows its cancellation.
            return future.result(timeout_s + 1.0)
        except TimeoutError:
            future.cancel()
            raise
        except CancelledError:  # the pool was closed
            raise LeaseLost("shutdown") from None
        except LeaseLost as error:
            if error.reason == "expired":
                raise TimeoutError from error
            raise

    # Life

    def stats(self) -> PoolStats:
        """Numbers for health checks and tests; cheap, from any thread."""
        if self._running is None:
            return PoolStats(limit=self.settings.browser_max_contexts)
        core = self._running.core
        report, stock = core.report, core.stock
        process, problem = stock.process, stock.launches.problem
        return PoolStats(
            limit=self.settings.browser_max_contexts,
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
            again, self._closed = self._closed, True
        if again or self._running is None:
            return
        atexit.unregister(self.close)
        loop, thread, core = self._running
        with suppress(TimeoutError):
            _submit(_end(core, grace_s), loop).result(grace_s + 4 * self._timing.operation_s)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_LOOP_SLACK_S)

    def _identity(
        self, profile: str, proxy: ProxyLike, cookies: Sequence[Cookie] | None
    ) -> Identity:
        # Chromium cannot be given one more CA from the command line. Where the operator names
        # one, YouTube's hosts lead to it and no others exist.
        lenient = self.settings.youtube_ca_file is not None
        return Identity.of(profile, proxy, cookies, ignore_https_errors=lenient)

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
                    self.settings, lambda: ChromiumProcess.launch(self._launch), self._timing
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


def _lease_span(identity: Identity) -> AbstractContextManager[Span]:
    return span("browser.lease", profile=identity.profile, proxy_used=identity.proxy is not None)


@contextmanager
def _block(opened: Span, lease: Lease) -> Iterator[None]:
    """What a lease's span says, and the end of what may be done with the context."""
    set_attributes(
        opened,
        reused=lease.reused,
        uses=lease.entry.uses,
        wait_s=round(lease.wait_s, 4),
        context_key=lease.entry.key,
    )
    try:
        yield
    finally:
        lease.ended = True
        set_attributes(opened, retired=lease.entry.retire)


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


def get_optimized_browser_context_async(
    profile: str = "desktop", proxy_config: ProxyLike = None
) -> AbstractAsyncContextManager[LeasedContext]:
    """The async twin, for coroutines given to `BrowserPool.run` or on the pool's loop."""
    return get_browser_pool().lease_async(profile, proxy_config)
