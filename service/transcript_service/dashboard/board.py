"""The dashboard's blocks, each fetched at most once per TTL, alone or all together."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import orjson

from ..resilience.deadline import Deadline
from ..rfc3339 import rfc3339
from ..settings import Settings
from .alerts import ALERTS, ALERTS_SCOPE, History, fetch_alerts
from .answers import ask
from .blocks import BLOCKS
from .cache import AnswerCache, Cached
from .engines import Engines
from .export import OPENMETRICS, TEXT, expose
from .queries import EXPORT
from .upstream import UpstreamError, gather, worst
from .window import Window

# What a token must hold to see a block.
SCOPE_OF: Final = {**{name: block.scope for name, block in BLOCKS.items()}, ALERTS: ALERTS_SCOPE}
_OVERVIEW_THREADS: Final = 12


@dataclass(frozen=True)
class Fetched:
    """A block as it came from the engines.

    Attributes:
        window: the one it was asked for; its `now` is when the numbers are of.
        body: the data as JSON (`null` for none) or text, serialised once for all who ask.
        missing: query name to reason, for the queries that failed.
        tag: identifies the content, for ETags.
    """

    window: Window
    body: bytes
    missing: Mapping[str, str]
    tag: str


@dataclass(frozen=True)
class Reply:
    """An answer that may be kept: its body and what its headers say."""

    body: bytes
    tag: str
    fresh_for_s: float
    cache: str
    media_type: str = "application/json"
    vary: str = "Authorization"


class Board:
    """All blocks of one service."""

    def __init__(
        self, settings: Settings, engines: Engines, history: History | None = None
    ) -> None:
        self.engines = engines
        self._history = history
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
            orjson.dumps({"window": cached.value.window.as_json(), **_shown(cached)}),
            tag=f"{cached.value.tag}{cached.stale:d}",
            fresh_for_s=cached.fresh_for_s,
            cache=cached.result,
        )

    def overview(self, window: Window, scopes: Collection[str]) -> Reply:
        """Every block; those that `scopes` do not open say so.

        Raises:
            UpstreamError: not a single block can be told.
        """
        work = {
            name: (self._pool, partial(self._cached, name, window))
            for name, scope in SCOPE_OF.items()
            if scope in scopes
        }
        found, failures = gather(work, self.engines.deadline())
        for name, failure in list(failures.items()):
            # Nobody waits any longer; what was known last is better than nothing.
            if last := self._cache.last(_key(name, window), failure):
                found[name] = last
                del failures[name]
        if failures and not found:
            raise worst(failures.values())
        reasons = {name: failures[name].code if name in failures else "scope" for name in SCOPE_OF}
        blocks = {
            # A refused block says so instead of being left out: a page can explain the gap.
            name: _shown(found[name])
            if name in found
            else {"status": "unavailable", "as_of": None, "data": None, "reason": reasons[name]}
            for name in SCOPE_OF
        }
        shown = found.values()
        results = {cached.result for cached in shown}
        document = {
            "window": window.as_json(),
            "partial": bool(failures) or any(cached.value.missing for cached in shown),
            "stale": any(cached.stale for cached in shown),
            "age_s": max((round(cached.age_s, 1) for cached in shown), default=None),
            "blocks": blocks,
        }
        tags = [(cached.value.tag, cached.stale) for cached in shown]
        return Reply(
            orjson.dumps(document),
            tag=_tag(orjson.dumps([tags, [block.get("reason") for block in blocks.values()]])),
            fresh_for_s=min((cached.fresh_for_s for cached in shown), default=0.0),
            cache=next((word for word in ("stale", "miss", "hit") if word in results), "miss"),
        )

    def export(self, *, openmetrics: bool) -> Reply:
        """The service's metrics as text.

        Raises:
            UpstreamError: one of the metrics could not be had; half an export would look
                like a restart to whoever scrapes it.
        """
        window = Window.of(1)
        key = ("export", openmetrics)
        cached = self._cache.get(key, lambda: self._fetch_export(window, openmetrics=openmetrics))
        return Reply(
            cached.value.body,
            cached.value.tag,
            cached.fresh_for_s,
            cached.result,
            OPENMETRICS if openmetrics else TEXT,
            vary="Authorization, Accept",
        )

    def _cached(self, name: str, window: Window, _: Deadline | None = None) -> Cached[Fetched]:
        return self._cache.get(_key(name, window), lambda: self._fetch(name, window))

    def _fetch(self, name: str, window: Window) -> Fetched:
        data: Mapping[str, Any] | None
        if name == ALERTS:
            window = Window.of(1)
            data, failures = fetch_alerts(self.engines, self._history)
        else:
            data, failures = BLOCKS[name].fetch(self.engines, window)
        body = orjson.dumps(data)
        missing = {name: failure.code for name, failure in sorted(failures.items())}
        return Fetched(window, body, missing, tag=_tag(body + orjson.dumps([window.now, missing])))

    def _fetch_export(self, window: Window, *, openmetrics: bool) -> Fetched:
        answers = ask(self.engines, EXPORT, window, measured_as="export")
        if answers.failures:
            raise worst(answers.failures.values())
        text = expose(answers.found, openmetrics=openmetrics)
        return Fetched(window, text, missing={}, tag=_tag(text))


def _key(name: str, window: Window) -> Hashable:
    # Alerts are about now: one entry serves every window.
    return ALERTS if name == ALERTS else (name, window.key)


def _tag(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=12).hexdigest()


def _shown(cached: Cached[Fetched]) -> dict[str, Any]:
    value = cached.value
    is_empty = value.body == b"null"
    shown: dict[str, Any] = {
        "status": "no_data" if is_empty else "ok",
        "as_of": rfc3339(value.window.now),
        "age_s": round(cached.age_s, 1),
        "stale": cached.stale,
        "partial": bool(value.missing),
        "missing": value.missing,
        "data": orjson.Fragment(value.body),
    }
    if isinstance(cached.failure, UpstreamError):
        shown["reason"] = cached.failure.code
    elif is_empty:
        shown["reason"] = "nothing was measured in this window"
    return shown
