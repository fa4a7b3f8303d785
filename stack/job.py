"""A child process of the launcher whose output is watched while it runs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

# The engines that already run must stay responsive while others compile.
_NICENESS = 10
_STOP_TIMEOUT_S = 10.0


class Job:
    """Runs `command`, keeps the last lines of its output, writes all of it to `log`."""

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        self.last_line = ""
        self.tail: deque[str] = deque(maxlen=200)
        self._process = subprocess.Popen(
            command,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # A group of its own: Ctrl-C reaches the launcher, which then ends the whole group.
            start_new_session=True,
        )
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PGRP, self._process.pid, _NICENESS)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - PIPE was asked for
        out = None
        with contextlib.suppress(OSError):  # a full disk; the lines are kept for the report
            out = self.log.open("w", encoding="utf-8")
        for line in self._process.stdout:
            self.last_line = line.strip() or self.last_line
            self.tail.append(line.rstrip("\n"))
            if out:
                try:
                    out.write(line)
                    out.flush()
                except OSError:
                    out = None
        if out:
            with contextlib.suppress(OSError):
                out.close()

    def poll(self) -> int | None:
        """The exit code, or None while the process runs."""
        code = self._process.poll()
        if code is not None:
            self._reader.join(timeout=5)
        return code

    def stop(self) -> None:
        """Ends the whole process group; returns when it is gone. Safe to call at any time."""
        for signum in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signum)
            try:
                self._process.wait(timeout=_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                continue
        self._reader.join(timeout=5)
