"""Pools of the tests' own: what they set, as the settings and times that a pool takes."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from transcript_service.browser.stock import Timing
from transcript_service.settings import Settings

THIS_MACHINE = ("127.0.0.1", "localhost")  # whatever the port is


def alive(process: psutil.Process) -> bool:
    """Whether a process still runs. A zombie does not: it waits for its parent only."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


class PoolLimits(NamedTuple):
    """The first arguments of a pool."""

    settings: Settings
    timing: Timing


def pool_limits(
    *,
    max_contexts: int = 4,
    queue_limit: int = 16,
    wait_s: float = 15.0,
    max_uses: int = 50,
    max_age_s: float = 1800.0,
    memory_threshold_bytes: int = 512 * 2**20,
    ignore_https_errors: bool = False,
    **others: Any,
) -> PoolLimits:
    """Limits of a pool, by default of one whose pages may be of this machine.

    `others` are fields of `Settings` and of `Timing`.
    """
    names = {field.name for field in fields(Timing)}
    times = {name: others.pop(name) for name in names & others.keys()}
    assert others.keys() <= Settings.model_fields.keys()
    limits: dict[str, Any] = {
        "browser_max_contexts": max_contexts,
        "browser_queue_limit": queue_limit,
        "browser_acquire_timeout_s": wait_s,
        "browser_context_max_uses": max_uses,
        "browser_context_max_age_minutes": max_age_s / 60,
        "browser_memory_threshold_mb": memory_threshold_bytes / 2**20,
        "youtube_ca_file": Path("ca.pem") if ignore_https_errors else None,
        "browser_private_hosts": THIS_MACHINE,
        **others,
    }
    # Beyond what an operator may set, where a test wants that.
    settings = Settings().model_copy(update=limits)
    return PoolLimits(settings, Timing(**times))
