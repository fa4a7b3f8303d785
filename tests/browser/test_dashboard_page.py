"""The page as a person sees it: a real Chromium over a real stack with load running.

`SCREENSHOTS_DIR=docs/images pytest tests/browser/test_dashboard_page.py` renews the
pictures of the documentation.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.pages import (
    PATIENT_MS,
    bottom,
    click_point,
    drag,
    fits,
    opened,
    picture,
    refresh_until,
    serious_violations,
    settled,
)
from tests.live import (
    FAST_TELEMETRY,
    LiveStack,
    Load,
    healthy_videos,
    running_stack,
    wait_for,
)
from transcript_service.tokens import TokenStore

# Two stages only: the two that need a browser or a speech engine would slow the load down.
ENVIRON = {
    **FAST_TELEMETRY,
    "WEB_CONCURRENCY": "1",
    "DASHBOARD_CACHE_TTL_S": "1",
    "ENABLE_TRANSCRIPT_CACHE": "0",
    "ENABLE_YOUTUBEI": "0",
    "ENABLE_ASR": "0",
}


SCREEN: Any = {"width": 1400, "height": 900}

# How often rules are evaluated and how long they wait: a minute becomes seconds.
FASTER = {
    "prometheus.yml": {
        "evaluation_interval: 15s": "evaluation_interval: 5s",
        "rule_query_offset: 30s": "rule_query_offset: 3s",
    },
    "rules/breakers.yml": {"for: 5m": "for: 10s"},
}


@pytest.fixture(scope="module")
def stack() -> Iterator[LiveStack]:
    with running_stack("page", ENVIRON) as running:
        _faster(running)
        with Load(running, healthy_videos(running)[:12], threads=2, pause_s=0.6):
            wait_for(
                "requests in the dashboard",
                lambda: (_performance(running)["data"] or {}).get("slow_requests"),
            )
            yield running


def _faster(running: LiveStack) -> None:
    for name, changes in FASTER.items():
        file = running.layout.config_dir / "prometheus" / name
        text = file.read_text()
        for slow, fast in changes.items():
            assert slow in text, f"{name} no longer says {slow}"
            text = text.replace(slow, fast)
        file.write_text(text)
    os.kill(running.pid("prometheus"), signal.SIGHUP)


def _performance(stack: LiveStack) -> Any:
    return stack.get("/api/dashboard/metrics/performance?hours=0.25").json()


def _success(stack: LiveStack) -> float:
    """The share of requests that the page shows in its tile, from 0 to 1; 1 while unknown."""
    data = _performance(stack)["data"]
    ratio = data["requests"]["success_ratio"] if data else None
    return 1.0 if ratio is None else float(ratio)


def test_it_answers_the_four_questions_at_a_glance(page: Page, stack: LiveStack) -> None:
    page.set_viewport_size(SCREEN)
    opened(page, stack)
    expect(page.locator("#verdict")).to_have_text(re.compile("healthy|degraded|unhealthy"))
    expect(page.locator("#stages")).to_contain_text("youtube_api")
    expect(page.locator("#rate .js-plotly-plot")).to_be_visible()
    expect(page.locator("#latency .js-plotly-plot")).to_be_visible()
    expect(page.locator("#breakers .strip").first).to_be_visible()
    expect(page.locator("#slow tbody tr").first).to_be_visible()
    expect(page.locator("#age")).to_have_text(re.compile(r"updated \d+ s ago"))
    # the other two stages are switched off here
    expect(page.locator(".tile", has_text="Breakers open")).to_contain_text(re.compile(r"0\s*of 2"))
    # healthy? which stage, and why? breakers? browsers? without scrolling
    for card in (
        "#health",
        "#stages",
        "#breakers",
        "#failures tbody tr, #failures .note",
        "#browsers",
    ):
        assert bottom(page, card) <= SCREEN["height"]
    picture(page, "dashboard")


def test_window_and_stage_are_chosen_kept_in_the_address_and_restored(
    page: Page, stack: LiveStack
) -> None:
    opened(page, stack)
    page.get_by_label("Last 6 hours").check()
    page.get_by_label("Stage", exact=True).select_option("youtube_api")
    expect(page).to_have_url(re.compile(r"hours=6&stage=youtube_api$"))
    expect(page.locator("#stages tbody tr")).to_have_count(2)  # the stage, and whole requests
    page.go_back()
    page.go_back()
    expect(page).to_have_url(re.compile(r"hours=0\.25$"))
    expect(page.get_by_label("Stage", exact=True)).to_have_value("")
    opened(page, stack, "/dashboard?hours=24&stage=youtube_api")
    expect(page.get_by_label("Stage", exact=True)).to_have_value("youtube_api")
    expect(page.get_by_label("Last 24 hours")).to_be_checked()


def test_a_slow_request_leads_to_its_spans_and_its_log_line(page: Page, stack: LiveStack) -> None:
    opened(page, stack)
    page.locator("#slow tbody a").first.click()
    expect(page).to_have_url(re.compile(r"/dashboard/trace/[0-9a-f]{32}$"))
    expect(page.locator("#spans")).to_contain_text("transcript.stage")
    expect(page.locator("#logs")).to_contain_text("transcript.request.finished")
    stage = page.locator(".waterfall summary", has_text="transcript.stage").first
    stage.click()
    expect(page.locator(".waterfall details[open] .inside")).to_be_visible()
    assert serious_violations(page) == []
    picture(page, "trace")


@pytest.mark.parametrize(
    ("width", "wider", "schemes"), [(1440, None, ("light", "dark")), (320, 390, ("dark", "light"))]
)
def test_axe_finds_nothing_serious_and_nothing_is_wider_than_the_screen(
    chromium: Browser, stack: LiveStack, width: int, wider: int | None, schemes: tuple[Any, Any]
) -> None:
    context = chromium.new_context()
    context.set_default_timeout(PATIENT_MS)
    page = context.new_page()

    def begins_again() -> None:
        page.set_viewport_size({"width": width, "height": 850})
        page.emulate_media(color_scheme=schemes[0])

    def reasons_in_sight() -> None:
        """Without scrolling sideways."""
        right = "(of) => Math.round(of.getBoundingClientRect().right)"
        for column in (page.locator("#stages th", has_text="P95"), page.locator("td.why").first):
            assert column.evaluate(right) <= page.locator("#stages .scroll").evaluate(right)

    def fits_everybody(name: str, also: Callable[[], None] = lambda: None) -> None:
        """In one scheme as it was opened, in the other as whoever switches sees it."""
        also()
        for scheme in schemes:
            page.emulate_media(color_scheme=scheme)
            other = {"light": "Dark", "dark": "Light"}[scheme]
            expect(page.locator("#theme")).to_have_text(other)  # the charts are drawn again
            fits(page)
            picture(page, f"{name}-{scheme}-{width}")
        if wider:
            page.set_viewport_size({"width": wider, "height": 850})
            fits(page)
            also()
            picture(page, f"{name}-{scheme}-{wider}")
        begins_again()

    try:
        begins_again()
        opened(page, stack)
        expect(page.locator("#latency .js-plotly-plot")).to_be_visible()
        fits_everybody("dashboard", reasons_in_sight)
        page.locator("#failed a, #slow tbody a").first.click()
        expect(page.locator(".waterfall li").first).to_be_visible()
        fits_everybody("trace")
        opened(page, stack, "/dashboard/traces?hours=0.25")
        expect(page.locator("#scatter .js-plotly-plot")).to_be_visible()
        fits_everybody("traces")
        opened(page, stack, "/dashboard/logs")
        expect(page.locator("#lines tbody tr").first).to_be_visible()
        fits_everybody("logs")
    finally:
        context.close()


def test_everything_can_be_reached_and_used_by_keyboard(page: Page, stack: LiveStack) -> None:
    opened(page, stack)
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to content")).to_be_focused()
    for name in ("Overview", "Traces", "Logs"):
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name=name, exact=True)).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")  # 15 minutes → 1 hour
    expect(page).to_have_url(re.compile("hours=1$"))
    page.keyboard.press("Tab")
    expect(page.get_by_label("Stage", exact=True)).to_be_focused()
    settled(page)
    page.locator("#tiles a").first.focus()
    for _ in range(3):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # from the tile to its card, and on to a trace
    expect(page).to_have_url(re.compile("#slow$"))
    # In one step: a refresh draws the card anew, and the focus would be lost.
    page.locator("#slow tbody a").first.press("Enter")
    expect(page.locator("#spans summary").first).to_be_visible()
    page.locator("#spans summary").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".waterfall details[open] .inside")).to_be_visible()


def test_a_drag_narrows_the_window_and_a_point_leads_to_its_trace(
    page: Page, stack: LiveStack
) -> None:
    opened(page, stack)
    expect(page.locator("#rate .js-plotly-plot")).to_be_visible()
    drag(page, "#rate", 0.6, 0.98)
    expect(page).to_have_url(re.compile(r"hours=0\.\d+&end=20"))
    settled(page)
    back = page.locator("#unzoom")
    expect(back).to_be_visible()
    length = float(page.url.partition("hours=")[2].partition("&")[0])
    assert 0.05 < length < 0.2
    start, end = page.locator("#unzoom").inner_text().removesuffix(" ✕").split(" – ")
    for shown in page.locator("#slow time").all_inner_texts():
        assert start <= shown <= end
    click_point(page, "#latency")
    expect(page).to_have_url(re.compile(r"/dashboard/trace/[0-9a-f]{32}$"))
    page.go_back()
    settled(page)
    expect(back).to_be_visible()  # the link was enough
    back.click()
    expect(page).to_have_url(re.compile(r"\?hours=1$"))


def test_a_chart_can_be_had_as_a_file_and_beside_the_day_before(
    page: Page, stack: LiveStack
) -> None:
    opened(page, stack)
    with page.expect_download() as saved:
        page.locator("#rate").get_by_role("button", name="CSV").click()
    head, *rows = saved.value.path().read_text().splitlines()
    assert head.startswith('"time","success (1/s)"')
    assert any(float(row.split(",")[1] or 0) > 0 for row in rows)
    page.get_by_label("Compare with").select_option("24")
    expect(page).to_have_url(re.compile("compare=24$"))
    expect(page.locator("#banners")).to_contain_text("nothing to compare with")


def test_traces_are_found_by_video_sorted_and_shared_by_their_link(
    page: Page, context: BrowserContext, stack: LiveStack
) -> None:
    video = healthy_videos(stack)[0]
    wait_for(
        "its request", lambda: stack.get(f"/api/dashboard/traces?video={video}").json()["traces"]
    )
    opened(page, stack, "/dashboard/traces?hours=0.25")
    page.get_by_role("textbox", name="Video").fill(video)
    page.get_by_role("textbox", name="Video").press("Enter")
    expect(page).to_have_url(re.compile(f"video={video}"))
    settled(page)
    found = page.locator("#found tbody tr")
    expect(found.first).to_contain_text(video)
    assert all(video in row for row in found.all_inner_texts())
    page.get_by_role("button", name="duration").click()
    expect(page).to_have_url(re.compile("sort=-duration"))
    rows = found.all_inner_texts()
    other = context.new_page()
    other.goto(page.url)
    settled(other)
    assert other.get_by_role("textbox", name="Video").input_value() == video
    expect(other.locator("#found th[aria-sort=descending]")).to_contain_text("duration")
    assert other.locator("#found tbody tr").count() >= len(rows)
    click_point(page, "#scatter")
    expect(page).to_have_url(re.compile(r"/dashboard/trace/[0-9a-f]{32}$"))
    expect(page.locator("#spans")).to_contain_text(video)


def test_what_the_api_refuses_is_shown_as_text(page: Page, stack: LiveStack) -> None:
    page.expected_complaints = ("status of 400", "status of 404")  # type: ignore[attr-defined]
    opened(page, stack, "/dashboard/traces?video=%3Cimg%20src%3Dx%3E")
    expect(page.locator("#banners")).to_contain_text("video: ")
    assert page.locator("main img").count() == 0
    opened(page, stack, "/dashboard/logs?level=shout")
    expect(page.locator("#banners")).to_contain_text("level: ")
    opened(page, stack, "/dashboard/trace/no/trace%3Cb%3E")
    expect(page.locator("h1")).to_contain_text("no/trace<b>")
    expect(page.locator("#banners .fail")).to_be_visible()


def test_the_log_is_followed_paused_and_leads_to_a_trace(page: Page, stack: LiveStack) -> None:
    opened(page, stack, "/dashboard/logs?stage=youtube_api")
    rows = page.locator("#lines tbody tr")
    expect(rows.first).to_contain_text("youtube_api")
    before = rows.count()
    wait_for("new lines", lambda: rows.count() > before)
    assert all("youtube_api" in row for row in rows.all_inner_texts())
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#verdict")).to_have_text("paused")
    still = rows.count()
    page.wait_for_timeout(5000)  # more than two of its rounds
    assert rows.count() == still
    page.get_by_role("button", name="Resume").click()
    wait_for("lines again", lambda: rows.count() > still)
    page.get_by_role("button", name="Pause").click()
    rows.first.locator("a").click()
    expect(page.locator("#logs")).to_contain_text("transcript.stage.finished")


def test_a_stage_narrows_what_it_can_and_the_rest_says_so(page: Page, stack: LiveStack) -> None:
    opened(page, stack, "/dashboard?hours=0.25&stage=youtube_api")
    expect(page.locator(".tile").first).to_contain_text("Attempts of youtube_api")
    expect(page.locator("#stages tbody tr")).to_have_count(2)
    expect(page.locator("#breakers li")).to_have_count(1)
    stages = page.locator("#slow tbody td:nth-child(5)")
    # The newest request's line may come to the log store after its trace is shown.
    refresh_until(
        page, lambda: set(stages.all_inner_texts()) == {"youtube_api"}, "slow requests of the stage"
    )
    expect(page.locator("#rate .plot")).to_have_attribute(
        "aria-label", re.compile("Attempts of youtube_api")
    )
    for card in ("health", "browsers", "memory", "proxies"):
        expect(page.locator(f"#{card} h2")).to_contain_text("whatever the stage")


def test_the_page_asks_for_a_token_and_keeps_it_in_this_tab_only(
    page: Page, context: BrowserContext, stack: LiveStack
) -> None:
    file = stack.layout.state_dir / "service" / "tokens.json"
    store = TokenStore(file)
    _, narrow = store.create("page", ["metrics:read"], timedelta(hours=1))
    page.expected_complaints = ("status of 401",)  # type: ignore[attr-defined]
    try:
        page.goto(stack.layout.url("service", "/dashboard?hours=0.25"))
        field = page.get_by_label("Token", exact=True)
        field.fill("tdash_wrong")
        field.press("Enter")
        expect(page.locator("#token-reason")).to_have_text("The token is not valid.")
        field.fill(narrow)
        field.press("Enter")
        expect(page.locator("#stages")).to_contain_text("youtube_api")
        expect(page.locator("#alerts")).to_contain_text("Your token may not see this.")
        assert narrow not in page.url
        assert page.evaluate("Object.keys(localStorage)") == []
        page.reload()
        expect(page.locator("#stages")).to_contain_text("youtube_api")
        page.get_by_text("Forget token").click()
        expect(page.locator("#token-dialog")).to_be_visible()
        elsewhere = context.new_page()
        elsewhere.goto(stack.layout.url("service", "/dashboard"))
        expect(elsewhere.locator("#token-dialog")).to_be_visible()
    finally:
        # Both, or the service remembers that it had tokens.
        file.unlink()
        file.with_name("tokens.lock").unlink()


def test_numbers_go_stale_in_plain_sight_when_prometheus_stops_and_come_back(
    page: Page, stack: LiveStack
) -> None:
    opened(page, stack)
    before = page.locator("#tiles").inner_text()
    prometheus = stack.pid("prometheus")
    os.kill(prometheus, signal.SIGSTOP)
    try:
        banner = page.locator(".banner.warn")
        refresh_until(page, lambda: "Stale" in "".join(banner.all_inner_texts()), "a stale banner")
        assert page.locator("#tiles .value").first.inner_text() != "–"
        assert before
    finally:
        os.kill(prometheus, signal.SIGCONT)
    refresh_until(
        page, lambda: page.locator(".banner").count() == 0, "numbers that are fresh again"
    )


def test_an_alert_fires_with_its_runbook_when_youtube_refuses(page: Page, stack: LiveStack) -> None:
    opened(page, stack)
    tile = page.locator(".tile", has_text="Alerts firing").locator(".value")
    expect(tile).to_have_text("0")
    stack.simulator("PUT", "faults", {"faults": ["http_403"]})
    try:
        alert = page.locator(
            "#alerts .body > ul .alert.firing", has_text="CircuitBreakerOpenTooLong"
        )
        # Drawing the page again and again until then would cost most of the test.
        fires = 'ALERTS{alertname="CircuitBreakerOpenTooLong",alertstate="firing"}'
        wait_for("a firing alert", lambda: stack.query(fires), timeout_s=240, every_s=1)
        refresh_until(page, lambda: alert.count() > 0, "the firing alert on the page")
        expect(alert).to_have_count(1)  # of all breakers together
        expect(alert).to_contain_text("critical")
        expect(alert).to_contain_text("firing since")
        runbook = alert.get_by_text("Runbook")
        name = re.compile("/runbooks/CircuitBreakerOpenTooLong$")
        expect(runbook).to_have_attribute("href", name)
        expect(tile).not_to_have_text("0")
        expect(page.locator("#verdict")).to_have_text(re.compile("degraded|unhealthy"))
        expect(page.locator("#failed tbody tr").first).to_be_visible()
        expect(page.locator("#health .fail", has_text="Alerts")).to_be_visible()
        cause = page.locator("#breakers .cause").first
        expect(cause).to_contain_text(re.compile(r"open since.*in worker [0-9a-f]{8}: .* after"))
        expect(cause).to_contain_text("http_4xx")
        expect(cause).to_contain_text(re.compile("[Pp]robe"))
        page.set_viewport_size(SCREEN)
        for part in ("#stages", "#breakers", "#failures tbody tr", "#browsers .body"):
            assert bottom(page, part) <= SCREEN["height"]
        picture(page, "dashboard-unhealthy")
        # Drawing the page again and again until then would cost much, too.
        wait_for("a fifth of the requests failed", lambda: _success(stack) < 0.8, timeout_s=240)
        from_a_red_tile_to_the_lines(page)
    finally:
        stack.simulator("DELETE", "faults")


def from_a_red_tile_to_the_lines(page: Page) -> None:
    """Four clicks: the tile, the group of failures, one trace, its lines."""
    refresh_until(
        page, lambda: page.locator("a.tile.bad", has_text="Success").count() > 0, "a red tile"
    )
    page.locator("#pause").click()
    page.locator("a.tile.bad", has_text="Success").click()
    expect(page).to_have_url(re.compile("#failures$"))
    group = page.locator("#failures tbody tr", has_text="youtube_api: http_4xx")
    group.locator("th a").click()
    expect(page).to_have_url(re.compile("stage=youtube_api.*error_type=http_4xx"))
    page.locator("#found tbody a").first.click()
    expect(page.locator("#spans")).to_contain_text("http_4xx")
    page.locator(".tile", has_text="Log lines").locator("a").click()
    expect(page.locator("#logs")).to_be_in_viewport()
    expect(page.locator("#logs")).to_contain_text("http_4xx")
