"""The server's own record of what it was asked and how long it took."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One request. ``status`` is None where no complete answer was given; ``latency_s`` in seconds.

    ``proxy_user`` is None for a direct connection and "" for a proxied one
    without credentials. Of cookies only the names are kept.
    """

    number: int
    at: str
    method: str
    host: str
    path: str
    endpoint: str
    video: str
    client: str
    proxy_user: str | None
    cookies: tuple[str, ...]
    faults: tuple[str, ...]
    status: int | None
    latency_s: float


class RequestLog:
    """The last ``size`` requests, oldest first."""

    def __init__(self, size: int = 5000) -> None:
        self._entries: deque[Entry] = deque(maxlen=size)
        self.total = 0

    def add(self, **values: Any) -> None:
        self.total += 1
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._entries.append(Entry(number=self.total, at=at, **values))

    def clear(self) -> None:
        self._entries.clear()
        self.total = 0

    def last(self, count: int, **wanted: str) -> list[dict[str, Any]]:
        """The newest entries whose fields have these values, oldest first."""
        kept = [
            entry
            for entry in self._entries
            if all(getattr(entry, name) == value for name, value in wanted.items())
        ]
        return [asdict(entry) for entry in kept[-count:]]

    def summary(self) -> dict[str, Any]:
        """Per endpoint: counts by status, and the latency of answered requests in seconds."""
        statuses: dict[str, Counter[str]] = {}
        latencies: dict[str, list[float]] = {}
        for entry in self._entries:
            statuses.setdefault(entry.endpoint, Counter())[str(entry.status)] += 1
            if entry.status is not None:
                latencies.setdefault(entry.endpoint, []).append(entry.latency_s)
        return {
            endpoint: {
                "statuses": dict(counts),
                "p50_s": percentile(latencies.get(endpoint, []), 0.5),
                "p95_s": percentile(latencies.get(endpoint, []), 0.95),
            }
            for endpoint, counts in statuses.items()
        }


def percentile(values: list[float], share: float) -> float | None:
    """The nearest-rank percentile; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
