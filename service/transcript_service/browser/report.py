"""Everything the pool tells about itself: numbers, metrics and log lines, from one place.

One method per event, so that a counter, its metric and its log line cannot drift apart.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from ..telemetry import get_logger
from ..telemetry import instruments as metric
from ..telemetry.vocabulary import Profile
from .context import Occupancy, PooledContext, RetireReason
from .errors import BrowserUnavailable

log = get_logger(__name__)

# Characters of one console message that are kept.
_MOST_SAID: Final = 2000


class Report:
    """Counts since the pool's start, published as they happen."""

    def __init__(self) -> None:
        self.created = 0
        self.closed: Counter[str] = Counter()
        self.leases = 0
        self.reused = 0
        self.launches = 0
        self.crashes = 0

    def limit(self, contexts: int) -> None:
        metric.BROWSER_CONTEXTS_LIMIT.set(contexts)

    def context_created(self, entry: PooledContext, duration_s: float) -> None:
        profile = entry.identity.profile
        self.created += 1
        metric.BROWSER_CONTEXTS_CREATED.add(1, profile=profile)
        metric.BROWSER_CONTEXTS.add(1, profile=profile, state=entry.occupancy)
        log.info("browser.context.created", **_named(entry), duration_s=round(duration_s, 3))

    def context_moved(self, entry: PooledContext, to: Occupancy) -> None:
        profile = entry.identity.profile
        if entry.occupancy != to:
            metric.BROWSER_CONTEXTS.add(-1, profile=profile, state=entry.occupancy)
            metric.BROWSER_CONTEXTS.add(1, profile=profile, state=to)
            entry.occupancy = to

    def context_leased(self, entry: PooledContext, *, reused: bool, wait_s: float) -> None:
        profile = entry.identity.profile
        self.leases += 1
        self.reused += reused
        metric.BROWSER_CONTEXT_LEASES.add(1, profile=profile, reused=str(reused).lower())
        metric.BROWSER_CONTEXT_WAIT_DURATION.record(wait_s, profile=profile)
        log.info(
            "browser.context.leased",
            **_named(entry),
            reused=reused,
            wait_s=round(wait_s, 3),
            uses=entry.uses,
        )

    def console(self, profile: Profile, level: str, text: str) -> None:
        # Pages say a lot; errors are what somebody who looks for a fault wants to see.
        write = log.info if level == "error" else log.debug
        write("browser.console", profile=profile, console_level=level, text=text[:_MOST_SAID])

    def context_returned(self, entry: PooledContext, held_s: float) -> None:
        log.info(
            "browser.context.returned", **_named(entry), held_s=round(held_s, 3), uses=entry.uses
        )

    def context_closed(self, entry: PooledContext, reason: RetireReason, age_s: float) -> None:
        profile = entry.identity.profile
        self.closed[reason] += 1
        metric.BROWSER_CONTEXTS.add(-1, profile=profile, state=entry.occupancy)
        metric.BROWSER_CONTEXTS_CLOSED.add(1, profile=profile, reason=reason)
        metric.BROWSER_CONTEXT_AGE.record(age_s, profile=profile)
        metric.BROWSER_CONTEXT_USES.record(entry.uses, profile=profile)
        log.info(
            "browser.context.retired",
            **_named(entry),
            reason=reason,
            age_s=round(age_s, 3),
            uses=entry.uses,
            detail=entry.detail,
        )

    def context_crashed(self, entry: PooledContext) -> None:
        log.warning("browser.context.crashed", **_named(entry), uses=entry.uses)

    def lease_refused(self, profile: Profile, reason: str, waited_s: float) -> None:
        log.warning(
            "browser.context.lease_failed",
            profile=profile,
            reason=reason,
            error_type="browser_unavailable",
            wait_s=round(waited_s, 3),
        )

    def lease_expired(self, entry: PooledContext, held_s: float) -> None:
        log.warning("browser.context.lease_expired", **_named(entry), held_s=round(held_s, 3))

    def browser_crashed(self, reason: str, *, lived_s: float, contexts: int) -> None:
        self.crashes += 1
        log.error(
            "browser.crashed", reason=reason, lived_s=round(lived_s, 3), contexts_lost=contexts
        )

    def browser_replaced(self, reason: RetireReason, used_bytes: int | None) -> None:
        log.warning("browser.replaced", reason=reason, used_bytes=used_bytes)

    def browser_unavailable(self, refusal: BrowserUnavailable) -> None:
        log.error(
            "browser.unavailable",
            reason=refusal.reason,
            problem=str(refusal),
            retry_after_s=refusal.retry_after_s,
        )

    def memory(self, used_bytes: int) -> None:
        metric.BROWSER_MEMORY_USAGE.set(used_bytes)

    def memory_high(self, used_bytes: int, baseline_bytes: int, reason: str) -> None:
        log.warning(
            "browser.memory.high",
            used_bytes=used_bytes,
            baseline_bytes=baseline_bytes,
            reason=reason,
        )


def _named(entry: PooledContext) -> dict[str, Any]:
    return {"profile": entry.identity.profile, "context_key": entry.key}
