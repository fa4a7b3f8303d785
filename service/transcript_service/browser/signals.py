"""Everything the pool tells about itself: numbers, metrics and log lines, from one place.

One method per event, so that a counter, its metric and its log line cannot drift apart.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

from ..telemetry import get_logger
from ..telemetry import instruments as metric
from ..telemetry.vocabulary import Profile

RetireReason = Literal[
    "age", "uses", "memory", "wear", "unhealthy", "crash", "expired", "capacity", "shutdown"
]
# What `browser.contexts` counts a context as; cleaning after a lease still counts as leased.
Occupancy = Literal["idle", "leased"]

log = get_logger(__name__)

# Characters of one console message that are kept.
_MOST_SAID = 2000


class Signals:
    """Counts since the pool's start, published as they happen."""

    def __init__(self) -> None:
        self.created = 0
        self.closed: Counter[RetireReason] = Counter()
        self.leases = 0
        self.reused = 0
        self.launches = 0
        self.crashes = 0
        self._said_memory_unknown = False

    def limit(self, contexts: int) -> None:
        metric.BROWSER_CONTEXTS_LIMIT.set(contexts)

    def context_created(
        self, profile: Profile, state: Occupancy, *, key: str, duration_s: float
    ) -> None:
        self.created += 1
        metric.BROWSER_CONTEXTS_CREATED.add(1, profile=profile)
        metric.BROWSER_CONTEXTS.add(1, profile=profile, state=state)
        log.info(
            "browser.context.created",
            profile=profile,
            context_key=key,
            duration_s=round(duration_s, 3),
        )

    def context_moved(self, profile: Profile, before: Occupancy, after: Occupancy) -> None:
        if before != after:
            metric.BROWSER_CONTEXTS.add(-1, profile=profile, state=before)
            metric.BROWSER_CONTEXTS.add(1, profile=profile, state=after)

    def context_leased(
        self, profile: Profile, *, key: str, reused: bool, wait_s: float, uses: int
    ) -> None:
        self.leases += 1
        self.reused += reused
        metric.BROWSER_CONTEXT_LEASES.add(1, profile=profile, reused=str(reused).lower())
        metric.BROWSER_CONTEXT_WAIT_DURATION.record(wait_s, profile=profile)
        log.info(
            "browser.context.leased",
            profile=profile,
            context_key=key,
            reused=reused,
            wait_s=round(wait_s, 3),
            uses=uses,
        )

    def console(self, profile: Profile, level: str, text: str) -> None:
        # Pages say a lot; errors are what somebody who looks for a fault wants to see.
        write = log.info if level == "error" else log.debug
        write("browser.console", profile=profile, console_level=level, text=text[:_MOST_SAID])

    def context_returned(self, profile: Profile, *, key: str, held_s: float, uses: int) -> None:
        log.info(
            "browser.context.returned",
            profile=profile,
            context_key=key,
            held_s=round(held_s, 3),
            uses=uses,
        )

    def context_closed(
        self,
        profile: Profile,
        state: Occupancy,
        reason: RetireReason,
        *,
        key: str,
        age_s: float,
        uses: int,
        detail: str | None,
    ) -> None:
        self.closed[reason] += 1
        metric.BROWSER_CONTEXTS.add(-1, profile=profile, state=state)
        metric.BROWSER_CONTEXTS_CLOSED.add(1, profile=profile, reason=reason)
        metric.BROWSER_CONTEXT_AGE.record(age_s, profile=profile)
        metric.BROWSER_CONTEXT_USES.record(uses, profile=profile)
        log.info(
            "browser.context.retired",
            profile=profile,
            context_key=key,
            reason=reason,
            age_s=round(age_s, 3),
            uses=uses,
            detail=detail,
        )

    def context_crashed(self, profile: Profile, *, key: str, uses: int) -> None:
        log.warning("browser.context.crashed", profile=profile, context_key=key, uses=uses)

    def lease_refused(self, profile: Profile, reason: str, waited_s: float) -> None:
        log.warning(
            "browser.context.lease_failed",
            profile=profile,
            reason=reason,
            error_type="browser_unavailable",
            wait_s=round(waited_s, 3),
        )

    def lease_expired(self, profile: Profile, *, key: str, held_s: float) -> None:
        log.warning(
            "browser.context.lease_expired",
            profile=profile,
            context_key=key,
            held_s=round(held_s, 3),
        )

    def browser_crashed(self, reason: str, *, lived_s: float, contexts: int) -> None:
        self.crashes += 1
        log.error(
            "browser.crashed", reason=reason, lived_s=round(lived_s, 3), contexts_lost=contexts
        )

    def browser_replaced(self, reason: RetireReason, used_bytes: int | None) -> None:
        log.warning("browser.replaced", reason=reason, used_bytes=used_bytes)

    def browser_unavailable(self, reason: str, text: str, retry_after_s: float | None) -> None:
        log.error("browser.unavailable", reason=reason, problem=text, retry_after_s=retry_after_s)

    def memory(self, used_bytes: int | None) -> None:
        if used_bytes is not None:
            metric.BROWSER_MEMORY_USAGE.set(used_bytes)
        elif not self._said_memory_unknown:
            self._said_memory_unknown = True
            log.warning("browser.memory.unknown", reason="psutil is not installed")

    def memory_high(self, used_bytes: int, baseline_bytes: int, *, cgroup: bool) -> None:
        log.warning(
            "browser.memory.high",
            used_bytes=used_bytes,
            baseline_bytes=baseline_bytes,
            reason="cgroup" if cgroup else "threshold",
        )
