"""One context of the pool and what is known about it."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .identity import Identity
from .signals import Occupancy, RetireReason

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Page

    from .lease import Lease
    from .process import Process

# Opening a page is timed after every lease; a verdict on wear looks at this many.
PROBES_KEPT = 5


class State(Enum):
    """What a context is doing."""

    IDLE = auto()
    LEASED = auto()
    CLEANING = auto()
    CLOSING = auto()
    GONE = auto()


@dataclass(eq=False)
class Entry:
    """A browser context in the pool."""

    identity: Identity
    process: Process
    context: BrowserContext
    created_at: float
    expires_at: float
    state: State = State.CLEANING
    # Opened and tried out while nobody waits; the next lease's first page.
    spare: Page | None = None
    uses: int = 0
    last_used_at: float = 0.0
    lease: Lease | None = None
    # Set as soon as it is known that the context ends with its present lease.
    retire: RetireReason | None = None
    detail: str | None = None
    replaced: bool = False
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    # Origins that pages of this context have shown: where storage may have been written.
    origins: set[str] = field(default_factory=set)
    probes_s: deque[float] = field(default_factory=lambda: deque(maxlen=PROBES_KEPT))

    @property
    def key(self) -> str:
        return self.identity.key

    @property
    def occupancy(self) -> Occupancy:
        """What `browser.contexts` counts it as."""
        return "leased" if self.lease is not None else "idle"

    def saw_url(self, url: str) -> None:
        """Remember the origin of a page or frame, if it can have storage."""
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.netloc:
            self.origins.add(f"{parts.scheme}://{parts.netloc}")

    def condemn(self, reason: RetireReason, detail: str | None = None) -> None:
        """Retire it at the end of its lease. The first reason stays."""
        if self.retire is None:
            self.retire, self.detail = reason, detail
