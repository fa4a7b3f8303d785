"""Files and folders that only the service's own user may look into, whatever the umask is."""

from __future__ import annotations

from pathlib import Path


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
