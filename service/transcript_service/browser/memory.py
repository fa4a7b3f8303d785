"""How much memory a browser takes, and how much it may.

PSS (proportional set size) divides a shared page among those who share it. Summing RSS
over Chromium's processes counts the shared code once per process: 5,000 MB where the
machine gave 1,219 MB, for ten contexts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

# Above this share of the container's limit the kernel may kill any moment.
CGROUP_SHARE: Final = 0.9

_NO_LIMIT: Final = 1 << 60  # cgroup v1 writes a huge number for "no limit"
# Names of usage, limit and droppable file cache in versions 1 and 2.
_V1: Final = ("memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file")
_V2: Final = ("memory.current", "memory.max", "inactive_file")


def process_tree(browser_pid: int) -> list[psutil.Process]:
    """The browser's processes: Playwright's driver (its parent, our child) and all below.

    Empty where the browser is gone.
    """
    try:
        root = psutil.Process(browser_pid)
        parent = root.parent()
        if parent is not None and parent.ppid() == os.getpid():
            root = parent
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def usage_bytes(browser_pid: int) -> int | None:
    """PSS of the browser's process tree in bytes; `None` where it is gone.

    Takes 50 to 80 ms for thirty processes: call it in a thread, every few seconds.
    """
    total = 0
    for process in process_tree(browser_pid):
        # Processes come and go while the tree is read.
        with suppress(psutil.Error, ProcessLookupError, FileNotFoundError, PermissionError):
            info = process.memory_full_info()
            total += int(getattr(info, "pss", info.rss))
    return total or None


def kill_tree(tree: list[psutil.Process]) -> None:
    """Kill what is left of a process tree, and wait for it to be gone, two seconds at most.

    psutil compares start times, so a process that got an old pid is never hit.
    """
    for process in tree:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(tree, timeout=2.0)


def cgroup_pressure(root: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc/self")) -> bool:
    """Whether the container is near its memory limit, whoever uses it.

    Counts the working set (usage less file cache that can be dropped), as Kubernetes does.
    False where there is no limit.
    """
    for folder, (current, limit, inactive) in _cgroups(root, proc):
        with suppress(OSError, ValueError):  # "max" means no limit
            most = int((folder / limit).read_text())
            used = int((folder / current).read_text())
            statistics = (folder / "memory.stat").read_text().splitlines()
            cache = int(dict(line.split(" ", 1) for line in statistics).get(inactive, 0))
            if most < _NO_LIMIT and used - cache > CGROUP_SHARE * most:
                return True
    return False


def _cgroups(root: Path, proc: Path) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """The group of this process and those above it: the tightest limit counts."""
    try:
        lines = (proc / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, names = (root / "memory", _V1) if controllers else (root, _V2)
        folder = top / path.lstrip("/")
        for group in (folder, *folder.parents):
            yield group, names
            if group == top:
                break
