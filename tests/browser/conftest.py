"""Pools over a real Chromium. Without one these tests are skipped, except in CI."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Protocol
from urllib.parse import urlsplit

import psutil
import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.browser.pages import PATIENT_MS
from tests.browser.site import Site, serve
from tests.browser_settings import alive, pool_limits
from tests.chromium import running_chromium
from tests.needed import require_chromium
from tests.pool_stats import stats
from transcript_service.browser import BrowserPool
from transcript_service.browser.memory import process_tree


class MakePool(Protocol):
    def __call__(self, **config: Any) -> BrowserPool: ...


@pytest.fixture(scope="session", autouse=True)
def _chromium() -> None:
    require_chromium(os.environ.get("BROWSER_EXECUTABLE"))


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    with serve() as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with running_chromium() as browser:
        yield browser


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(PATIENT_MS)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page that must end without a complaint in its console, and ask this machine only."""
    page = context.new_page()
    complaints: list[str] = []
    asked: set[str | None] = set()
    page.on("request", lambda request: asked.add(urlsplit(request.url).hostname))
    page.on(
        "console",
        lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    # A refused or failed request is logged by the browser itself; tests that provoke one say so.
    expected = getattr(page, "expected_complaints", ())
    assert [c for c in complaints if not any(text in c for text in expected)] == []
    assert asked <= {"127.0.0.1", None}  # none: a file made by the page itself


@pytest.fixture
def make_pool() -> Iterator[MakePool]:
    """Makes pools, closes them after the test, and holds them to leave no process behind."""
    pools: list[BrowserPool] = []

    def make(**config: Any) -> BrowserPool:
        # A busy machine needs several seconds to start Chromium.
        pools.append(BrowserPool(*pool_limits(**{"wait_s": 60.0, "tick_s": 0.1, **config})))
        return pools[-1]

    yield make
    close_all(pools)


def close_all(pools: list[BrowserPool]) -> None:
    """Close pools; no process and no context of them may be left."""
    processes = [
        process
        for pool in pools
        if (pid := stats(pool).browser_pid) is not None
        for process in process_tree(pid)
    ]
    for pool in pools:
        pool.close(grace_s=0)
    assert [process for process in processes if alive(process)] == []
    for pool in pools:
        assert stats(pool).open == 0


@pytest.fixture(scope="module")
def pool() -> Iterator[BrowserPool]:
    """One pool for a file's tests, because starting Chromium takes seconds."""
    shared = BrowserPool(*pool_limits(wait_s=60.0, tick_s=0.1))
    yield shared
    close_all([shared])


@pytest.fixture
def who(request: pytest.FixtureRequest) -> dict[str, Any]:
    """An identity that no other test has, so that its contexts are its own."""
    cookie = {"name": "test", "value": str(id(request.node)), "url": "http://identity.test"}
    return {"cookies": [cookie]}


class Since:
    """What a pool's counts have grown by."""

    def __init__(self, pool: BrowserPool) -> None:
        self._pool = pool
        self._before = stats(pool)

    @property
    def created(self) -> int:
        return stats(self._pool).created - self._before.created

    @property
    def leases(self) -> int:
        return stats(self._pool).leases - self._before.leases

    @property
    def launches(self) -> int:
        return stats(self._pool).launches - self._before.launches

    @property
    def reused(self) -> int:
        return stats(self._pool).reused - self._before.reused

    @property
    def closed(self) -> dict[str, int]:
        return dict(Counter(stats(self._pool).closed) - Counter(self._before.closed))


def wait_until(condition: Callable[[], bool], timeout_s: float = 90.0, what: str = "") -> float:
    """Wait for a condition; returns the seconds it took, fails when it does not come."""
    started = time.monotonic()
    pause = threading.Event()
    while not condition():
        assert time.monotonic() - started < timeout_s, what or "the condition did not come"
        pause.wait(0.02)
    return time.monotonic() - started


def idle(pool: BrowserPool) -> bool:
    """Whether the pool has finished what it was doing."""
    now = stats(pool)
    return now.leased == 0 and now.idle == now.open


def browser_processes(pool: BrowserPool, kind: str) -> list[psutil.Process]:
    """Processes of the pool's browser: `renderer`, `browser`, `driver`."""
    pid = stats(pool).browser_pid
    assert pid is not None
    tree = process_tree(pid)
    if kind == "driver":
        return tree[:1]
    if kind == "browser":
        return [process for process in tree if process.pid == pid]
    found = []
    for process in tree:
        try:
            if f"--type={kind}" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found
