"""One deadline for a whole job, handed down through every stage, wait and socket.

A timeout per call says nothing about the sum; a deadline is a point in time that all
calls share, so whatever hangs, the job is over when it was promised to be. Work that does
not look at it in time is left behind by whoever waits, and what it hangs on is ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class DeadlineExceeded(Exception):
    """The job's time is used up. Not a `TimeoutError`: nothing in particular was slow."""


class Deadline:
    """A point in time that no work may pass.

    Args:
        seconds: how long from now; 0 or less is a deadline that has passed.
        clock: monotonic seconds; tests pass their own.
    """

    __slots__ = ("_clock", "_end", "_hanging", "_lock")

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds
        self._lock = threading.Lock()
        self._hanging: list[Callable[[], None]] | None = []

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end - self._clock())

    @property
    def expired(self) -> bool:
        """Whether no time is left."""
        return self.remaining() <= 0

    def check(self) -> None:
        """Do nothing while there is time.

        Raises:
            DeadlineExceeded: there is none left.
        """
        if self.expired:
            raise DeadlineExceeded("the job's time is used up")

    def timeout(self, limit_s: float) -> float:
        """The timeout in seconds for one call: `limit_s` or what is left, whichever is less.

        Raises:
            DeadlineExceeded: nothing is left. A timeout of 0 would mean "do not block"
                to a socket and "for ever" to some libraries, so it is never returned.
        """
        self.check()
        return min(limit_s, self.remaining())

    @contextmanager
    def ending(self, end: Callable[[], None]) -> Iterator[None]:
        """Have `end` called if the work is left behind while the block runs.

        It is called once, in another thread, and makes the block end: by closing a
        connection or a process that it waits for.
        """
        with self._lock:
            left_behind = self._hanging is None
            if self._hanging is not None:
                self._hanging.append(end)
        if left_behind:
            end()
        try:
            yield
        finally:
            with self._lock:
                if self._hanging is not None and end in self._hanging:
                    self._hanging.remove(end)

    def leave_behind(self) -> None:
        """Nobody waits for the work under this deadline any more: end what it hangs on."""
        with self._lock:
            hanging, self._hanging = self._hanging or [], None
        for end in hanging:
            end()
