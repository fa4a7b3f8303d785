"""Driving YouTube's watch page to its transcript panel, whichever panel it has.

Three things can bring the lines: the answer of `get_panel` (modern panel), the answer of
`get_transcript` (classic panel) and the rows in the page. All are awaited at once and the
first that can be read wins, because no one of them is there on every page.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, quote, urlsplit

import orjson
from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Page, Response, Route
from playwright.async_api import TimeoutError as PlaywrightTimeout

from .captions import parse_get_panel, parse_get_transcript, with_durations
from .http import refused
from .model import Segment, Track, TranscriptError
from .player import another_video

_PARSERS: Final[dict[str, Callable[[bytes], list[Segment]]]] = {
    "get_panel": parse_get_panel,
    "get_transcript": parse_get_transcript,
}

# Buttons are found by structure first; the words are English because the page is asked for
# in English. One list each for the desktop and the mobile page's elements.
_CONSENT: Final = (
    'button:has-text("Reject all"), button:has-text("Accept all"), button:has-text("I agree")'
)
_DIALOG: Final = "ytd-consent-bump-v2-lightbox"
_EXPAND: Final = (
    "tp-yt-paper-button#expand, #description #expand, button.slim-video-metadata-header, "
    'button[aria-label="Show more"]'
)
_SHOW: Final = (
    'ytd-video-description-transcript-section-renderer button, button[aria-label="Show transcript"]'
)
_MORE: Final = 'ytd-menu-renderer button[aria-label="More actions"]'
_MENU_ENTRY: Final = "[role='menuitem']:has-text(\"Show transcript\")"
_TAB: Final = 'yt-tab-shape[tab-title="Transcript"][aria-selected="false"]'
_ROWS: Final = (
    "transcript-segment-view-model, ytd-transcript-segment-renderer, "
    "ytm-transcript-segment-renderer"
)
# Time and text of every row; the label that reads the time out to screen readers is left out.
_READ_ROWS: Final = """rows => rows.map(row => [
    '.segment-timestamp, .ytwTranscriptSegmentViewModelTimestamp',
    '.segment-text, span[role="text"], .yt-core-attributed-string',
].map(part => (row.querySelector(part) || {}).textContent || ''))"""
# The video that an answer's lines belong to, where they say so.
_TARGET: Final = re.compile(rb'"targetId"\s*:\s*"([\w-]{11})\.')
_PANEL_ID: Final = b"engagement-panel-searchable-transcript-search-panel"


class Captured(NamedTuple):
    """What the panel gave, and the way it came: one of `_PARSERS`, or `dom`."""

    segments: list[Segment]
    layout: str


async def pass_consent(page: Page) -> None:
    """Get past the consent page, where YouTube sent us there.

    Raises:
        TranscriptError: `consent_required` where it stays.
    """
    if not _on_consent_page(page):
        return
    with suppress(PlaywrightTimeout):
        await page.locator(_CONSENT).first.click(timeout=5000)
        await page.wait_for_url(lambda url: "/watch" in urlsplit(url).path, timeout=10_000)
    if _on_consent_page(page):
        raise TranscriptError("consent_required", "YouTube asks for cookie consent first.")


def _on_consent_page(page: Page) -> bool:
    return (urlsplit(page.url).hostname or "").startswith("consent.")


async def open_and_capture(page: Page, track: Track, video_id: str, timeout_s: float) -> Captured:
    """Open the transcript panel and take the lines of `track`.

    Raises:
        TranscriptError: `parse_error` where the page has no panel to open or nothing in it
            can be read, `timeout` where nothing came, or what an answer meant.
    """
    arrived: asyncio.Queue[Captured | TranscriptError] = asyncio.Queue()
    reading: set[asyncio.Task[None]] = set()

    def heard(response: Response) -> None:
        layout = urlsplit(response.url).path.removeprefix("/youtubei/v1/")
        if layout in _PARSERS and response.request.method == "POST":
            task = asyncio.create_task(_read(response, layout, video_id, arrived))
            reading.add(task)
            task.add_done_callback(reading.discard)

    async def ask_for_track(route: Route) -> None:
        # Playwright would raise the error, that of a page being closed for instance, in the
        # next call on this browser: another lease's perhaps.
        with suppress(PlaywrightError):
            body = _for_track(route.request.post_data_buffer, track, video_id)
            await route.continue_(post_data=body)

    await page.route("**/youtubei/v1/get_transcript?*", ask_for_track)
    await page.route("**/youtubei/v1/get_panel?*", ask_for_track)
    page.on("response", heard)
    rows = asyncio.create_task(_rows(page, arrived, timeout_s))
    try:
        async with asyncio.timeout(timeout_s):
            await _open(page)
            captured = await _first(arrived)
            if video_id not in page.url:  # the page went on to the next video
                raise another_video()
            return captured
    except TimeoutError:
        raise TranscriptError("timeout", "The transcript panel stayed empty.") from None
    finally:
        for task in (rows, *reading):
            task.cancel()
        page.remove_listener("response", heard)


async def _first(arrived: asyncio.Queue[Captured | TranscriptError]) -> Captured:
    """The first lines that arrive; a bad answer counts only if the rows fail as well."""
    problem: TranscriptError | None = None
    while True:
        try:
            # After a bad answer the page may still show rows, but not for long.
            item = await asyncio.wait_for(arrived.get(), 3.0 if problem else None)
        except TimeoutError:
            if problem is None:
                raise
            raise problem from None
        if isinstance(item, Captured):
            return item
        if item.error_type == "wrong_video":  # and so are the rows that it makes
            raise item
        problem = problem or item


async def _open(page: Page) -> None:
    """Click through to the panel, with real input: the page ignores clicks made by scripts."""
    if await page.locator(_DIALOG).count():
        await page.locator(f"{_DIALOG} >> {_CONSENT}").first.click(timeout=5000)
    with suppress(PlaywrightTimeout):
        await _click(page, _EXPAND, 3000)
    if not (
        await _click(page, _SHOW, 3000)
        or (await _click(page, _MORE, 500) and await _click(page, _MENU_ENTRY, 2000))
    ):
        raise TranscriptError("parse_error", "The page offers no transcript panel.")
    await _click(page, _TAB, 300)


async def _click(page: Page, selector: str, timeout_ms: float) -> bool:
    """Click what becomes visible in time; whether there was anything."""
    found = page.locator(selector).first
    try:
        await found.wait_for(state="visible", timeout=timeout_ms)
    except PlaywrightTimeout:
        return False
    await found.click(timeout=5000)
    return True


async def _read(
    response: Response,
    layout: str,
    video_id: str,
    arrived: asyncio.Queue[Captured | TranscriptError],
) -> None:
    try:
        if response.status >= 400:
            raise refused(response.status)
        body = await response.body()
        about = _TARGET.search(body)
        if about and about[1].decode() != video_id:
            raise another_video()
        await arrived.put(Captured(_PARSERS[layout](body), layout))
    except TranscriptError as error:
        await arrived.put(error)
    except PlaywrightError:
        pass  # the page went on before the body was read; the rows are still to come


async def _rows(
    page: Page, arrived: asyncio.Queue[Captured | TranscriptError], timeout_s: float
) -> None:
    with suppress(PlaywrightError):
        await page.locator(_ROWS).first.wait_for(state="attached", timeout=timeout_s * 1000)
        # The network answer, which has end times, is usually a moment later than its rows.
        await asyncio.sleep(0.5)
        found = await page.locator(_ROWS).evaluate_all(_READ_ROWS)
        try:
            await arrived.put(Captured(with_durations(found), "dom"))
        except TranscriptError as error:
            await arrived.put(error)


def _for_track(body: bytes | None, track: Track, video_id: str) -> bytes | None:
    """The page's own request, for the wanted track instead of the page's choice.

    The classic panel names the track in `params`; the modern one follows the interface
    language of the client.
    """
    try:
        request: dict[str, Any] = orjson.loads(body or b"")
        if "panelId" in request:
            request["context"]["client"]["hl"] = track.language
        else:
            request["params"] = transcript_params(video_id, track)
        return orjson.dumps(request)
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return body


def transcript_params(video_id: str, track: Track) -> str:
    """`params` of get_transcript: a protobuf message, as base64, as URL component.

    Fields as in recorded pages: 1 video, 2 the track (1 kind, 2 language, 3 the name that
    tells it from others of its language), 3 = 1, 5 the panel, 6 to 8 = 1.
    """
    kind = b"asr" if track.kind == "asr" else b""
    name = parse_qs(urlsplit(track.url).query).get("name", [""])[0].encode()
    inner = _field(1, kind) + _field(2, track.language.encode()) + _field(3, name)
    message = (
        _field(1, video_id.encode())
        + _field(2, _component(inner).encode())
        + _flag(3)
        + _field(5, _PANEL_ID)
        + b"".join(_flag(number) for number in (6, 7, 8))
    )
    return _component(message)


def _component(message: bytes) -> str:
    return quote(b64encode(message).decode(), safe="")


def _field(number: int, value: bytes) -> bytes:
    # Wire type 2; the length is a varint, seven bits a byte, the lowest first.
    length, more = [], len(value)
    while more > 127:
        length.append(more & 127 | 128)
        more >>= 7
    return bytes([number << 3 | 2, *length, more]) + value


def _flag(number: int) -> bytes:
    return bytes([number << 3, 1])
