"""Files and folders that only the service's own user may look into, whatever the umask is."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Final

_RETRY_S: Final = 0.05


def make_folder(path: Path) -> Path:
    """Create a folder where there is none; one that exists keeps its mode."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def make_file(path: Path) -> Path:
    """Create an empty file where there is none, and close it to others where there is one.

    For what a library opens by name. SQLite gives the files beside its own the same mode.
    """
    make_folder(path.parent)
    path.touch(mode=0o600, exist_ok=True)
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return path


def open_shared(path: Path, busy_s: float) -> sqlite3.Connection:
    """A connection in autocommit mode with write-ahead logging: readers never wait.

    A crash of the process loses nothing, a power cut at most the last moments.

    Args:
        path: the file; made where there is none.
        busy_s: how long to wait for other processes, in seconds; here and at each write.

    Raises:
        OSError: the file cannot be made.
        sqlite3.Error: still locked after that time, or any other failure.
    """
    connection = sqlite3.connect(
        make_file(path), timeout=busy_s, isolation_level=None, check_same_thread=False
    )
    try:
        _use_wal(connection, busy_s)
        connection.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _use_wal(connection: sqlite3.Connection, busy_s: float) -> None:
    # SQLite's busy timeout does not cover this switch: processes that open a new file together
    # get "database is locked" at once.
    end = time.monotonic() + busy_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= end:
                raise
        time.sleep(_RETRY_S)
