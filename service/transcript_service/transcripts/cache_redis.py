"""The transcript cache of several machines: Redis and this machine's own file."""

from __future__ import annotations

import struct
import zlib
from typing import Final

import redis

from ..resilience.shared_redis import Shared
from .cache_file import CacheFile, Kept

_STORED_AT: Final = struct.Struct(">d")


class RedisCache:
    """As `CacheFile`, for all machines that share a Redis. No method raises.

    A transcript is kept in both. While Redis is away each machine goes on with what it has
    itself. In Redis an entry goes when its time is over; there it has no other bound, so give
    Redis a `maxmemory` and the policy `volatile-lru`.

    Args:
        client: Redis.
        file: of this machine.
    """

    def __init__(self, client: redis.Redis, file: CacheFile) -> None:
        self._shared = Shared(client, "transcript")
        self._file = file

    def read(self, key: str, now: float, patience_s: float) -> Kept | None:
        """The later of the two values of a key, however old; `None` if neither can be read."""
        name = self._shared.key(key)
        packed = self._shared.ask(lambda client: client.get(name), None)
        theirs = _unpack(packed) if isinstance(packed, bytes) else None
        # Later where Redis was away, or full, when this machine stored it.
        own = self._file.read(key, now, patience_s)
        if theirs is None or own is None:
            return theirs or own
        return max(theirs, own, key=lambda kept: kept.stored_at)

    def write(
        self, key: str, value: bytes, now: float, forget_before: float, patience_s: float
    ) -> None:
        """Keep a value until what is stored now would be from before `forget_before`."""
        self._file.write(key, value, now, forget_before, patience_s)
        keep_s = int(now - forget_before)
        if keep_s < 1:
            return
        packed = _STORED_AT.pack(now) + zlib.compress(value, 1)
        self._shared.ask(lambda client: client.set(self._shared.key(key), packed, ex=keep_s), None)

    def close(self) -> None:
        """Close this machine's file; the next use opens it again."""
        self._file.close()


def _unpack(packed: bytes) -> Kept | None:
    """What an entry of Redis holds; `None` for one of another version."""
    try:
        (stored_at,) = _STORED_AT.unpack_from(packed)
        return Kept(zlib.decompress(packed[_STORED_AT.size :]), stored_at)
    except (struct.error, zlib.error):
        return None
