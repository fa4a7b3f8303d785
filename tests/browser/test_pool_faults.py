"""What happens to leases, slots and processes when things break."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psutil
import pytest
from playwright.sync_api import Error as PlaywrightError

from tests.browser.conftest import (
    MakePool,
    Since,
    browser_processes,
    close_all,
    idle,
    wait_until,
)
from tests.browser.site import Site
from tests.browser_settings import pool_limits
from tests.pool_stats import stats
from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.browser import BrowserPool, LeaseLost, context

# "Serves again within seconds"; on a machine as busy as a CI's it may take a few more.
SOON_S = 30.0


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine cleaning takes long, and then another context would be made."""
    monkeypatch.setattr(context, "SLOW_S", SOON_S)


def serves(pool: BrowserPool, site: Site) -> None:
    with pool.lease(timeout_s=SOON_S) as context:
        page = context.new_page()
        page.goto(site.url)
        assert page.title() == "home"


def kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


@pytest.fixture(scope="module")
def one_slot() -> Iterator[BrowserPool]:
    """A pool that outlives one fault after the other."""
    shared = BrowserPool(*pool_limits(wait_s=60.0, tick_s=0.1, max_contexts=1, heartbeat_s=2.0))
    yield shared
    close_all([shared])


def crash_page(pool: BrowserPool, page: Any) -> None:
    with suppress(PlaywrightError):  # `goto` fails before the crash is known
        page.goto("chrome://crash", timeout=10_000)
    page.evaluate("new Promise(() => {})")


def kill_renderers(pool: BrowserPool, page: Any) -> None:
    kill(browser_processes(pool, "renderer"))
    page.evaluate("new Promise(() => {})")


def kill_browser(pool: BrowserPool, page: Any) -> None:
    kill(browser_processes(pool, "browser"))
    page.evaluate("new Promise(() => {})")


def kill_driver(pool: BrowserPool, page: Any) -> None:
    kill(browser_processes(pool, "driver"))
    page.evaluate("new Promise(() => {})")


def raise_inside(pool: BrowserPool, page: Any) -> None:
    raise LookupError("the block's own")


def endless_script(pool: BrowserPool, page: Any) -> None:
    page.evaluate("() => { while (true); }")


def endless_navigation(pool: BrowserPool, page: Any) -> None:
    page.goto(f"{page.url}hang", timeout=300_000)


@pytest.mark.parametrize(
    ("fault", "error", "closed"),
    [
        (raise_inside, LookupError, {}),
        (crash_page, PlaywrightError, {"crash": 1}),
        (kill_renderers, PlaywrightError, {"crash": 1}),
        (kill_browser, LeaseLost, {"crash": 1}),
        (kill_driver, LeaseLost, {"crash": 1}),
        (endless_script, LeaseLost, {"expired": 1}),
        (endless_navigation, LeaseLost, {"expired": 1}),
    ],
)
def test_after_a_fault_the_pool_serves_again(
    one_slot: BrowserPool,
    site: Site,
    telemetry: InMemoryTelemetry,
    fault: Callable[[BrowserPool, Any], None],
    error: type[Exception],
    closed: dict[str, int],
) -> None:
    pool = one_slot
    serves(pool, site)
    wait_until(lambda: idle(pool))
    since = Since(pool)
    telemetry.clear()

    def suffer() -> None:
        with pool.lease(deadline_s=5) as context:
            page = context.new_page()
            page.goto(site.url)
            fault(pool, page)

    with pytest.raises(error):
        suffer()
    # One slot only: had it been lost, this would wait in vain.
    serves(pool, site)
    wait_until(lambda: idle(pool))
    assert since.closed == closed
    assert stats(pool).open == 1
    for reason in closed:
        assert telemetry.metric("browser.contexts.closed", profile="desktop", reason=reason) == 1
        assert [e["reason"] for e in telemetry.events("browser.context.retired")] == [reason]
        spans = telemetry.spans("browser.retire")
        assert all((span.attributes or {})["reason"] == reason for span in spans)
    if fault in (crash_page, kill_renderers):
        assert telemetry.events("browser.context.crashed")
    if fault in (kill_browser, kill_driver):
        assert telemetry.events("browser.crashed")
    assert since.launches == int(fault in (kill_browser, kill_driver))


def test_a_holder_who_never_returns_costs_no_slot(make_pool: MakePool, site: Site) -> None:
    pool = make_pool(max_contexts=1)
    serves(pool, site)
    leased, come_back = threading.Event(), threading.Event()

    def sleepy() -> None:
        with pool.lease(deadline_s=1):
            leased.set()
            come_back.wait(120)

    holder = threading.Thread(target=sleepy)
    holder.start()
    assert leased.wait(60)
    serves(pool, site)
    come_back.set()
    holder.join(60)
    serves(pool, site)
    wait_until(lambda: idle(pool))
    assert stats(pool).closed == {"expired": 1}


def test_an_idle_browser_that_dies_is_replaced_before_anybody_asks(
    make_pool: MakePool, site: Site
) -> None:
    pool = make_pool()
    serves(pool, site)
    wait_until(lambda: idle(pool))
    first = stats(pool).browser_pid
    kill(browser_processes(pool, "browser"))
    wait_until(lambda: stats(pool).browser_pid not in (None, first))
    serves(pool, site)
    assert stats(pool).reused == 0
