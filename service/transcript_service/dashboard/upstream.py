"""HTTP to the engines behind the dashboard: one event loop, hard limits on time and size.

A thread with an event loop rather than blocking calls, because a deadline has to hold
against a server that drips one byte a second, and only a cancelled task lets go of its
socket at once.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import wait
from typing import Any, Final, TypeVar

import aiohttp
import orjson

from .errors import (
    QueryDefect,
    UpstreamBusy,
    UpstreamInvalid,
    UpstreamMissing,
    UpstreamTimeout,
    UpstreamUnreachable,
)

T = TypeVar("T")
_THREAD: Final = "dashboard-upstream"
_STOP_S: Final = 1.0
_CHUNK: Final = 64 * 1024
# How much of a rejection's text goes to the log.
_EXCERPT: Final = 500


class LoopThread:
    """An event loop in a daemon thread, started at the first use (after gunicorn has forked)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the loop and wait for its result; its exception is raised here."""
        return asyncio.run_coroutine_threadsafe(work, self._started()).result()

    def stop(self, last: Coroutine[Any, Any, None]) -> None:
        """Run `last` and end the thread. A later `run` starts a new one."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is None:
            last.close()
            return

        done = asyncio.run_coroutine_threadsafe(last, loop)
        # Not by `last` itself: a loop stopped in the middle of a task never tells of its end.
        done.add_done_callback(lambda _: loop.call_soon_threadsafe(loop.stop))
        if threading.current_thread().name != _THREAD:  # the loop cannot wait for itself
            wait([done], timeout=_STOP_S)

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=_serve, args=(self._loop,), name=_THREAD, daemon=True
                ).start()
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    # The runner cancels what is left when the loop stops, so that nobody waits for it any more.
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.get_loop().run_forever()


class Upstream:
    """GET of JSON at one engine, with limits. Use it on one event loop only.

    Args:
        base_url: where the engine listens.
        timeout_s: seconds from sending a request to its last byte.
        max_bytes: largest answer that is read (after decompression).
        parallel: most requests in flight at once; more wait for their turn.
    """

    def __init__(
        self, base_url: str, *, timeout_s: float, max_bytes: int, parallel: int = 4
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._turn = asyncio.Semaphore(parallel)
        self._session: aiohttp.ClientSession | None = None

    async def json(self, path: str, parameters: Mapping[str, str]) -> Any:
        """The parsed answer.

        Raises:
            UpstreamUnreachable: no connection, or a server error.
            UpstreamTimeout: not complete within the time limit.
            UpstreamBusy: 429 or 503.
            UpstreamInvalid: redirect, not JSON, or larger than the limit.
            UpstreamMissing: 404.
            QueryDefect: any other 4xx.
        """
        return _parsed(path, *await self._answer(path, parameters))

    async def json_lines(self, path: str, parameters: Mapping[str, str]) -> list[Any]:
        """The parsed lines of an answer that has one object a line. Raises as `json` does."""
        status, body = await self._answer(path, parameters)
        if status != 200:
            _parsed(path, status, body)
        return [_parsed(path, status, line) for line in body.splitlines()]

    async def _answer(self, path: str, parameters: Mapping[str, str]) -> tuple[int, bytes]:
        async with self._turn:
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._fetch(path, parameters)
            except TimeoutError as error:
                raise UpstreamTimeout(path) from error
            except (aiohttp.ClientPayloadError, ValueError) as error:
                raise UpstreamInvalid(f"{path}: {type(error).__name__}") from error
            except (aiohttp.ClientError, OSError) as error:
                raise UpstreamUnreachable(f"{path}: {type(error).__name__}") from error

    async def close(self) -> None:
        """Close the connections that are kept open."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _fetch(self, path: str, parameters: Mapping[str, str]) -> tuple[int, bytes]:
        if self._session is None:
            # The limits are ours (asyncio.timeout, _turn); no cookie is kept, no redirect followed.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
            )
        async with self._session.get(
            self._base_url + path, params=parameters, allow_redirects=False
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_chunked(_CHUNK):
                body += chunk
                if len(body) > self._max_bytes:
                    raise UpstreamInvalid(f"{path}: more than {self._max_bytes} bytes")
            return response.status, bytes(body)


def _parsed(path: str, status: int, body: bytes) -> Any:
    if status == 200:
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise UpstreamInvalid(f"{path}: not JSON: {_excerpt(body)[:80]!r}") from error
    if status in (429, 503):
        raise UpstreamBusy(f"{path}: {status}")
    if status == 404:
        raise UpstreamMissing(f"{path}: {status}")
    if 400 <= status < 500:
        raise QueryDefect(f"{path}: {status} {_excerpt(body)}")
    if status >= 500:
        raise UpstreamUnreachable(f"{path}: {status}")
    raise UpstreamInvalid(f"{path}: {status}")


def _excerpt(body: bytes) -> str:
    return body[:_EXCERPT].decode("utf-8", "replace")
