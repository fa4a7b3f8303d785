"""One piece of work per key at a time: who asks meanwhile waits and shares the result.

The name is that of Go's `golang.org/x/sync/singleflight`. What is added here is that every
caller has a deadline of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, NamedTuple, TypeVar

from .deadline import Deadline, DeadlineExceeded

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Flown(NamedTuple, Generic[T]):
    """A result, and whether it was this caller that did the work."""

    value: T
    led: bool


class SingleFlight(Generic[K, T]):
    """Runs work once for all threads that ask for the same key while it is under way.

    Nothing is remembered: the next call after the work has ended runs it again, so a cache
    that stands in front looks once more inside `work`. No lock is held while it runs.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[K, Future[T]] = {}

    def run(
        self,
        key: K,
        work: Callable[[], T],
        deadline: Deadline | None = None,
        concerns_first_alone: Callable[[Exception], bool] = lambda _: False,
    ) -> Flown[T]:
        """The result of `work`, run here or by the caller that was first.

        Args:
            key: what makes two calls the same one.
            work: does it; must not call `run` with the same key.
            deadline: of this caller; it ends waiting for another one, not `work`.
            concerns_first_alone: errors that say something about the caller that met them,
                such as that its time was over, and nothing about the work.

        Raises:
            DeadlineExceeded: another caller's work took too long.
            Exception: whatever `work` raised, for all who waited. A `DeadlineExceeded`,
                what `concerns_first_alone` names and what is no `Exception` (a thread
                being stopped) are the first caller's: of the others, one takes its place.
        """
        while True:
            with self._lock:
                flight = self._flights.get(key)
                mine = flight is None
                if flight is None:
                    flight = self._flights[key] = Future()
            if mine:
                return Flown(self._lead(key, flight, work), led=True)
            try:
                error = flight.exception(None if deadline is None else deadline.remaining())
            except TimeoutError:
                raise DeadlineExceeded("another caller's work on the same took too long") from None
            if error is None:
                return Flown(flight.result(), led=False)
            if isinstance(error, Exception) and not (
                isinstance(error, DeadlineExceeded) or concerns_first_alone(error)
            ):
                raise error
            if deadline is not None:
                deadline.check()

    def _lead(self, key: K, flight: Future[T], work: Callable[[], T]) -> T:
        try:
            value = work()
            flight.set_result(value)
            return value
        except BaseException as error:
            flight.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._flights[key]
