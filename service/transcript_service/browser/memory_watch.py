"""What the pool does about memory."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final

from .entry import Entry, State
from .memory import cgroup_pressure
from .process import Process

if TYPE_CHECKING:
    from .config import PoolConfig
    from .pool import ContextPool

# A browser without any context gets this many measurements to come down again.
_PATIENCE: Final = 2


class MemoryWatch:
    """Measures the browser now and then, off the lease path, and makes it shrink.

    The threshold is what the tree may take above what the browser took when idle. Past
    it idle contexts go, the most used and oldest first, until it is below again; leased
    ones go when they come back; no new ones are made. A browser that has no context left
    and is still above is replaced.
    """

    def __init__(self, config: PoolConfig, pool: ContextPool) -> None:
        self._config = config
        self._pool = pool
        self.used_bytes: int | None = None
        self.high = False
        self._due_at = -math.inf
        self._busy = False
        self._strikes = 0

    def tick(self) -> None:
        """Measure when it is time and the last measurement is done."""
        process = self._pool.process
        now = self._pool.clock()
        if process is not None and not self._busy and now >= self._due_at:
            self._due_at = now + self._config.memory_interval_s
            self._busy = True
            self._pool.spawn(self._look(process))

    async def _look(self, process: Process) -> None:
        try:
            was_high = self.high
            await self._measure(process)
            while self.high and (victim := self._first_to_go()) is not None:
                self._pool.workshop.retire(victim, "memory")
                await victim.gone.wait()
                await self._measure(process)
            self._judge(process)
            if was_high and not self.high:
                self._pool.pump()
        finally:
            self._busy = False

    async def _measure(self, process: Process) -> None:
        used = await process.usage_bytes()
        if process is not self._pool.process:  # replaced meanwhile; its numbers mean nothing
            self.high = False
            return
        self.used_bytes = used
        self._pool.signals.memory(used)
        if used is None:
            return
        if process.baseline_bytes is None:
            process.baseline_bytes = used
        over = used - process.baseline_bytes > self._config.memory_threshold_bytes
        cgroup = not over and await asyncio.to_thread(cgroup_pressure)
        if (over or cgroup) and not self.high:
            self._pool.signals.memory_high(used, process.baseline_bytes, cgroup=cgroup)
        self.high = over or cgroup

    def _first_to_go(self) -> Entry | None:
        idle = [entry for entry in self._pool.entries if entry.state is State.IDLE]
        return max(idle, key=lambda entry: (entry.uses, -entry.created_at), default=None)

    def _judge(self, process: Process) -> None:
        empty = not any(entry.process is process for entry in self._pool.entries)
        self._strikes = self._strikes + 1 if self.high and empty else 0
        if self._strikes >= _PATIENCE:
            self._strikes = 0
            self.high = False
            self._pool.supervisor.replace(process, "memory")
