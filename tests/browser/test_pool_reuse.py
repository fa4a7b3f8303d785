"""Contexts are reused, and nothing of one lease is found in the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.conftest import MakePool, Since, idle, wait_until
from tests.browser.site import Site, proxy
from tests.pool_stats import stats
from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.browser import BrowserPool, LeasedContext, LeaseLost

# Writes to every kind of storage a page has, and says what it found there before.
VISIT = """async () => {
    const found = {
        cookie: document.cookie,
        local: localStorage.getItem('mark'),
        session: sessionStorage.getItem('mark'),
        caches: await caches.keys(),
        workers: (await navigator.serviceWorker.getRegistrations()).length,
        databases: (await indexedDB.databases()).map(database => database.name),
    };
    document.cookie = 'mark=1; max-age=3600';
    localStorage.setItem('mark', '1');
    sessionStorage.setItem('mark', '1');
    await (await caches.open('mark')).put('/', new Response('mark'));
    try { await navigator.serviceWorker.register('/sw.js'); } catch (error) {}
    await new Promise((done, failed) => {
        const opening = indexedDB.open('mark', 1);
        opening.onupgradeneeded = () => opening.result.createObjectStore('mark');
        opening.onsuccess = () => { opening.result.close(); done(); };
        opening.onerror = failed;
    });
    return found;
}"""
NOTHING: dict[str, Any] = {
    "cookie": "",
    "local": None,
    "session": None,
    "caches": [],
    "workers": 0,
    "databases": [],
}


def visit(pool: BrowserPool, site: Site, **identity: Any) -> list[dict[str, Any]]:
    """What pages of two origins find in their storage."""
    found = []
    with pool.lease(**identity) as context:
        for url in (site.url, site.other_url):
            page = context.new_page()
            page.goto(url)
            found.append(page.evaluate(VISIT))
    wait_until(lambda: idle(pool))
    return found


def test_switching_profiles_there_and_back_hits_the_pool(
    pool: BrowserPool, site: Site, who: dict[str, Any], telemetry: InMemoryTelemetry
) -> None:
    since = Since(pool)
    shown = []
    for profile in ("desktop", "mobile", "desktop", "mobile"):
        with pool.lease(profile, **who) as context:
            page = context.new_page()
            page.goto(site.url)
            shown.append(page.evaluate("[innerWidth, /Mobile/.test(navigator.userAgent)]"))
        wait_until(lambda: idle(pool))
    assert [mobile for _, mobile in shown] == [False, True, False, True]
    assert shown[0][0] == 1366
    assert (since.created, since.leases, since.reused) == (2, 4, 2)
    for profile in ("desktop", "mobile"):
        assert telemetry.metric("browser.context.leases", profile=profile, reused="true") == 1
        assert telemetry.metric("browser.context.leases", profile=profile, reused="false") == 1
        assert telemetry.metric("browser.contexts", profile=profile, state="idle") == 1
    reused = [(span.attributes or {})["reused"] for span in telemetry.spans("browser.lease")]
    assert reused == [False, False, True, True]


def test_a_page_finds_no_trace_of_earlier_leases(
    pool: BrowserPool, site: Site, who: dict[str, Any]
) -> None:
    since = Since(pool)
    assert visit(pool, site, **who) == [NOTHING, NOTHING]
    # The same context again (same identity), then one of another identity.
    assert visit(pool, site, **who) == [NOTHING, NOTHING]
    assert visit(pool, site, profile="mobile", **who) == [NOTHING, NOTHING]
    assert (since.created, since.reused) == (2, 1)


def test_the_check_above_would_see_a_trace(
    pool: BrowserPool, site: Site, who: dict[str, Any]
) -> None:
    with pool.lease(**who) as context:
        page = context.new_page()
        page.goto(site.url)
        assert page.evaluate(VISIT) == NOTHING
        again = page.evaluate(VISIT)
    assert again == {
        "cookie": "mark=1",
        "local": "1",
        "session": "1",
        "caches": ["mark"],
        "workers": 0,  # blocked: it would answer before `route` and live on
        "databases": ["mark"],
    }


def test_routes_listeners_headers_and_pages_end_with_the_lease(
    pool: BrowserPool, site: Site, who: dict[str, Any]
) -> None:
    since = Since(pool)
    heard: list[str] = []
    with pool.lease(**who) as context:
        context.route("**/captions", lambda route: route.fulfill(status=418, body="routed"))
        context.on("request", lambda request: heard.append(request.url))
        context.set_extra_http_headers({"X-Mark": "1"})
        context.set_offline(True)
        context.set_offline(False)
        context.grant_permissions(["geolocation"], origin=site.url)
        context.set_default_timeout(1)
        context.set_default_timeout(30_000)
        page = context.new_page()
        page.goto(site.url)
        response = page.goto(f"{site.url}/captions")
        assert response is not None
        assert response.status == 418
        context.new_page().goto(f"{site.url}/popup")
    wait_until(lambda: idle(pool))
    assert heard
    heard.clear()
    with pool.lease(**who) as context:
        assert context.pages == []
        page = context.new_page()
        response = page.goto(f"{site.url}/captions")
        assert response is not None
        assert response.status == 200
        assert (
            page.evaluate("navigator.permissions.query({name: 'geolocation'}).then(p => p.state)")
            != "granted"
        )
    assert heard == []
    assert "x-mark" not in site.headers["/captions"]
    assert since.reused == 1


def test_what_cannot_be_undone_costs_the_context(
    pool: BrowserPool, site: Site, who: dict[str, Any], telemetry: InMemoryTelemetry
) -> None:
    since = Since(pool)
    with pool.lease(**who) as context:
        context.add_init_script("window.mark = 1")
        page = context.new_page()
        page.goto(site.url)
        assert page.evaluate("window.mark") == 1
    wait_until(lambda: since.closed.get("unhealthy") == 1)
    with pool.lease(**who) as context:
        page = context.new_page()
        page.goto(site.url)
        assert page.evaluate("window.mark") is None
    retired = telemetry.events("browser.context.retired")
    assert ("unhealthy", "add_init_script") in [(r["reason"], r["detail"]) for r in retired]


def test_an_identity_starts_every_lease_with_its_own_cookies(pool: BrowserPool, site: Site) -> None:
    since = Since(pool)

    def cookies(name: str) -> list[dict[str, str]]:
        return [{"name": "session", "value": name, "url": site.url}]

    for _ in range(2):
        for name in ("anna", "bert"):
            with pool.lease(cookies=cookies(name)) as context:
                page = context.new_page()
                page.goto(site.url)
                assert page.evaluate("document.cookie") == f"session={name}"
                page.evaluate("document.cookie = 'session=changed'")
                page.evaluate("document.cookie = 'more=1'")
            wait_until(lambda: idle(pool))
    assert (since.created, since.reused) == (2, 2)


@pytest.mark.parametrize("password", ["p+w/d@1", ""])
def test_each_proxy_has_a_context_of_its_own_and_raw_credentials_work(
    pool: BrowserPool, telemetry: InMemoryTelemetry, password: str
) -> None:
    since = Since(pool)
    with proxy("first", "user", password) as one, proxy("second", "user", password) as two:
        for _ in range(2):
            for name, server in (("first", one), ("second", two)):
                config = {"server": server, "username": "user", "password": password}
                with pool.lease(proxy=config) as context:
                    page = context.new_page()
                    page.goto("http://anywhere.test/")
                    assert page.title() == name
                wait_until(lambda: idle(pool))
    assert (since.created, since.reused) == (2, 2)
    assert not password or password not in telemetry.log_text()


def test_reuse_keeps_the_http_cache(pool: BrowserPool, site: Site, who: dict[str, Any]) -> None:
    site.hits.clear()
    for _ in range(3):
        with pool.lease(**who) as context:
            page = context.new_page()
            page.goto(f"{site.url}/watch")
            assert page.evaluate("window.loaded") is True
        wait_until(lambda: idle(pool))
    assert site.hits["/watch"] == 3
    assert site.hits["/cached.js"] == 1


def test_an_identity_that_is_not_idle_makes_room_for_the_next(
    make_pool: MakePool, site: Site
) -> None:
    pool = make_pool(max_contexts=1)
    for profile in ("desktop", "mobile"):
        assert visit(pool, site, profile=profile) == [NOTHING, NOTHING]
    assert stats(pool).closed == {"capacity": 1}
    assert stats(pool).open == 1


@pytest.mark.parametrize("profile", ["desktop", "mobile"])
def test_a_coroutine_gets_a_ready_page(pool: BrowserPool, site: Site, profile: str) -> None:
    async def work(context: LeasedContext) -> tuple[str, int, bool]:
        page = await context.new_page()
        await page.goto(site.url)
        return await page.title(), len(context.pages), page in context.pages

    assert pool.run(work, profile, timeout_s=60) == ("home", 1, True)


def test_a_context_kept_beyond_its_block_is_refused_from_the_moment_of_return(
    pool: BrowserPool, site: Site, who: dict[str, Any]
) -> None:
    with pool.lease(**who) as context:
        kept: Any = context
        page: Any = kept.new_page()
        page.goto(site.url)
        cookies, evaluate = kept.cookies, page.evaluate
    with pool.lease(**who) as context:
        context.add_cookies([{"name": "next", "value": "secret", "url": site.url}])
        others = context.new_page()
        others.goto(site.url)
        uses: list[Callable[[], Any]] = [
            lambda: kept.cookies,
            cookies,
            lambda: kept.pages,
            lambda: kept.close,
            lambda: kept.new_page,
            lambda: page.context,
            lambda: page.url,
            lambda: evaluate("1"),
            lambda: kept.on("page", print),
        ]
        for use in uses:
            with pytest.raises(LeaseLost) as refused:
                use()
            assert refused.value.reason == "returned"
        assert others.title() == "home"


def test_what_a_coroutine_keeps_of_its_context_is_refused_too(
    pool: BrowserPool, site: Site, who: dict[str, Any]
) -> None:
    async def keep(context: LeasedContext) -> tuple[Any, ...]:
        page = await context.new_page()
        return context, page, context.cookies, page.evaluate

    context, page, cookies, evaluate = pool.run(keep, **who, timeout_s=60)

    async def try_all(_: LeasedContext) -> None:
        uses: list[Callable[[], Any]] = [
            lambda: context.cookies,
            lambda: context.pages,
            cookies,
            lambda: evaluate("1"),
        ]
        for use in uses:
            with pytest.raises(LeaseLost):
                use()
        for call in (context.new_page(), context.close(), page.goto(site.url)):
            with pytest.raises(LeaseLost):
                await call

    pool.run(try_all, **who, timeout_s=60)


def test_a_cookie_that_chromium_refuses_costs_only_itself(
    pool: BrowserPool, site: Site, telemetry: InMemoryTelemetry
) -> None:
    good = {"name": "good", "value": "1", "url": site.url}
    bad = {"name": "__Host-bad", "value": "tell-nobody", "domain": ".youtube.com", "path": "/"}
    for _ in range(2):  # when it is made and when it is cleaned
        with pool.lease(cookies=[good, bad]) as context:
            assert [cookie["name"] for cookie in context.cookies()] == ["good"]
        wait_until(lambda: idle(pool))
    (refused, *_) = telemetry.events("browser.cookie.refused")
    assert refused["cookie_name"] == "__Host-bad"
    assert "tell-nobody" not in telemetry.log_text()


def test_a_page_that_never_comes_to_rest_holds_up_nobody_else(
    make_pool: MakePool, site: Site
) -> None:
    pool = make_pool(max_contexts=2, wait_s=12.0)
    with pool.lease():
        pass  # the browser is there
    with pool.lease() as context:
        context.new_page().goto(f"{site.url}/refreshing")
    with pool.lease() as context:
        assert context.new_page().evaluate("1") == 1
