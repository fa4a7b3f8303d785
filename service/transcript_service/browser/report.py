"""What happens to contexts, each as a number, a metric and a log line that cannot drift apart."""

from __future__ import annotations

from collections import Counter

from ..telemetry import get_logger
from ..telemetry import instruments as metric
from .context import Occupancy, PooledContext, RetireReason

log = get_logger(__name__)


class Report:
    """Counts since the pool's start, published as they happen."""

    def __init__(self) -> None:
        self.created = 0
        self.closed: Counter[str] = Counter()
        self.leases = 0
        self.reused = 0
        self.launches = 0
        self.crashes = 0

    def context_created(self, entry: PooledContext, duration_s: float) -> None:
        profile = entry.identity.profile
        self.created += 1
        metric.BROWSER_CONTEXTS_CREATED.add(1, profile=profile)
        metric.BROWSER_CONTEXTS.add(1, profile=profile, state=entry.occupancy)
        log.info("browser.context.created", **entry.named, duration_s=round(duration_s, 3))

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
            **entry.named,
            reused=reused,
            wait_s=round(wait_s, 3),
            uses=entry.uses,
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
            **entry.named,
            reason=reason,
            age_s=round(age_s, 3),
            uses=entry.uses,
            detail=entry.detail,
        )
