"""Processes that open a new SQLite file together do not get in each other's way."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from transcript_service.private_files import open_shared


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def test_opening_waits_for_another_process(tmp_path: Path) -> None:
    other = _connect(tmp_path / "new.sqlite")
    other.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(0.3, other.execute, ("COMMIT",))
    release.start()
    ours = open_shared(tmp_path / "new.sqlite", busy_s=30)
    release.join()
    assert ours.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_wait_is_bounded(tmp_path: Path) -> None:
    other = _connect(tmp_path / "new.sqlite")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        open_shared(tmp_path / "new.sqlite", busy_s=0.1)


def test_other_failures_are_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "text.sqlite").write_bytes(b"this is not a database at all" * 50)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        open_shared(tmp_path / "text.sqlite", busy_s=30)
