"""The SQLite files that worker processes share."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Final

_RETRY_S: Final = 0.05


def open_shared(path: Path, busy_s: float) -> sqlite3.Connection:
    """A connection in autocommit mode with write-ahead logging: readers never wait.

    A crash of the process loses nothing, a power cut at most the last moments.

    Args:
        path: the file; made where there is none.
        busy_s: how long to wait for other processes, in seconds; here and at each write.

    Raises:
        sqlite3.Error: still locked after that time, or any other failure.
    """
    connection = sqlite3.connect(
        path, timeout=busy_s, isolation_level=None, check_same_thread=False
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
