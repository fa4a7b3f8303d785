"""The dashboard's blocks, each fetched at most once per TTL, alone or all together."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Final

import orjson

from ..settings import Settings
from .answers import Answers, Asker
from .blocks import BLOCKS, Block
from .cache import AnswerCache, Cached
from .errors import UpstreamError, UpstreamTimeout, worst
from .prometheus import Prometheus
from .upstream import LoopThread, Upstream
from .window import Window, rfc3339

_OVERVIEW_THREADS: Final = 12
# A refused block says so instead of being left out, so that a page can explain the gap.
REFUSED: Final = {"status": "unavailable", "as_of": None, "data": None, "reason": "scope"}


@dataclass(frozen=True)
class Fetched:
    """A block as it came from the engines.

    Attributes:
        window: the one it was asked for; its `now` is when the numbers are of.
        body: the data as JSON (`null` for none), serialised once for all who ask.
        missing: query name to reason, for the queries that failed.
        tag: identifies the content, for ETags.
    """

    window: Window
    empty: bool
    body: orjson.Fragment
    missing: Mapping[str, str]
    tag: str


@dataclass(frozen=True)
class Reply:
    """A response in the making: its JSON members and what its headers need."""

    document: Mapping[str, Any]
    tag: str
    fresh_for_s: float
    cache: str


class Board:
    """All blocks of one service.

    Args:
        settings: where the engines are and what asking may cost.
    """

    def __init__(self, settings: Settings) -> None:
        self._loop = LoopThread()
        # The limit is the whole service's; every worker process gets its share of it.
        share = max(1, settings.dashboard_parallel_queries // settings.web_concurrency)
        self._prometheus = Prometheus(
            Upstream(
                str(settings.prometheus_url),
                timeout_s=settings.dashboard_query_timeout_s,
                max_bytes=settings.dashboard_max_answer_bytes,
                parallel=share,
            ),
            timeout_s=settings.dashboard_query_timeout_s,
        )
        self._asker = Asker(self._prometheus, service=settings.service_name)
        self._deadline_s = settings.dashboard_deadline_s
        self._cache: AnswerCache[Fetched] = AnswerCache(
            ttl_s=settings.dashboard_cache_ttl_s,
            stale_s=settings.dashboard_stale_s,
            brief=lambda fetched: bool(fetched.missing),
        )
        self._pool = ThreadPoolExecutor(_OVERVIEW_THREADS, thread_name_prefix="dashboard")

    def block(self, name: str, window: Window) -> Reply:
        """One block.

        Raises:
            UpstreamError: no query of it was answered, and there is no recent answer either.
        """
        cached = self._cached(name, window)
        return Reply(
            {"window": cached.value.window.as_json(), **_shown(cached)},
            tag=f"{cached.value.tag}{cached.stale:d}",
            fresh_for_s=cached.fresh_for_s,
            cache=cached.result,
        )

    def overview(self, window: Window, scopes: Collection[str]) -> Reply:
        """Every block; those that `scopes` do not open say so.

        Raises:
            UpstreamError: not a single block can be told.
        """
        running = {
            name: self._pool.submit(self._cached, name, window)
            for name, block in BLOCKS.items()
            if block.scope in scopes
        }
        wait(running.values(), timeout=self._deadline_s)
        blocks: dict[str, Mapping[str, Any]] = {}
        found: list[Cached[Fetched]] = []
        failures: list[UpstreamError] = []
        for name in BLOCKS:
            future = running.get(name)
            if future is None:
                blocks[name] = REFUSED
                continue
            try:
                cached = future.result(timeout=0)
            except (UpstreamError, TimeoutError) as error:
                future.cancel()
                failure = error if isinstance(error, UpstreamError) else UpstreamTimeout(name)
                failures.append(failure)
                blocks[name] = {**REFUSED, "reason": failure.reason}
            else:
                found.append(cached)
                blocks[name] = _shown(cached)
        if failures and not found:
            raise worst(failures)
        return Reply(
            {
                "window": window.as_json(),
                "partial": bool(failures) or any(cached.value.missing for cached in found),
                "stale": any(cached.stale for cached in found),
                "age_s": max((round(cached.age_s, 1) for cached in found), default=None),
                "blocks": blocks,
            },
            tag=_tag(
                orjson.dumps(
                    [
                        *((cached.value.tag, cached.stale) for cached in found),
                        *(block.get("reason") for block in blocks.values()),
                    ]
                )
            ),
            fresh_for_s=min((cached.fresh_for_s for cached in found), default=0.0),
            cache=_overall({cached.result for cached in found}),
        )

    def _cached(self, name: str, window: Window) -> Cached[Fetched]:
        block = BLOCKS[name]
        return self._cache.get((name, window.key), lambda: self._fetch(block, window))

    def _fetch(self, block: Block, window: Window) -> Fetched:
        answers = self._loop.run(
            self._asker.ask(block.queries, block.exemplars_of, window, deadline_s=self._deadline_s)
        )
        if len(answers.failures) == len(block.queries) + len(block.exemplars_of):
            raise worst(answers.failures.values())
        return _fetched(answers, block.build(answers))


def _fetched(answers: Answers, data: dict[str, Any] | None) -> Fetched:
    body = orjson.dumps(data)
    missing = {name: failure.reason for name, failure in sorted(answers.failures.items())}
    return Fetched(
        answers.window,
        empty=data is None,
        body=orjson.Fragment(body),
        missing=missing,
        tag=_tag(body + orjson.dumps([answers.window.now, missing])),
    )


def _tag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:24]


def _shown(cached: Cached[Fetched]) -> dict[str, Any]:
    value = cached.value
    shown: dict[str, Any] = {
        "status": "no_data" if value.empty else "ok",
        "as_of": rfc3339(value.window.now),
        "age_s": round(cached.age_s, 1),
        "stale": cached.stale,
        "partial": bool(value.missing),
        "missing": value.missing,
        "data": value.body,
    }
    if isinstance(cached.failure, UpstreamError):
        shown["reason"] = cached.failure.reason
    elif value.empty:
        shown["reason"] = "nothing was measured in this window"
    return shown


def _overall(results: Collection[str]) -> str:
    return next((word for word in ("stale", "miss", "hit") if word in results), "miss")
