"""A browser pool at one moment, as tests and benchmarks look into it."""

from __future__ import annotations

from dataclasses import dataclass, field

from transcript_service.browser import BrowserPool
from transcript_service.browser.context import State


@dataclass(frozen=True)
class PoolStats:
    """Counts are since the pool's start, sizes in bytes."""

    idle: int = 0
    leased: int = 0
    waiting: int = 0
    created: int = 0
    closed: dict[str, int] = field(default_factory=dict)
    leases: int = 0
    reused: int = 0
    launches: int = 0
    crashes: int = 0
    browser_pid: int | None = None
    memory_bytes: int | None = None
    memory_baseline_bytes: int | None = None
    memory_high: bool = False
    problem: str = ""

    @property
    def open(self) -> int:
        """Contexts that exist: created less closed."""
        return self.created - sum(self.closed.values())


def stats(pool: BrowserPool) -> PoolStats:
    """Cheap, from any thread; all zero before the first lease."""
    if pool._running is None:
        return PoolStats()
    core = pool._running.core
    stock, counts, process = core.stock, core.stock.counts, core.stock.process
    return PoolStats(
        idle=sum(entry.state is State.IDLE for entry in list(stock.entries)),
        leased=core.leased(),
        waiting=len(core._waiters),
        created=counts["created"],
        closed=dict(stock.closed),
        leases=counts["leases"],
        reused=counts["reused"],
        launches=counts["launches"],
        crashes=counts["crashes"],
        browser_pid=process.pid if process is not None else None,
        memory_bytes=stock.memory.used_bytes,
        memory_baseline_bytes=process.baseline_bytes if process is not None else None,
        memory_high=stock.memory.high,
        problem=str(stock.launches.problem or ""),
    )
