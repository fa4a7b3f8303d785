"""Work that must be finished, whoever is waiting for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from ..telemetry import get_logger

log = get_logger(__name__)


class Tasks(set[asyncio.Task[Any]]):
    """The tasks under way. A failure is written to the log: nobody else would see it."""

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run something on its own."""
        task = asyncio.get_running_loop().create_task(work)
        self.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("browser.janitor.failed", exc_info=error)

    async def finish(self, timeout_s: float) -> None:
        """Wait for all of them, or `timeout_s` seconds."""
        if self:
            await asyncio.wait(tuple(self), timeout=timeout_s)
