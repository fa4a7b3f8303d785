"""The profile folders of browsers that were killed."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import Final

import psutil

from .launch import BROWSER_UID

# What Playwright calls the folders; and how long after making one the browser has started.
_PROFILES: Final = "playwright_chromiumdev_profile-*"
_STARTS_S: Final = 10.0


def profile_of(browser_pid: int) -> Path | None:
    """The folder that a browser keeps its profile in, where that can be known."""
    prefix = "--user-data-dir="
    try:
        command = psutil.Process(browser_pid).cmdline()
    except psutil.Error:
        return None
    found = next((word for word in command if word.startswith(prefix)), None)
    folder = Path(found.removeprefix(prefix)) if found else None
    return folder if folder and folder.match(_PROFILES) else None


def sweep_profiles(folder: Path | None = None) -> int:
    """Remove the profiles of browsers that were killed; returns how many.

    A killed worker takes its driver along, which would have removed them. A folder is left
    alone while a process names it, and for a moment before that.
    """
    folder = folder or Path(tempfile.gettempdir())
    found = {path for path in folder.glob(_PROFILES) if _is_left(path)}
    found -= set(map(profile_of, psutil.pids()))
    for path in found:
        shutil.rmtree(path, ignore_errors=True)
    return len(found)


def _is_left(profile: Path) -> bool:
    try:
        status = profile.lstat()
    except OSError:
        return False
    ours = status.st_uid in (os.geteuid(), BROWSER_UID)
    return ours and stat.S_ISDIR(status.st_mode) and time.time() - status.st_mtime > _STARTS_S
