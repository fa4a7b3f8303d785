"""Playwright's sync names over its async objects, usable from any thread.

Playwright's own sync API binds its objects to the thread that made them. Here the objects
live on the pool's loop; a call made through this view is carried out there while the
calling thread waits, at most until the lease's deadline.

Handlers (`on`, `route`, `expose_function`) run in a thread of their own, so they may use
the view too; what one raises is raised by the lease's next call. Predicates
(`expect_response(lambda response: ...)`) run on the loop and have to answer at once: they can
read properties, not make calls.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from functools import partial, wraps
from typing import Any, Final

from .errors import LeaseLost
from .lease import Lease, LeasedContext, LeasedPage

# Methods whose function argument is a handler; of all others it is a predicate.
_ROUTE_METHODS: Final = frozenset({"route", "unroute"})
_HANDLER_METHODS: Final = _ROUTE_METHODS | {
    *("on", "once", "remove_listener", "add_locator_handler")
}
# Those whose result and error are for the page.
_EXPOSING: Final = frozenset({"expose_function", "expose_binding"})
# A lease past its deadline is closed by the pool; this is only for a loop that is stuck.
_SLACK_S: Final = 2.0

Explaining = Callable[[Lease], AbstractAsyncContextManager[None]]


class Bridge:
    """Carries calls of one lease from threads to the loop and handlers back to threads.

    `explaining` is put around each call and says what its errors mean for the lease.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, lease: Lease, explaining: Explaining
    ) -> None:
        self._loop = loop
        self.lease = lease
        self._explaining = explaining
        self._adapted: dict[Callable[..., Any], Callable[..., Any]] = {}
        self._raised: Exception | None = None

    def call(self, function: Callable[[], Any]) -> Any:
        """The result as a sync view; otherwise as `result_of`."""
        return self.show(self.result_of(function))

    def result_of(self, function: Callable[[], Any]) -> Any:
        """Run on the loop and wait for the result.

        Raises:
            LeaseLost: the deadline passed before there was a result.
            RuntimeError: called on the loop itself, as from a predicate.
            Exception: what a handler raised since the last call, once.
        """
        if _running_loop() is self._loop:
            raise RuntimeError("predicates run on the browser's loop and can only read properties")
        self.lease.check()  # now, because a loop that has ended answers nothing
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised

        async def on_loop() -> Any:
            self.lease.check()  # once more: the block may have ended meanwhile
            async with self._explaining(self.lease):
                result = function()
                return await result if inspect.isawaitable(result) else result

        future = asyncio.run_coroutine_threadsafe(on_loop(), self._loop)
        try:
            return future.result(self.lease.remaining_s + _SLACK_S)
        except TimeoutError:
            if future.done():  # Playwright's own TimeoutError, or the call's
                raise
            future.cancel()
            raise LeaseLost("expired") from None
        except CancelledError:  # the pool was closed
            raise LeaseLost("shutdown") from None

    def show(self, value: Any) -> Any:
        """A value for the caller: Playwright's objects as views, everything else as it is."""
        if _is_playwright(value):
            return SyncView(value, self)
        if isinstance(value, list | tuple):
            return type(value)(map(self.show, value))
        if hasattr(value, "__aenter__"):
            return self._expecting(value)
        return value

    @contextmanager
    def _expecting(self, manager: Any) -> Iterator[Any]:
        """`with page.expect_response(...) as info: ...`; afterwards `info.value`."""
        info = SyncView(self.call(manager.__aenter__), self)
        try:
            yield info
        except BaseException as error:
            self.call(partial(manager.__aexit__, type(error), error, error.__traceback__))
            raise
        self.call(partial(manager.__aexit__, None, None, None))

    def arguments(
        self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Arguments for the async method: views unwrapped, functions adapted."""

        def take(place: int | str, value: Any) -> Any:
            if isinstance(value, SyncView):
                return value._target
            if not callable(value):
                return value
            # The first argument of `route` says what to match.
            matches = method in _ROUTE_METHODS and place in (0, "url")
            if method in _EXPOSING:
                return self._in_thread(value)
            is_handler = method in _HANDLER_METHODS and not matches
            return self._handler(value) if is_handler else self._predicate(value)

        return [take(*item) for item in enumerate(args)], {k: take(k, v) for k, v in kwargs.items()}

    def _handler(self, function: Callable[..., Any]) -> Callable[..., Any]:
        in_thread = self._in_thread(function)

        @wraps(in_thread)
        async def kept(*args: Any) -> None:
            # Playwright would raise it in the next call on the browser, whoever makes that.
            try:
                await in_thread(*args)
            except Exception as error:
                self._raised = error
                # And said, because there may be no next call.
                said = {"message": "a handler of a lease failed", "exception": error}
                self._loop.call_exception_handler(said)

        # The same one again, because `remove_listener` and `unroute` compare functions.
        return self._adapted.setdefault(function, kept)

    def _in_thread(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def in_thread(*args: Any) -> Any:
            shown = map(self.show, args)
            return await self._loop.run_in_executor(None, lambda: function(*shown))

        # Playwright passes as many arguments as a handler has parameters.
        with suppress(TypeError, ValueError):
            in_thread.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
        return in_thread

    def _predicate(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return self._adapted.setdefault(function, lambda *args: function(*map(self.show, args)))


class SyncView:
    """Stands for one async object; its methods wait for their results."""

    def __init__(self, target: Any, bridge: Bridge) -> None:
        self._target = target
        self._bridge = bridge

    def __getattr__(self, name: str) -> Any:
        self._bridge.lease.check()
        value = getattr(self._target, name)
        if inspect.isawaitable(value):
            return self._bridge.call(lambda: value)
        if not callable(value) or _is_playwright(value):
            return self._bridge.show(value)

        def method(*args: Any, **kwargs: Any) -> Any:
            positional, named = self._bridge.arguments(name, args, kwargs)
            return self._bridge.call(lambda: value(*positional, **named))

        method.__name__ = name
        method.__doc__ = value.__doc__
        return method

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SyncView) and bool(self._target == other._target)

    def __hash__(self) -> int:
        return hash(self._target)

    def __repr__(self) -> str:
        return f"<sync view of {self._target!r}>"

    def __enter__(self) -> SyncView:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop this thread is running right now, if any."""
    with suppress(RuntimeError):
        return asyncio.get_running_loop()
    return None


def _is_playwright(value: Any) -> bool:
    return isinstance(value, LeasedContext | LeasedPage) or type(value).__module__.startswith(
        "playwright.async_api"
    )
