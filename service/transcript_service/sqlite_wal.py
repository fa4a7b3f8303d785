"""Write-ahead logging for the SQLite files that worker processes share."""

from __future__ import annotations

import sqlite3
import time
from typing import Final

_RETRY_S: Final = 0.05


def use_wal(connection: sqlite3.Connection, busy_s: float) -> None:
    """Switch a file to write-ahead logging, in which readers never wait; it stays so.

    SQLite's own busy timeout does not cover this switch: processes that open a new file
    together get "database is locked" at once, so we wait here.

    Args:
        connection: in autocommit mode.
        busy_s: how long to wait for other processes, in seconds.

    Raises:
        sqlite3.OperationalError: still locked after that time, or any other failure.
    """
    end = time.monotonic() + busy_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= end:
                raise
        time.sleep(_RETRY_S)
