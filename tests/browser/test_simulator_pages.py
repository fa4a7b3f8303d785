"""The simulator's pages behave in a real browser as YouTube's do.

Slow, because `make test` uses the same pages in the tests of the stage that reads them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from simulator.catalogue import by_title, expected_transcript
from simulator.model import Video
from simulator.testing import RunningSimulator
from tests.chromium import running_chromium

EXPAND = "tp-yt-paper-button#expand"
SHOW = 'button[aria-label="Show transcript"]'
CLASSIC_ROW = "ytd-transcript-segment-renderer .segment-text"
MODERN_ROW = 'transcript-segment-view-model span.ytAttributedStringHost[role="text"]'
CLASSIC_PANEL = '[target-id="engagement-panel-searchable-transcript"]'
MODERN_PANEL = '[target-id="PAmodern_transcript_view"]'
TIMEOUT_MS = 30_000

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser(shared_simulator: RunningSimulator) -> Iterator[Browser]:
    rules = f"MAP *.youtube.com {shared_simulator.resolve_to}, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with running_chromium(f"--host-resolver-rules={rules}") as launched:
        yield launched


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context(ignore_https_errors=True) as context:
        context.set_default_timeout(TIMEOUT_MS)
        yield context.new_page()


def watch(page: Page, video: Video, host: str = "www.youtube.com") -> None:
    page.goto(f"https://{host}/watch?v={video.id}")


def texts(video: Video) -> list[str]:
    return [" ".join(segment.text.split()) for segment in expected_transcript(video.id)]


def rows(page: Page, selector: str) -> list[str]:
    page.wait_for_selector(selector)
    return [" ".join(text.split()) for text in page.locator(selector).all_text_contents()]


@pytest.mark.parametrize(
    ("title", "panel", "row", "calls"),
    [
        ("Bread for a Village", CLASSIC_PANEL, CLASSIC_ROW, "get_transcript"),
        ("The Clock Mender", CLASSIC_PANEL, CLASSIC_ROW, "get_transcript"),
        ("The Seven O'Clock Train", MODERN_PANEL, MODERN_ROW, "get_panel"),
        ("Maps of Nowhere", "ytd-engagement-panel-section-list-renderer", MODERN_ROW, "get_panel"),
    ],
)
def test_a_real_click_opens_each_layout(
    simulator: RunningSimulator, page: Page, title: str, panel: str, row: str, calls: str
) -> None:
    video = by_title(title)
    watch(page, video)
    assert page.locator(panel).get_attribute("visibility") == "ENGAGEMENT_PANEL_VISIBILITY_HIDDEN"
    page.click(EXPAND)
    page.click(SHOW)
    assert rows(page, row) == texts(video)
    assert [entry["client"] for entry in simulator.requests(endpoint=calls)] == ["WEB"]


def test_with_chapters_the_tabbed_panel_opens_on_them(page: Page) -> None:
    video = by_title("Apple Trees")
    watch(page, video)
    page.click(EXPAND)
    page.click(SHOW)
    assert page.locator("ytd-macro-markers-list-item-renderer:visible").count() == 2
    assert page.locator(MODERN_ROW).count() == 0
    page.click('yt-tab-shape[tab-title="Transcript"]')
    assert rows(page, MODERN_ROW) == texts(video)


def test_the_classic_layout_opens_from_the_menu_too(page: Page) -> None:
    video = by_title("Bread for a Village")
    watch(page, video)
    page.click("ytd-menu-renderer #button-shape button[aria-label*='More actions']")
    page.click("tp-yt-paper-listbox [role='menuitem']:has-text('Show transcript')")
    assert rows(page, CLASSIC_ROW) == texts(video)


def test_the_mobile_page_has_its_own_elements(page: Page) -> None:
    video = by_title("The Seven O'Clock Train")
    watch(page, video, "m.youtube.com")
    page.click("button.slim-video-metadata-header")
    page.click(SHOW)
    assert rows(page, "ytm-watch " + MODERN_ROW) == texts(video)


def test_a_click_from_a_script_opens_nothing(simulator: RunningSimulator, page: Page) -> None:
    watch(page, by_title("The Seven O'Clock Train"))
    page.click(EXPAND)
    page.locator(SHOW).evaluate("button => button.click()")
    page.evaluate("() => new Promise(requestAnimationFrame)")
    assert page.locator(MODERN_PANEL + ":visible").count() == 0
    assert simulator.requests(endpoint="get_panel") == []


@pytest.mark.parametrize("title", ["No Transcript Button", "Captions Switched Off"])
def test_without_captions_or_button_there_is_nothing_to_click(page: Page, title: str) -> None:
    watch(page, by_title(title))
    page.click(EXPAND)
    assert page.locator(SHOW).count() == 0


def test_consent_leads_away_and_back(simulator: RunningSimulator, page: Page) -> None:
    video = by_title("Before You Continue")
    watch(page, video)
    assert page.url.startswith("https://consent.youtube.com/m?")
    page.click("text=Accept all")
    page.wait_for_url(f"https://www.youtube.com/watch?v={video.id}")
    assert {"SOCS", "CONSENT"} <= {cookie["name"] for cookie in page.context.cookies()}
    page.reload()
    assert page.url.startswith("https://www.youtube.com/")


def test_the_consent_dialog_covers_the_page_until_answered(
    simulator: RunningSimulator, page: Page
) -> None:
    video = by_title("The Seven O'Clock Train")
    simulator.set_fault(video.id, "consent_dialog")
    watch(page, video)
    with pytest.raises(PlaywrightTimeout):
        page.click(EXPAND, timeout=700)
    page.click("ytd-consent-bump-v2-lightbox button:has-text('Reject all')")
    page.click(EXPAND)
    page.reload()
    assert page.locator("ytd-consent-bump-v2-lightbox").count() == 0


def test_a_refused_panel_says_so_and_can_be_tried_again(
    simulator: RunningSimulator, page: Page
) -> None:
    video = by_title("The Seven O'Clock Train")
    simulator.set_fault(video.id, "http_400@get_panel")
    watch(page, video)
    page.click(EXPAND)
    page.click(SHOW)
    page.wait_for_selector(".transcript-error")
    simulator.set_fault(video.id)
    page.click('button[aria-label="Tap to retry"]')
    assert rows(page, MODERN_ROW) == texts(video)


@pytest.mark.parametrize(
    ("title", "row"),
    [("The Seven O'Clock Train", MODERN_ROW), ("Bread for a Village", CLASSIC_ROW)],
)
def test_the_page_shows_an_answer_that_nobody_else_can_read(
    simulator: RunningSimulator, page: Page, title: str, row: str
) -> None:
    video = by_title(title)
    simulator.set_fault(video.id, "unknown_shape")
    watch(page, video)
    page.click(EXPAND)
    page.click(SHOW)
    assert rows(page, row) == texts(video)


def test_an_endless_script_never_gives_the_page_back(
    simulator: RunningSimulator, page: Page
) -> None:
    video = by_title("The Seven O'Clock Train")
    simulator.set_fault(video.id, "endless_script")
    watch(page, video)
    page.click(EXPAND)
    with pytest.raises(PlaywrightTimeout):
        open_and_wait(page)


def open_and_wait(page: Page) -> None:
    page.click(SHOW, timeout=1500)  # sent to a page that answers nothing any more
    page.wait_for_function("true", timeout=1500)
