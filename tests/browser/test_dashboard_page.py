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

from tests.browser.pages import PATIENT_MS, picture, serious_violations
from tests.live import (
    FAST_TELEMETRY,
    LiveStack,
    Load,
    healthy_videos,
    running_stack,
    wait_for,
)
from transcript_service.web.tokens import TokenStore

# Two stages only: the two that need a browser or a speech engine would slow the load down.
ENVIRON = {
    **FAST_TELEMETRY,
    "WEB_CONCURRENCY": "1",
    "DASHBOARD_CACHE_TTL_S": "1",
    "ENABLE_TRANSCRIPT_CACHE": "0",
    "ENABLE_YOUTUBEI": "0",
    "ENABLE_ASR": "0",
}


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
        with Load(running, healthy_videos(running)[:12], threads=2, pause_s=0.4):
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


def opened(page: Page, stack: LiveStack, query: str = "?hours=0.25") -> Page:
    page.goto(stack.layout.url("service", f"/dashboard{query}"))
    expect(page.locator("main")).to_have_attribute("aria-busy", "false")
    return page


def refresh_until(page: Page, seen: Callable[[], bool], what: str, timeout_s: float = 150) -> None:
    """Refresh the page by its own button until something is to be seen."""

    def look() -> bool:
        page.locator("#pause").click()
        page.locator("#pause").click()
        expect(page.locator("main")).to_have_attribute("aria-busy", "false")
        return seen()

    wait_for(what, look, timeout_s=timeout_s)


def test_it_answers_the_four_questions_at_a_glance(page: Page, stack: LiveStack) -> None:
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
    picture(page, "dashboard")


def test_window_and_stage_are_chosen_kept_in_the_address_and_restored(
    page: Page, stack: LiveStack
) -> None:
    opened(page, stack)
    page.get_by_label("Last 6 hours").check()
    page.locator("#stage").select_option("youtube_api")
    expect(page).to_have_url(re.compile(r"hours=6&stage=youtube_api$"))
    expect(page.locator("#stages tbody tr")).to_have_count(2)  # the stage, and whole requests
    page.go_back()
    page.go_back()
    expect(page).to_have_url(re.compile(r"hours=0\.25$"))
    expect(page.locator("#stage")).to_have_value("")
    opened(page, stack, "?hours=24&stage=youtube_api")
    expect(page.locator("#stage")).to_have_value("youtube_api")
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


def fits(page: Page) -> None:
    """Nobody is kept out, and nothing is wider than the screen."""
    assert serious_violations(page) == []
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) <= 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_axe_finds_nothing_serious_and_nothing_is_wider_than_the_screen(
    chromium: Browser, stack: LiveStack, scheme: Any, width: int
) -> None:
    context = chromium.new_context(
        viewport={"width": width, "height": 850}, color_scheme=scheme, reduced_motion="reduce"
    )
    context.set_default_timeout(PATIENT_MS)
    try:
        page = opened(context.new_page(), stack)
        expect(page.locator("#latency .js-plotly-plot")).to_be_visible()
        fits(page)
        # without scrolling sideways
        right = "(of) => Math.round(of.getBoundingClientRect().right)"
        column = page.locator("#stages th", has_text="P95").evaluate(right)
        assert column <= page.locator("#stages .scroll").evaluate(right)
        picture(page, f"dashboard-{scheme}-{width}")
        page.locator("#failed a, #slow tbody a").first.click()
        expect(page.locator(".waterfall li").first).to_be_visible()
        fits(page)
        picture(page, f"trace-{scheme}-{width}")
    finally:
        context.close()


def test_everything_can_be_reached_and_used_by_keyboard(page: Page, stack: LiveStack) -> None:
    opened(page, stack)
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to content")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")  # 15 minutes → 1 hour
    expect(page).to_have_url(re.compile("hours=1$"))
    page.keyboard.press("Tab")
    expect(page.locator("#stage")).to_be_focused()


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
        alert = page.locator("#alerts .alert.firing", has_text="CircuitBreakerOpenTooLong")
        refresh_until(page, lambda: alert.count() > 0, "a firing alert", timeout_s=240)
        expect(alert.first).to_contain_text("critical")
        expect(alert.first).to_contain_text("firing since")
        runbook = alert.first.get_by_text("What to do (runbook)")
        name = re.compile("/runbooks/CircuitBreakerOpenTooLong$")
        expect(runbook).to_have_attribute("href", name)
        expect(tile).not_to_have_text("0")
        expect(page.locator("#verdict")).to_have_text(re.compile("degraded|unhealthy"))
        expect(page.locator("#failed tbody tr").first).to_be_visible()
        picture(page, "dashboard-alert")
    finally:
        stack.simulator("DELETE", "faults")
