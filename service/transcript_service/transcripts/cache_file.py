"""The SQLite file under the transcript cache: one table, bounded, and never a reason to fail.

A cache may lose things, so every error here ends as "not found" or "not kept" and one log
line. A file that SQLite calls corrupt is renamed, for somebody to look at, and a new one
is begun; several processes may find out at the same time.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from ..private_files import make_file, open_shared
from ..telemetry import get_logger

log = get_logger(__name__)

T = TypeVar("T")

_SCHEMA_VERSION: Final = 2
# The value comes last: what stands after a large blob cannot be read without reading it.
_SCHEMA: Final = f"""
DROP TABLE IF EXISTS entries;
CREATE TABLE entries (
    key TEXT PRIMARY KEY, stored_at REAL NOT NULL, used_at REAL NOT NULL,
    size INTEGER NOT NULL, crc INTEGER NOT NULL, value BLOB NOT NULL
);
CREATE INDEX entries_by_use ON entries (used_at, size);
CREATE INDEX entries_by_age ON entries (stored_at);
PRAGMA user_version = {_SCHEMA_VERSION};
"""
_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# Reading is frequent and an exact time of use is not needed to find the least used.
_USE_GRAIN_S: Final = 60.0
# Evict a little more than needed, or a full cache evicts at every write.
_EVICT_TO: Final = 0.9


class Kept(NamedTuple):
    """A value and when it was stored (seconds since the epoch)."""

    value: bytes
    stored_at: float


class CacheFile:
    """Values by key. Thread-safe; make it after fork. No method raises.

    A file may be locked by somebody for any time. `patience_s`, in seconds, is how long a
    method waits for that before it does without.

    Args:
        path: the SQLite file; its folder is made.
        max_bytes: most bytes of values; the least recently used go first.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    def read(self, key: str, now: float, patience_s: float) -> Kept | None:
        """The value of a key, however old; `None` if there is none or it is damaged."""

        def select(connection: sqlite3.Connection) -> Kept | None:
            row = connection.execute(
                "SELECT value, stored_at, used_at, crc FROM entries WHERE key = ?", (key,)
            ).fetchone()
            if row is None:
                return None
            value, stored_at, used_at, crc = row
            if zlib.crc32(value) != crc:  # SQLite has no checksums of its own
                log.error("transcript.cache.failed", operation="read", error_type="checksum")
                connection.execute("DELETE FROM entries WHERE key = ?", (key,))
                return None
            if now - used_at > _USE_GRAIN_S:
                connection.execute("PRAGMA busy_timeout = 0")
                with suppress(sqlite3.OperationalError):  # somebody writes: it is not that urgent
                    connection.execute("UPDATE entries SET used_at = ? WHERE key = ?", (now, key))
            return Kept(value, stored_at)

        return self._run("read", select, patience_s)

    def write(
        self, key: str, value: bytes, now: float, forget_before: float, patience_s: float
    ) -> None:
        """Keep a value; entries stored before `forget_before` and beyond the size go."""
        if len(value) > self._max_bytes:
            return

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DELETE FROM entries WHERE stored_at < ?", (forget_before,))
            connection.execute(
                "INSERT OR REPLACE INTO entries (key, stored_at, used_at, size, crc, value)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (key, now, now, len(value), zlib.crc32(value), value),
            )
            (total,) = connection.execute("SELECT SUM(size) FROM entries").fetchone()
            if total > self._max_bytes:
                connection.execute(
                    "DELETE FROM entries WHERE rowid IN (SELECT rowid FROM (SELECT rowid,"
                    " SUM(size) OVER (ORDER BY used_at DESC, rowid DESC) AS newer_and_this"
                    " FROM entries) WHERE newer_and_this > ?)",
                    (max(len(value), int(self._max_bytes * _EVICT_TO)),),
                )
            connection.execute("COMMIT")

        self._run("write", insert, patience_s)

    def _run(
        self, operation: str, work: Callable[[sqlite3.Connection], T], patience_s: float
    ) -> T | None:
        end = time.monotonic() + patience_s
        if not self._lock.acquire(timeout=patience_s):  # another thread waits for the file
            log.warning("transcript.cache.failed", operation=operation, error_type="lock_timeout")
            return None
        try:
            for last_try in (False, True):
                try:
                    left_s = max(0.0, end - time.monotonic())
                    connection = self._open(left_s)
                    connection.execute(f"PRAGMA busy_timeout = {left_s * 1000:.0f}")
                    return work(connection)
                except (sqlite3.Error, OSError) as error:
                    self._roll_back()
                    name = getattr(error, "sqlite_errorname", type(error).__name__)
                    log.warning("transcript.cache.failed", operation=operation, error_type=name)
                    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                    if code not in _CORRUPT or last_try or not self._set_aside():
                        return None
        finally:
            self._lock.release()
        return None

    def _open(self, patience_s: float) -> sqlite3.Connection:
        if self._connection is not None and self._current_inode() == self._inode:
            return self._connection
        self._close()  # another process has set the file aside, or somebody removed it
        make_file(self.path)
        # Taken first: a file that is replaced in this moment is noticed at the next use.
        self._inode = self._current_inode()
        connection = open_shared(self.path, patience_s)
        try:
            self._prepare(connection)
        except sqlite3.Error:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Make the tables if this file has none of this version."""
        # Asked inside the transaction: of two processes that start together, the second
        # must not drop what the first has just made and filled.
        connection.execute("BEGIN IMMEDIATE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != _SCHEMA_VERSION:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
        connection.execute("COMMIT")

    def _current_inode(self) -> int:
        try:
            return self.path.stat().st_ino
        except OSError:
            return -1

    def _roll_back(self) -> None:
        if self._connection is not None and self._connection.in_transaction:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def _set_aside(self) -> bool:
        """Rename the file and what belongs to it; whether a new one can be begun."""
        replaced = self._connection is not None and self._current_inode() != self._inode
        self._close()
        if replaced:
            return True
        aside = self.path.with_name(f"{self.path.name}.corrupt")  # the last one is kept
        try:
            self.path.replace(aside)
            for suffix in ("-wal", "-shm"):
                with suppress(FileNotFoundError):
                    Path(f"{self.path}{suffix}").replace(f"{aside}{suffix}")
        except OSError as error:
            log.warning(
                "transcript.cache.failed", operation="rename", error_type=type(error).__name__
            )
            return False
        log.error("transcript.cache.set_aside", file=aside.name)
        return True

    def _close(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
