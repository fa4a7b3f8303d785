"""Transcripts fetched before, so that YouTube is asked once.

One fetch per key runs at a time: other threads wait for its result, other processes for
its claim. An old transcript is better than an error, so an entry whose time is over
stands in while fetching fails.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import threading
import time
import weakref
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

from redis import Redis

from ..private_files import make_file
from ..resilience import Deadline, SingleFlight
from ..resilience.shared_redis import Shared, connect
from ..settings import Settings
from ..telemetry import get_logger
from ..telemetry.vocabulary import ANSWERS, ErrorType
from .cache_file import CacheFile, Kept
from .model import Transcript, TranscriptError

log = get_logger(__name__)

# How often to look whether another process has finished; small beside any fetch.
_POLL_S: Final = 0.1
# Of the time that a job has left, it may wait this share for a locked file, each time, and
# at the very end this long: a cache must not cost more than it saves.
_PATIENCE: Final = 0.2
_LAST_PATIENCE_S: Final = 0.1
_MOST_PATIENCE_S: Final = 5.0
# What a caller lacked that others may have: time, or a place.
_OF_FIRST: Final[frozenset[ErrorType | None]] = frozenset({"deadline_exceeded", "overloaded"})
# `struct flock`: type, whence, start, length and (always 0 here) process.
_FLOCK: Final = "hhqqi"
# Before each value in Redis.
_STORED_AT: Final = struct.Struct(">d")


@dataclass(frozen=True)
class Entry:
    """A kept transcript and how old it is; `stale` when it may only stand in for an error."""

    transcript: Transcript
    age_s: float
    stale: bool


class Claims:
    """Who fetches what at the moment, for all processes of this machine. Make it after fork.

    A byte of one file, made when it is first needed, stands for each key, and whoever holds its
    lock fetches. The system takes back the locks of a process that dies.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opening = threading.Lock()
        self._file: int | None = None

    def take(self, key: str) -> bool:
        """Whether this process may fetch now and no other does.

        Where the file cannot be used everybody may.
        """
        try:
            self._lock(fcntl.F_WRLCK, key)
        except BlockingIOError:
            return False
        except OSError as error:
            log.warning(
                "transcript.cache.failed", operation="claim", error_type=type(error).__name__
            )
        return True

    def give_up(self, key: str) -> None:
        """Let others fetch."""
        if self._file is not None:
            self._lock(fcntl.F_UNLCK, key)

    def _lock(self, kind: int, key: str) -> None:
        with self._opening:
            if self._file is None:
                self._file = os.open(make_file(self._path), os.O_RDWR)
                weakref.finalize(self, os.close, self._file)
        place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:7])
        # Of the open file and not of the process, which loses those of any other handle on it.
        fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, kind, 0, place, 1, 0))


class TranscriptCache:
    """Transcripts by the key of what is wanted. Thread-safe.

    With a Redis a transcript is kept there too, for all machines; while it is away each goes on
    with what it has itself. There an entry goes when its time is over and there is no other
    bound, so give Redis a `maxmemory` and the policy `volatile-lru`.

    Args:
        file: where this machine keeps them.
        client: Redis.
        ttl_s: seconds a transcript is served without asking.
        stale_s: seconds beyond that for which it may stand in for an error.
        clock: seconds since the epoch (the file outlives the process).
    """

    def __init__(
        self,
        file: CacheFile,
        *,
        ttl_s: float,
        stale_s: float,
        client: Redis | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._file = file
        self._shared = Shared(client, "transcript")
        self._ttl_s = ttl_s
        self._stale_s = stale_s
        self._clock = clock
        self._claims = Claims(file.path.with_name(f"{file.path.name}-claims"))
        self._flights: SingleFlight[str, Transcript] = SingleFlight()

    def get(self, key: str, deadline: Deadline | None = None) -> Entry | None:
        """What is kept, fresh or stale; `None` when there is nothing or it is too old."""
        now = self._clock()
        name = self._shared.key(key)
        packed = self._shared.ask(lambda client: client.get(name), None)
        theirs = _unpack(packed) if isinstance(packed, bytes) else None
        # Later where Redis was away, or full, when this machine stored it.
        own = self._file.read(key, now, _patience(deadline))
        both = [kept for kept in (theirs, own) if kept]
        kept = max(both, key=lambda kept: kept.stored_at, default=None)
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
        value = transcript.as_json()
        keep_s = self._ttl_s + self._stale_s
        self._file.write(key, value, now, now - keep_s, _patience(deadline))
        if keep_s >= 1:
            name, packed = self._shared.key(key), _STORED_AT.pack(now) + zlib.compress(value, 1)
            self._shared.ask(lambda client: client.set(name, packed, ex=int(keep_s)), None)

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
                transcript, led = self._flights.run(
                    key,
                    lambda: self._load_or_wait(key, load, deadline),
                    deadline,
                    lambda error: _type_of(error) in _OF_FIRST,
                )
            return transcript if led else replace(transcript, attempts=(), cached=True)
        except Exception as error:
            # An old transcript must not hide what an error says of the video.
            if entry is None or _type_of(error) in ANSWERS:
                raise
            log.warning(
                "transcript.cache.stale_served",
                age_s=round(entry.age_s, 3),
                error_type=type(error).__name__,
            )
            return entry.transcript

    def _load_or_wait(
        self, key: str, load: Callable[[], Transcript], deadline: Deadline
    ) -> Transcript:
        """Fetch, unless another process is at it: then take its result or its place."""
        while not self._claims.take(key):
            time.sleep(deadline.timeout(_POLL_S))
        try:
            entry = self.get(key, deadline)  # what the other process has just stored
            if entry is not None and not entry.stale:
                return entry.transcript
            transcript = load()
            self.put(key, transcript, deadline)
            return transcript
        finally:
            self._claims.give_up(key)


def _unpack(packed: bytes) -> Kept | None:
    """What an entry of Redis holds; `None` for one of another version."""
    try:
        (stored_at,) = _STORED_AT.unpack_from(packed)
        return Kept(zlib.decompress(packed[_STORED_AT.size :]), stored_at)
    except (struct.error, zlib.error):
        return None


def _type_of(error: Exception) -> ErrorType | None:
    return error.error_type if isinstance(error, TranscriptError) else None


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
