"""Which proxy a job uses: chosen once, kept for the whole job, changed at most once.

A choice follows from the job's id, so the same job asks for the same session again, and
the second session of a job is never the first one. A proxy that failed is left alone for
a while and then tried again; nothing has to clean up for that to happen.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Literal

from redis import Redis

from ..resilience.deadline import Deadline
from ..resilience.shared_redis import SharedMarks
from ..telemetry import get_logger, instruments
from .preflight import Preflight
from .proxy import Proxy

log = get_logger(__name__)

RotationReason = Literal[
    "http_401", "http_403", "http_407", "http_429", "bot_check", "rate_limited", "country",
    "proxy_error",
]  # fmt: skip
# These say that the proxy itself is of no use; the others only that its exit is blocked.
_PROXYS_OWN_FAULT: Final[frozenset[str]] = frozenset({"http_407", "proxy_error"})


class NoProxyAvailable(Exception):
    """Every proxy is in quarantine and nothing may leave directly.

    Attributes:
        retry_after_s: seconds until the first one comes out.
    """

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"all proxies are in quarantine for {retry_after_s:.0f} s or more")
        self.retry_after_s = retry_after_s


class ProxyPool:
    """The proxies of this process. Thread-safe; no lock is held during a probe.

    Args:
        entries: without any, everything goes out directly.
        preflight: probes a proxy before a job gets it; `None` to trust the list.
        session_template: how a sticky session is written into the user name; without
            `{session}` the proxies themselves are the sessions.
        client: Redis, through which a proxy that failed one is left alone by all.
    """

    def __init__(
        self,
        entries: Sequence[Proxy],
        *,
        preflight: Preflight | None = None,
        session_template: str = "{username}",
        enforce: bool = False,
        quarantine_s: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
        client: Redis | None = None,
    ) -> None:
        self._entries = tuple(entries)
        self._preflight = preflight
        self._template = session_template
        self._has_sessions = "{session}" in session_template
        self.enforce = enforce
        self._quarantine_s = quarantine_s
        self._lock = threading.Lock()
        self._names = {entry.id: entry.shared_name for entry in self._entries}
        self._quarantine = SharedMarks(client, "proxy-quarantine", clock)
        self._resting: set[str] = set()
        instruments.PROXY_POOL_PROXIES.refreshed_by(self.refresh)

    def for_job(self, job_id: str, deadline: Deadline) -> JobProxy:
        """The way out for one job.

        Raises:
            NoProxyAvailable: all are in quarantine and `enforce` is set. Without it the
                job goes out directly.
            DeadlineExceeded: no time is left to find one.
        """
        identity = self._choose(job_id, 0, deadline, avoid=None)
        if identity is None and self.enforce:
            left_s = self._quarantine.left(self._names.values()).values()
            raise NoProxyAvailable(min(left_s, default=0.0))
        return JobProxy(self, job_id, identity)

    def quarantine(self, proxy_id: str, reason: str) -> None:
        """Leave a proxy alone for a while."""
        self._quarantine.set(self._names[proxy_id], self._quarantine_s)
        log.warning(
            "proxy.quarantined", proxy=proxy_id, reason=reason, cooldown_s=self._quarantine_s
        )

    def healthy(self) -> list[Proxy]:
        """The proxies that are not in quarantine, in the list's order."""
        resting = self._quarantine.left(self._names.values())
        usable = [entry for entry in self._entries if self._names[entry.id] not in resting]
        with self._lock:
            released = [entry.id for entry in usable if entry.id in self._resting]
            self._resting = {entry.id for entry in self._entries} - {e.id for e in usable}
        for each in released:
            log.info("proxy.restored", proxy=each)
        return usable

    def refresh(self) -> None:
        """Say to the metrics how many proxies there are."""
        healthy = len(self.healthy())
        instruments.PROXY_POOL_PROXIES.set(healthy, state="healthy")
        instruments.PROXY_POOL_PROXIES.set(len(self._entries) - healthy, state="quarantined")

    def rotate(
        self, job_id: str, current: Proxy, reason: RotationReason, deadline: Deadline
    ) -> Proxy | None:
        """Another way out for a job that `current` failed; `None` if there is none."""
        # A proxy that is in the wrong country for one video is in the right one for others.
        if reason in _PROXYS_OWN_FAULT or (not self._has_sessions and reason != "country"):
            self.quarantine(current.id, reason)
        return self._choose(job_id, 1, deadline, avoid=current.id)

    def _choose(
        self, job_id: str, turn: int, deadline: Deadline, avoid: str | None
    ) -> Proxy | None:
        usable = self.healthy()
        start = int.from_bytes(_digest(f"{job_id}:start")[:4]) % max(1, len(usable))
        candidates = usable[start:] + usable[:start]
        # The one that just failed comes last, and only as another session of itself.
        again = [entry for entry in candidates if entry.id == avoid and self._has_sessions]
        candidates = [entry for entry in candidates if entry.id != avoid] + again
        session = _digest(f"{job_id}:{turn}").hex()[:12]
        for entry in candidates:
            identity = entry.in_session(self._template, session)
            outcome = self._preflight.check(identity, deadline) if self._preflight else None
            if outcome in (None, "success"):
                return identity
            self.quarantine(entry.id, f"preflight_{outcome}")
        return None


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


class JobProxy:
    """The way out of one job: the same for all its clients, changed at most once."""

    def __init__(self, pool: ProxyPool, job_id: str, identity: Proxy | None) -> None:
        self._pool = pool
        self._job_id = job_id
        self._lock = threading.Lock()
        self._rotated = False
        self.identity = identity
        """`None`: this job goes out directly."""

    @property
    def used(self) -> bool:
        """Whether there is a proxy: the `proxy_used` of spans and metrics."""
        return self.identity is not None

    @property
    def direct_allowed(self) -> bool:
        """Whether a client may also be used without the proxy."""
        return not self._pool.enforce

    def rotate(self, reason: RotationReason, deadline: Deadline) -> bool:
        """Change to another proxy or session; only the first call of a job can.

        Returns:
            Whether the identity has changed, so that trying again makes sense. The proxy
            that failed goes into quarantine for other jobs even when there is no other.

        Raises:
            DeadlineExceeded: no time is left to find one.
        """
        with self._lock:
            if self._rotated or self.identity is None:
                return False
            self._rotated = True
        other = self._pool.rotate(self._job_id, self.identity, reason, deadline)
        if other is None:
            return False
        self.identity = other
        instruments.PROXY_ROTATIONS.add(reason=reason)
        log.info("proxy.rotated", reason=reason, proxy=other.id)
        return True
