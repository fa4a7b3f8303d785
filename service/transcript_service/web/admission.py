"""How many transcripts a worker fetches at a time; the rest is told at once to come back.

Without a bound every request is accepted, each makes all the others slower, and at the end
most callers have gone before their answer comes. What the cache holds is served whatever the
number is.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ..settings import Settings
from ..telemetry import instruments
from ..transcripts.model import TranscriptError

_RETRY_AFTER_S: Final = 5.0


class Places:
    """See the module. One per worker, shared by its threads.

    Args:
        fetches: at a time.
        waiting: requests beyond those that may wait: for a place, or for another's fetch.
        wait_s: the longest wait for a place, in seconds.
    """

    def __init__(self, fetches: int, waiting: int, wait_s: float) -> None:
        self._inside = threading.BoundedSemaphore(fetches + waiting)
        self._fetches = threading.BoundedSemaphore(fetches)
        self._wait_s = wait_s

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Be one of those that are fetched for, or wait.

        Raises:
            TranscriptError: `overloaded`, at once.
        """
        if not self._inside.acquire(blocking=False):
            raise _overloaded("full")
        try:
            yield
        finally:
            self._inside.release()

    @contextmanager
    def fetching(self) -> Iterator[None]:
        """Be one of those that are fetched for.

        Raises:
            TranscriptError: `overloaded`, when no place became free in time.
        """
        if not self._fetches.acquire(timeout=self._wait_s):
            raise _overloaded("waited")
        try:
            yield
        finally:
            self._fetches.release()


def _overloaded(reason: str) -> TranscriptError:
    instruments.REQUESTS_REJECTED.add(1, reason=reason)
    return TranscriptError(
        "overloaded", "Too many transcripts are being fetched.", retry_after_s=_RETRY_AFTER_S
    )


def create_places(settings: Settings) -> Places:
    """The places of one worker."""
    return Places(settings.web_fetches, settings.web_fetches_waiting, settings.web_fetch_wait_s)
