"""What a row of the matrix works with, and what it hands back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tests.faults.matrix.generating import Generating, generating
from tests.faults.matrix.ledger import Account, Balance
from tests.faults.matrix.rig import Rig
from tests.live import wait_for


@dataclass(frozen=True)
class Outcome:
    """What one run of a row measured."""

    balance: Balance | None = None
    recovery_s: float | None = None
    """From the end of the fault until everything that waited had arrived."""
    alert: str = ""
    alert_s: float | None = None
    """From the beginning of the fault until the alert fired; in the quick run rules' times are a
    fifteenth."""
    note: str = ""


class Scene:
    """The rig, an account of this row alone, and its generator."""

    def __init__(self, rig: Rig, row: str, thorough: bool) -> None:
        self.rig = rig
        self.thorough = thorough
        self.account = Account(rig, f"row-{row}{'-thorough' if thorough else ''}")

    def generating(
        self, environ: Mapping[str, str] | None = None
    ) -> AbstractContextManager[Generating]:
        """This row's generator during the block."""
        return generating(self.rig, self.account.service, environ)

    def delivered(self, generator: Generating, timeout_s: float = 60.0) -> float:
        """Wait until no record waits in the generator. Returns how many seconds that took."""
        began = time.monotonic()
        wait_for(
            "empty export queues",
            lambda: not any(queue["waiting"] for queue in generator.tell("ledger").values()),
            timeout_s,
        )
        return time.monotonic() - began

    def recovered(self, timeout_s: float = 90.0) -> tuple[Balance, float]:
        """The settled account and how long it took to be complete, as the fault ends now."""
        began = time.monotonic()
        balance = self.account.settled(timeout_s=timeout_s)
        return balance, time.monotonic() - began


Act = Callable[[Scene], Outcome]


def small_queues(records: int) -> dict[str, str]:
    """Export queues that hold so many spans and lines, so that an outage must cost some."""
    names = ("OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BLRP_MAX_QUEUE_SIZE")
    return dict.fromkeys(names, str(records))
