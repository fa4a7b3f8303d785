"""The engines behind the dashboard, as one service is configured to reach them."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Coroutine
from typing import Any, TypeVar

from pydantic import HttpUrl

from ..settings import Settings
from .answers import Asker
from .prometheus import Prometheus
from .upstream import LoopThread, Upstream

T = TypeVar("T")


class Engines:
    """Clients of Prometheus, Alertmanager, Jaeger and VictoriaLogs on one event loop.

    Args:
        settings: where they are and what asking them may cost.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = LoopThread()
        self._upstreams: list[Upstream] = []
        # A worker that stops, or an application that a test drops, leaves no open connection.
        weakref.finalize(self, _close, self._loop, self._upstreams)
        self.service = settings.service_name
        self.deadline_s = settings.dashboard_deadline_s
        # The limit is the whole service's; every worker process gets its share of it.
        share = max(1, settings.dashboard_parallel_queries // settings.web_concurrency)
        self.prometheus = Prometheus(
            self._upstream(settings.prometheus_url, parallel=share),
            timeout_s=settings.dashboard_query_timeout_s,
        )
        self.asker = Asker(self.prometheus, service=settings.service_name)
        self.alertmanager = self._upstream(settings.alertmanager_url)
        self.jaeger = self._upstream(settings.jaeger_url)
        self.victorialogs = self._upstream(settings.victorialogs_url)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for a coroutine that asks an engine."""
        return self._loop.run(work)

    def close(self) -> None:
        """Close every connection and end the loop's thread; a later `run` starts anew."""
        _close(self._loop, self._upstreams)

    def _upstream(self, url: HttpUrl, *, parallel: int = 4) -> Upstream:
        upstream = Upstream(
            str(url),
            timeout_s=self._settings.dashboard_query_timeout_s,
            max_bytes=self._settings.dashboard_max_answer_bytes,
            parallel=parallel,
        )
        self._upstreams.append(upstream)
        return upstream


def _close(loop: LoopThread, upstreams: list[Upstream]) -> None:
    async def all_of_them() -> None:
        await asyncio.gather(*(upstream.close() for upstream in upstreams))

    loop.stop(all_of_them())
