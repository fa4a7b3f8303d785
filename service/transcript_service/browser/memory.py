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
from typing import Any, Final

# Optional: without it (no wheel for a platform, a slim image) the pool must still serve.
# It then recycles by age and uses, and says once that memory is unknown.
try:
    import psutil
except ImportError:  # pragma: no cover - the tests set `psutil` to None instead
    psutil = None  # type: ignore[assignment]

# Above this share of the container's limit the kernel may kill any moment.
CGROUP_SHARE: Final = 0.9

_NO_LIMIT: Final = 1 << 60  # cgroup v1 writes a huge number for "no limit"


def known() -> bool:
    """Whether memory can be measured on this machine."""
    return psutil is not None


def process_tree(browser_pid: int) -> list[Any]:
    """The browser's processes: Playwright's driver (its parent, our child) and all below.

    Empty where the browser is gone or psutil is absent.
    """
    if psutil is None:
        return []
    try:
        root = psutil.Process(browser_pid)
        parent = root.parent()
        if parent is not None and parent.ppid() == os.getpid():
            root = parent
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def usage_bytes(browser_pid: int) -> int | None:
    """PSS of the browser's process tree in bytes; `None` where it cannot be known.

    Takes 50 to 80 ms for thirty processes: call it in a thread, every few seconds.
    """
    tree = process_tree(browser_pid)
    total = 0
    for process in tree:
        # Processes come and go while the tree is read.
        with suppress(psutil.Error, ProcessLookupError, FileNotFoundError, PermissionError):
            info = process.memory_full_info()
            total += int(getattr(info, "pss", info.rss))
    return total or None


def command_lines(pid: int | None = None) -> Iterator[list[str]]:
    """The command line of one process, or of all that may be looked at."""
    if psutil is None:
        return
    for number in psutil.pids() if pid is None else [pid]:
        with suppress(psutil.Error):
            yield psutil.Process(number).cmdline()


def kill_tree(tree: list[Any], timeout_s: float = 2.0) -> int:
    """Kill what is left of a process tree; returns how many were still alive.

    psutil compares start times, so a process that got an old pid is never hit.
    """
    if psutil is None:
        return 0
    _, left = psutil.wait_procs(tree, timeout=timeout_s)
    left = [process for process in left if alive(process)]
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=timeout_s)
    return len(left)


def alive(process: Any) -> bool:
    """Whether a process still runs. A zombie does not: it waits for its parent only."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def cgroup_pressure(root: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc/self")) -> bool:
    """Whether the container is near its memory limit, whoever uses it.

    Counts the working set (usage less file cache that can be dropped), as Kubernetes does.
    False where there is no limit.
    """
    for folder, current, limit, inactive in _cgroup_files(root, proc):
        most = _number(folder / limit)
        used = _number(folder / current)
        if most is None or used is None or most >= _NO_LIMIT:
            continue
        if used - _stat(folder / "memory.stat", inactive) > CGROUP_SHARE * most:
            return True
    return False


def _cgroup_files(root: Path, proc: Path) -> Iterator[tuple[Path, str, str, str]]:
    """The group of this process and those above it: the tightest limit counts."""
    try:
        lines = (proc / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            names = (root, "memory.current", "memory.max", "inactive_file")
        elif "memory" in controllers.split(","):
            names = (
                root / "memory",
                "memory.usage_in_bytes",
                "memory.limit_in_bytes",
                "total_inactive_file",
            )
        else:
            continue
        top, *files = names
        folder = top / path.lstrip("/")
        while True:
            yield folder, files[0], files[1], files[2]
            if folder in (top, folder.parent):
                break
            folder = folder.parent


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # "max" means no limit


def _stat(path: Path, name: str) -> int:
    with suppress(OSError):
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name and value.isdigit():
                return int(value)
    return 0
