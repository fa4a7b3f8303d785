"""Is this proxy any good? One small request that YouTube answers to everybody.

`generate_204` costs a few hundred bytes and fails exactly as real traffic would. Many jobs
ask at once, so a result is kept for a while, one probe per proxy runs at a time and the
others wait for it, and the number of probes a minute is bounded.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import requests
from redis import Redis

from ..resilience.bounded import BoundedAdapter
from ..resilience.deadline import Deadline, DeadlineExceeded
from ..resilience.shared_redis import SharedMarks
from ..resilience.single_flight import SingleFlight
from ..settings import Settings
from ..telemetry import get_logger, instruments
from .proxy import Proxy, tunnel_refusal

log = get_logger(__name__)

PreflightOutcome = Literal["success", "auth_failed", "blocked", "timeout", "error"]
Probe = Callable[[Proxy, float], PreflightOutcome]

PROBE_URL: Final = "https://www.youtube.com/generate_204"
# A 204 has no body; what a proxy or YouTube writes instead is a page.
_MOST_BYTES: Final = 1_000_000
_BLOCKED_STATUS: Final = frozenset({401, 403, 429})


def probe_youtube(proxy: Proxy, timeout_s: float, ca_file: Path | None = None) -> PreflightOutcome:
    """Ask YouTube for nothing, through `proxy`. Takes about `timeout_s` at most; never raises."""
    deadline = Deadline(timeout_s)
    # A proxy that sends a byte now and then would hold a request for ever.
    end = threading.Timer(timeout_s, deadline.leave_behind)
    end.daemon = True
    with requests.Session() as session:
        session.trust_env = False
        session.proxies = proxy.as_requests()
        session.verify = str(ca_file) if ca_file else True
        session.mount("https://", BoundedAdapter(deadline, max_body_bytes=_MOST_BYTES))
        end.start()
        try:
            response = session.get(PROBE_URL, allow_redirects=False)
        except (requests.Timeout, DeadlineExceeded):
            return "timeout"
        except requests.RequestException as error:
            return "timeout" if deadline.expired else _refusal(error)
        finally:
            end.cancel()
        if response.status_code == 204:
            return "success"
        # A redirect is the consent or "sorry" page: no use to anybody.
        blocked = response.status_code in _BLOCKED_STATUS or 300 <= response.status_code < 400
        return "blocked" if blocked else "error"


def _refusal(error: requests.RequestException) -> PreflightOutcome:
    status = tunnel_refusal(error)
    if status == 407:
        return "auth_failed"
    if status in _BLOCKED_STATUS:
        return "blocked"
    return "timeout" if "timed out" in str(error) else "error"


class Preflight:
    """Results of probes, kept and rationed. Thread-safe.

    Good results expire at times that differ by 10 %, so that not all do together. Bad ones are not
    kept: the pool's quarantine is their memory. Through Redis, the `client`, a good result is
    believed by all.
    """

    def __init__(
        self,
        settings: Settings,
        probe: Probe,
        *,
        clock: Callable[[], float] = time.monotonic,
        client: Redis | None = None,
    ) -> None:
        self._probe = probe
        self._ttl_s = settings.proxy_preflight_ttl_s
        self._per_minute = settings.proxy_preflight_per_minute
        self._timeout_s = settings.proxy_preflight_timeout_s
        self._clock = clock
        self._lock = threading.Lock()
        self._good = SharedMarks(client, "proxy-good", clock)
        self._flights: SingleFlight[str, PreflightOutcome | None] = SingleFlight()
        self._recent: deque[float] = deque()

    def check(self, proxy: Proxy, deadline: Deadline) -> PreflightOutcome | None:
        """The state of `proxy`; `None` when it is not known and now is no time to find out.

        Not known is not bad: a proxy is not held to be dead because the ration is used up.

        Raises:
            DeadlineExceeded: no time is left.
        """
        deadline.check()
        patience = Deadline(deadline.timeout(self._timeout_s))
        try:
            return self._flights.run(proxy.id, lambda: self._look(proxy, deadline), patience).value
        except DeadlineExceeded:
            deadline.check()
            return None  # another job's probe of it takes long

    def _look(self, proxy: Proxy, deadline: Deadline) -> PreflightOutcome | None:
        if self._good.left([proxy.shared_name]):
            return "success"
        with self._lock:
            if not self._ration(self._clock()):
                return None
        timeout_s = deadline.timeout(self._timeout_s)
        outcome: PreflightOutcome = "error"
        began = self._clock()
        try:
            outcome = self._probe(proxy, timeout_s)
        finally:
            took_s = self._clock() - began
            instruments.PROXY_PREFLIGHT_DURATION.record(took_s, proxy=proxy.id, outcome=outcome)
            log.info(
                "proxy.preflight.finished",
                proxy=proxy.id,
                outcome=outcome,
                duration_s=round(took_s, 6),
            )
        if outcome == "success":
            jitter = random.uniform(0.9, 1.1)  # noqa: S311 - no secret
            self._good.set(proxy.shared_name, self._ttl_s * jitter)
        if outcome == "timeout" and timeout_s <= took_s < self._timeout_s:
            raise DeadlineExceeded("the job had too little time to find out")
        return outcome

    def _ration(self, now: float) -> bool:
        while self._recent and self._recent[0] <= now - 60:
            self._recent.popleft()
        if len(self._recent) >= self._per_minute:
            return False
        self._recent.append(now)
        return True
