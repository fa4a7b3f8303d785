"""The calling conventions: sync names from any thread, coroutines on the loop, one trace."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from playwright.sync_api import Error as PlaywrightError

from tests.browser.conftest import idle, wait_until
from tests.browser.site import Site
from tests.telemetry_memory import InMemoryTelemetry
from transcript_service import get_optimized_browser_context
from transcript_service.browser import (
    BrowserPool,
    LeasedContext,
    LeasedPage,
    LeaseLost,
    get_browser_pool,
)
from transcript_service.settings import get_settings
from transcript_service.telemetry import span


def test_the_ordinary_sync_names_work(pool: BrowserPool, site: Site) -> None:
    with pool.lease() as context:
        page = context.new_page()
        response = page.goto(site.url)
        assert response is not None
        assert response.status == 200
        assert page.url == f"{site.url}/"
        assert page.title() == "home"
        assert "<h1>home</h1>" in page.content()
        assert page.evaluate("([a, b]) => a + b", [1, 2]) == 3
        assert page.locator("h1").inner_text() == "home"
        heading = page.query_selector("h1")
        assert heading is not None
        assert heading.text_content() == "home"
        assert page.main_frame.url == page.url
        assert page.context.pages == [page]
        with page.expect_response(lambda answer: "captions" in answer.url) as caught:
            page.evaluate("fetch('/captions').then(answer => answer.text())")
        assert caught.value.json() == {"events": []}
        with page.expect_popup() as opened:
            page.evaluate("window.open('/popup')")
        assert "/popup" in opened.value.url


def test_routes_and_listeners_run_where_they_may_use_the_view(
    pool: BrowserPool, site: Site
) -> None:
    requested: list[str] = []
    threads: set[str] = set()

    def answer(route: Any) -> None:
        threads.add(threading.current_thread().name)
        original = route.fetch()  # a call of its own: would hang on the loop's thread
        route.fulfill(status=original.status, body=original.text().replace("[]", "[1]"))

    def listen(request: Any) -> None:
        requested.append(request.url)

    with pool.lease() as context:
        context.route("**/captions", answer)
        page = context.new_page()
        page.on("request", listen)
        page.goto(f"{site.url}/captions")
        assert '{"events": [1]}' in page.content()
        page.remove_listener("request", listen)
        context.unroute("**/captions", answer)
        page.goto(f"{site.url}/captions")
        assert '{"events": []}' in page.content()
    assert requested == [f"{site.url}/captions"]
    assert all(name.startswith("browser-handler") for name in threads)


def test_what_a_handler_raises_comes_out_in_its_own_lease_alone(
    pool: BrowserPool, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Any) -> None:
        raise KeyError("mine")

    with pool.lease() as one, pool.lease() as other:
        page, elsewhere = one.new_page(), other.new_page()
        page.on("request", fail)
        page.goto(site.url)
        for _ in range(20):
            assert elsewhere.evaluate("1") == 1
        with pytest.raises(KeyError, match="mine"):
            page.evaluate("1")
        assert page.evaluate("1") == 1  # once is enough
    assert "a handler of a lease failed" in caplog.text  # also where no call follows


def test_what_an_exposed_function_raises_comes_out_in_the_page(
    pool: BrowserPool, site: Site
) -> None:
    def fail() -> None:
        raise KeyError("mine")

    with pool.lease() as context:
        page = context.new_page()
        page.expose_function("fail", fail)
        page.goto(site.url)
        assert "mine" in page.evaluate("fail().catch(error => error.message)")
        assert page.evaluate("1") == 1


def test_a_handler_that_ends_after_its_lease_costs_nothing(
    pool: BrowserPool, site: Site, telemetry: InMemoryTelemetry
) -> None:
    gone = threading.Event()
    late: list[str] = []

    def listen(request: Any) -> None:
        gone.wait(30)
        try:
            request.url  # noqa: B018 - the lease has ended: LeaseLost
        except LeaseLost as error:
            late.append(error.reason)
            raise

    with pool.lease() as context:
        context.on("request", listen)
        context.new_page().goto(site.url)
    gone.set()
    wait_until(lambda: late == ["returned"])
    wait_until(lambda: idle(pool))
    with pool.lease() as context:
        context.new_page().goto(site.url)
    assert [r["reason"] for r in telemetry.events("browser.context.retired")] == []


def test_a_predicate_that_makes_calls_is_told_so_instead_of_hanging(
    pool: BrowserPool, site: Site
) -> None:
    said: list[str] = []

    def ask(response: Any) -> bool:
        try:
            response.text()
        except RuntimeError as error:
            said.append(str(error))
        return True

    with pool.lease() as context:
        page = context.new_page()
        with page.expect_response(ask):
            page.goto(site.url)
    assert said
    assert "only read properties" in said[0]


def test_playwrights_errors_and_the_blocks_own_come_through(pool: BrowserPool, site: Site) -> None:
    with pool.lease() as context, pytest.raises(PlaywrightError, match="boom"):
        context.new_page().evaluate("() => { throw new Error('boom') }")

    def fail() -> None:
        with pool.lease() as context:
            context.new_page().goto(site.url)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()
    wait_until(lambda: idle(pool))


def test_any_thread_may_lease(pool: BrowserPool, site: Site) -> None:
    def title(number: int) -> str:
        with pool.lease(("desktop", "mobile")[number % 2]) as context:
            page = context.new_page()
            page.goto(f"{site.url}/{number}")
            return str(page.title())

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(title, range(12))) == [f"/{number}" for number in range(12)]


def test_a_lease_and_its_navigations_are_one_trace(
    pool: BrowserPool, site: Site, telemetry: InMemoryTelemetry
) -> None:
    async def work(context: LeasedContext) -> None:
        page = await context.new_page()
        await page.goto(f"{site.url}/watch?v=secret")

    with span("transcript.stage"):
        with pool.lease() as context:
            context.new_page().goto(f"{site.url}/watch?v=secret")
        pool.run(work, timeout_s=60)
    stage = telemetry.span("transcript.stage")
    assert stage.context is not None
    leases = telemetry.spans("browser.lease")
    navigations = telemetry.spans("browser.navigate")
    assert len(leases) == len(navigations) == 2
    for lease, navigation in zip(leases, navigations, strict=True):
        assert lease.parent is not None
        assert lease.context is not None
        assert navigation.parent is not None
        assert lease.parent.span_id == stage.context.span_id
        assert navigation.parent.span_id == lease.context.span_id
        attributes = dict(navigation.attributes or {})
        assert attributes == {"profile": "desktop", "host": "127.0.0.1", "status": 200}
    # Also the log lines of the loop's thread belong to the caller's trace.
    [leased] = telemetry.events("browser.context.leased")[:1]
    assert leased["trace_id"] == telemetry.trace_id(stage)


def test_run_has_a_hard_limit_even_over_an_endless_script(pool: BrowserPool) -> None:
    async def endless(context: LeasedContext) -> None:
        page = await context.new_page()
        await page.evaluate("() => { while (true); }")

    # Making a context may take longer than that on a busy machine.
    with pool.lease("mobile", timeout_s=60):
        pass
    wait_until(lambda: idle(pool))
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        pool.run(endless, "mobile", timeout_s=3)
    assert time.monotonic() - started < 60
    wait_until(lambda: idle(pool))


def test_run_gives_results_and_errors_back(pool: BrowserPool) -> None:
    async def fail(context: LeasedContext) -> None:
        raise LookupError("mine")

    async def answer(context: LeasedContext) -> list[LeasedPage]:
        return [await context.new_page()]

    (page,) = pool.run(answer, timeout_s=60)
    assert isinstance(page, LeasedPage)
    with pytest.raises(LookupError, match="mine"):
        pool.run(fail, timeout_s=60)


def test_a_call_past_the_deadline_says_the_lease_is_lost(pool: BrowserPool, site: Site) -> None:
    with pytest.raises(LeaseLost) as caught, pool.lease(deadline_s=3) as context:
        context.new_page().evaluate("() => new Promise(() => {})")
    assert caught.value.reason == "expired"
    with pool.lease(deadline_s=0.5) as context:
        page = context.new_page()
        lost = context
        wait_until(lambda: _is_lost(lost))
        with pytest.raises(LeaseLost):
            page.goto(site.url)
    wait_until(lambda: idle(pool))


def _is_lost(context: Any) -> bool:
    try:
        context.cookies()
    except LeaseLost:
        return True
    return False


def test_the_convention_of_the_package(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER_PRIVATE_HOSTS", site.address)
    get_settings.cache_clear()
    with get_optimized_browser_context("mobile") as context:
        page = context.new_page()
        page.goto(site.url)
        assert page.evaluate("screen.width") == 390
    get_browser_pool().close(grace_s=5)
    get_settings.cache_clear()
