"""What can go wrong with a browser, as two errors a caller can tell apart."""

from __future__ import annotations

from typing import Final, Literal

UnavailableReason = Literal[
    "not_installed",
    "launch_failed",
    "context_failed",
    "queue_full",
    "wait_timeout",
    "memory",
    "shutting_down",
]
# The pool is busy or going away: nobody's browser is broken.
OVERLOAD: Final[frozenset[UnavailableReason]] = frozenset(
    {"queue_full", "wait_timeout", "memory", "shutting_down"}
)
LostReason = Literal["expired", "crash", "shutdown", "returned"]


class BrowserUnavailable(Exception):
    """No browser context can be had now.

    `retry_after_s`: seconds after which another try makes sense (HTTP `Retry-After`), `None`
    where waiting does not help.
    """

    error_type: Final = "browser_unavailable"

    def __init__(
        self, reason: UnavailableReason, message: str, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.reason: UnavailableReason = reason
        self.retry_after_s = retry_after_s


class LeaseLost(Exception):
    """The context was taken away: the lease is over or the browser died."""

    def __init__(self, reason: LostReason) -> None:
        super().__init__(
            {
                "expired": "the lease's deadline passed and its browser context was closed",
                "crash": "the browser died while its context was leased",
                "shutdown": "the browser pool was closed while the context was leased",
                "returned": "the context was returned and may be somebody else's by now",
            }[reason]
        )
        self.reason: LostReason = reason
