"""Who fetches what at the moment, for all processes of this machine.

A byte of one file stands for each key, and whoever holds its lock fetches. The system takes
back the locks of a process that dies.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import threading
from pathlib import Path
from typing import Final

from ..private_files import make_file
from ..telemetry import get_logger

log = get_logger(__name__)

# `struct flock`: type, whence, start, length and (always 0 here) process.
_FLOCK: Final = "hhqqi"


class Claims:
    """Locks by key, in a file that is made when it is first needed. Make it after fork."""

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
        place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:7])
        # Of the open file and not of the process, which loses those of any other handle on it.
        fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, kind, 0, place, 1, 0))

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)
