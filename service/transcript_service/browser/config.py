"""The pool's limits as one value, so that a test can build its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ..proxies import configured_proxies
from ..settings import Settings
from .launch import LaunchOptions


@dataclass(frozen=True)
class PoolConfig:
    """Limits of one pool. The defaults are those of `Settings`; times in seconds."""

    max_contexts: int = 4
    queue_limit: int = 16
    wait_s: float = 15.0
    lease_s: float = 120.0
    max_uses: int = 50
    max_age_s: float = 1800.0
    # Share of the age limit by which it is made longer or shorter per context, so that
    # contexts made together do not expire together.
    age_jitter: float = 0.1
    # How long before its age limit a context's replacement is started.
    replace_ahead_s: float = 3.0
    memory_threshold_bytes: int = 512 * 2**20
    memory_interval_s: float = 5.0
    # How often the pool looks for expired contexts and asks the browser for a sign of life.
    tick_s: float = 1.0
    heartbeat_s: float = 5.0
    # Making, cleaning or closing one context takes 0.05 to 0.5 s, several seconds on a
    # machine that is overloaded; past this it is stuck.
    operation_s: float = 15.0
    ignore_https_errors: bool = False
    launch: LaunchOptions = field(default_factory=LaunchOptions)

    @classmethod
    def from_settings(cls, settings: Settings) -> PoolConfig:
        """The limits the operator configured."""
        return cls(
            max_contexts=settings.browser_max_contexts,
            queue_limit=settings.browser_queue_limit,
            wait_s=settings.browser_acquire_timeout_s,
            lease_s=settings.browser_lease_timeout_s,
            max_uses=settings.browser_context_max_uses,
            max_age_s=settings.browser_context_max_age_minutes * 60,
            memory_threshold_bytes=settings.browser_memory_threshold_mb * 2**20,
            # Chromium cannot be given one more CA from the command line. Where the
            # operator names one, YouTube's hosts lead to it and no others exist.
            ignore_https_errors=settings.youtube_ca_file is not None,
            launch=LaunchOptions(
                executable=settings.browser_executable,
                timeout_s=settings.browser_launch_timeout_s,
                sandbox=settings.browser_sandbox,
                resolve_to=settings.youtube_resolve_to,
                guarded=True,
                reachable=(
                    *settings.browser_private_hosts,
                    *(urlsplit(proxy.server).netloc for proxy in configured_proxies(settings)),
                ),
            ),
        )
