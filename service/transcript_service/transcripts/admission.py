"""How many transcripts a worker fetches at a time; the rest is told at once to come back.

Without a bound every request is accepted, each makes all the others slower, and at the end
most callers have gone before their answer comes. What the cache holds is served whatever the
number is.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from ..settings import Settings
from ..telemetry import instruments
from .model import TranscriptError

_RETRY_AFTER_S: Final = 5.0


class Places:
    """See the module. One per worker, shared by its threads.

    Those that may wait do so for a place, or for another's fetch.
    """

    def __init__(self, settings: Settings) -> None:
        self._inside = threading.BoundedSemaphore(
            settings.web_fetches + settings.web_fetches_waiting
        )
        self._fetches = threading.BoundedSemaphore(settings.web_fetches)
        self._wait_s = settings.web_fetch_wait_s

    def waiting(self) -> AbstractContextManager[None]:
        """Be one of those that are fetched for, or wait.

        Raises:
            TranscriptError: `overloaded`, at once.
        """
        return _held(self._inside, 0.0, "full")

    def fetching(self) -> AbstractContextManager[None]:
        """Be one of those that are fetched for.

        Raises:
            TranscriptError: `overloaded`, when no place became free in time.
        """
        return _held(self._fetches, self._wait_s, "waited")


@contextmanager
def _held(places: threading.Semaphore, wait_s: float, reason: str) -> Iterator[None]:
    if not places.acquire(timeout=wait_s):
        instruments.REQUESTS_REJECTED.add(1, reason=reason)
        raise TranscriptError(
            "overloaded", "Too many transcripts are being fetched.", retry_after_s=_RETRY_AFTER_S
        )
    try:
        yield
    finally:
        places.release()
