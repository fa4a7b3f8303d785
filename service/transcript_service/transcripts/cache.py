"""Transcripts fetched before, so that YouTube is asked once.

One fetch per key runs at a time: other threads wait for its result, other processes for
its claim. An old transcript is better than an error, so an entry whose time is over
stands in while fetching fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

from redis import Redis

from ..resilience import Deadline, SingleFlight
from ..resilience.shared_redis import connect
from ..settings import Settings
from ..telemetry import get_logger
from ..telemetry.vocabulary import ANSWERS
from .cache_file import CacheFile
from .cache_redis import RedisCache
from .claims import Claims
from .model import Transcript, TranscriptError

log = get_logger(__name__)

# How often to look whether another process has finished; small beside any fetch.
_POLL_S: Final = 0.1
# Of the time that a job has left, it may wait this share for a locked file, each time, and
# at the very end this long: a cache must not cost more than it saves.
_PATIENCE: Final = 0.2
_LAST_PATIENCE_S: Final = 0.1
_MOST_PATIENCE_S: Final = 5.0


@dataclass(frozen=True)
class Entry:
    """A kept transcript and how old it is; `stale` when it may only stand in for an error."""

    transcript: Transcript
    age_s: float
    stale: bool


class TranscriptCache:
    """Transcripts by the key of what is wanted. Thread-safe.

    Args:
        file: where this machine keeps them.
        client: Redis, where all machines keep them.
        ttl_s: seconds a transcript is served without asking.
        stale_s: seconds beyond that for which it may stand in for an error.
        clock: seconds since the epoch (the file outlives the process).
        sleep: how to wait for another process; tests pass their own.
    """

    def __init__(
        self,
        file: CacheFile,
        *,
        ttl_s: float,
        stale_s: float,
        client: Redis | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._kept = file if client is None else RedisCache(client, file)
        self._ttl_s = ttl_s
        self._stale_s = stale_s
        self._clock = clock
        self._sleep = sleep
        self._claims = Claims(file.path.with_name(f"{file.path.name}-claims"))
        self._flights: SingleFlight[str, Transcript] = SingleFlight()

    def get(self, key: str, deadline: Deadline | None = None) -> Entry | None:
        """What is kept, fresh or stale; `None` when there is nothing or it is too old."""
        now = self._clock()
        kept = self._kept.read(key, now, _patience(deadline))
        if kept is None:
            return None
        age_s = max(0.0, now - kept.stored_at)
        if age_s >= self._ttl_s + self._stale_s:
            return None
        try:
            transcript = replace(Transcript.from_json(kept.value), cached=True)
        except ValueError:  # kept by another version
            return None
        return Entry(transcript, age_s, stale=age_s >= self._ttl_s)

    def put(self, key: str, transcript: Transcript, deadline: Deadline | None = None) -> None:
        """Keep a transcript from now on."""
        now = self._clock()
        oldest = now - self._ttl_s - self._stale_s
        self._kept.write(key, transcript.as_json(), now, oldest, _patience(deadline))

    def fetch(
        self,
        key: str,
        load: Callable[[], Transcript],
        deadline: Deadline,
        admit: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> Transcript:
        """The transcript of a key; `load` fetches it if need be, once for all who ask.

        It is `cached` unless this very call fetched it.

        Args:
            key: what to look up.
            load: fetches it; called without any lock.
            deadline: of this caller; it also ends waiting for another one's `load`.
            admit: entered by all whom the cache cannot serve, those included that wait for
                another's `load`; refuses by raising.

        Raises:
            DeadlineExceeded: another caller's `load` took too long.
            Exception: whatever `load` raised, here or in the caller that was waited for;
                of the latter, nothing that concerns that caller alone.
        """
        entry = self.get(key, deadline)
        if entry is not None and not entry.stale:
            return entry.transcript
        try:
            with admit():
                return self._fetch(key, load, deadline)
        except Exception as error:
            if entry is None or _is_answer(error):
                raise
            log.warning(
                "transcript.cache.stale_served",
                age_s=round(entry.age_s, 3),
                error_type=type(error).__name__,
            )
            return entry.transcript

    def _fetch(self, key: str, load: Callable[[], Transcript], deadline: Deadline) -> Transcript:
        def work() -> Transcript:
            return self._load_or_wait(key, load, deadline)

        transcript, led = self._flights.run(key, work, deadline, _concerns_first_alone)
        return transcript if led else replace(transcript, attempts=(), cached=True)

    def _load_or_wait(
        self, key: str, load: Callable[[], Transcript], deadline: Deadline
    ) -> Transcript:
        """Fetch, unless another process is at it: then take its result or its place."""
        while not self._claims.take(key):
            self._sleep(deadline.timeout(_POLL_S))
        try:
            entry = self.get(key, deadline)  # what the other process has just stored
            if entry is not None and not entry.stale:
                return entry.transcript
            transcript = load()
            self.put(key, transcript, deadline)
            return transcript
        finally:
            self._claims.give_up(key)


def _is_answer(error: Exception) -> bool:
    """Whether an error says something of the video, which an old transcript must not hide."""
    return isinstance(error, TranscriptError) and error.error_type in ANSWERS


def _concerns_first_alone(error: Exception) -> bool:
    """Whether a caller lacked something that others may have: time, or a place."""
    return isinstance(error, TranscriptError) and error.error_type in (
        "deadline_exceeded", "overloaded"
    )  # fmt: skip


def _patience(deadline: Deadline | None) -> float:
    if deadline is None:
        return _MOST_PATIENCE_S
    return min(_MOST_PATIENCE_S, max(_LAST_PATIENCE_S, _PATIENCE * deadline.remaining()))


@cache
def transcript_cache(settings: Settings) -> TranscriptCache:
    """The cache of this process, as the settings say. Call it after fork."""
    path = settings.transcript_cache_file or settings.state_dir / "transcripts.sqlite3"
    return TranscriptCache(
        CacheFile(path, settings.transcript_cache_max_mb * 1_000_000),
        ttl_s=settings.transcript_cache_ttl_s,
        stale_s=settings.transcript_cache_stale_s,
        client=connect(settings),
    )
