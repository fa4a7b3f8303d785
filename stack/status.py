"""`status`: what runs, whether it serves, and what it uses."""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from stack.layout import Layout
from stack.ports import process_ids
from stack.programs import PROGRAMS
from stack.supervise import ProcessInfo, Supervisor


@dataclass(frozen=True)
class Row:
    """One program; `memory_bytes` is the resident memory of it and all its descendants."""

    name: str
    state: str
    not_ready: str | None
    pid: int
    uptime_s: int
    memory_bytes: int
    port: int | None


def status(layout: Layout) -> list[Row]:
    """The programs that the supervisor of this stack has; empty when the stack is down."""
    supervisor = Supervisor(layout)
    if supervisor.pid() is None:
        return []
    known = supervisor.processes()
    names = [name for name in PROGRAMS if name in known]
    memory = _Memory()
    with ThreadPoolExecutor(max_workers=8) as pool:
        answers = list(pool.map(lambda name: _why_not(layout, known[name]), names))
    return [
        Row(
            name=name,
            state=known[name].state.lower(),
            not_ready=why_not,
            pid=known[name].pid,
            uptime_s=known[name].now - known[name].started if known[name].pid else 0,
            memory_bytes=memory(known[name].pid),
            port=next(map(layout.port, PROGRAMS[name].ports), None),
        )
        for name, why_not in zip(names, answers, strict=True)
    ]


def table(rows: list[Row]) -> str:
    """The rows as aligned text."""
    cells = [("NAME", "STATE", "READY", "PID", "UPTIME", "MEMORY", "PORT")]
    for row in rows:
        cells.append(
            (
                row.name,
                row.state,
                "yes" if row.not_ready is None else f"no: {row.not_ready}"[:60],
                str(row.pid) if row.pid else "-",
                _duration(row.uptime_s) if row.pid else "-",
                f"{row.memory_bytes / 2**20:.0f} MiB" if row.pid else "-",
                str(row.port or "-"),
            )
        )
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def _why_not(layout: Layout, info: ProcessInfo) -> str | None:
    if not info.running:
        return info.error or info.state.lower()
    return PROGRAMS[info.name].probe(layout)()


class _Memory:
    """Resident memory by process tree, from one look at /proc."""

    def __init__(self) -> None:
        self._children: dict[int, list[int]] = {}
        for pid in process_ids():
            try:
                # The name in parentheses may hold anything, also spaces and parentheses.
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            self._children.setdefault(int(fields[1]), []).append(pid)

    def __call__(self, pid: int) -> int:
        if not pid:
            return 0
        own = 0
        with contextlib.suppress(OSError, IndexError):  # it may have ended meanwhile
            pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
            own = int(pages) * os.sysconf("SC_PAGE_SIZE")
        return own + sum(self(child) for child in self._children.get(pid, ()))


def _duration(seconds: int) -> str:
    minutes, rest = divmod(max(seconds, 0), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m {rest}s" if minutes else f"{rest}s"
