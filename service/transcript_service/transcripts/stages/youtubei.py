"""Stage 3: a real browser opens the watch page and its transcript panel.

Tried as desktop and mobile page, directly and through the job's proxy. A refusal of our
address ends the direct tries, an answer about the video ends them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, cast
from urllib.parse import urlencode

import orjson
from opentelemetry import trace
from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Page, Response
from playwright.async_api import TimeoutError as PlaywrightTimeout

from ...browser import (
    OVERLOAD,
    BrowserUnavailable,
    LeasedContext,
    LeaseLost,
    get_browser_pool,
)
from ...proxies import Proxy
from ...telemetry import get_logger, set_attributes
from ...telemetry.vocabulary import ANSWERS, PROFILES, ErrorType, Profile, Stage
from ..cookies import for_browser
from ..http import refused
from ..model import NotTried, Track, Transcript, TranscriptError
from ..panel import Captured, open_and_capture, pass_consent
from ..player import check_watch_page, read_player
from .base import Job, TranscriptStage, rotation_reason_of

log = get_logger(__name__)

_HOSTS: Final[dict[Profile, str]] = {"desktop": "www.youtube.com", "mobile": "m.youtube.com"}
# Said of our address: the other page would hear the same from here.
_ADDRESS: Final[frozenset[ErrorType]] = frozenset(
    {"ip_blocked", "request_blocked", "rate_limited", "country_blocked"}
)
# Ends the tries: what is said of the video on every page, and a browser that does not run.
_ENDS: Final = (ANSWERS - _ADDRESS) | {"browser_unavailable"}
# One try needs a page load, a few clicks and the panel's own request.
_TRY_S: Final = 25.0
_SHORTEST_TRY_S: Final = 3.0
# What was sent, without the elements that a browser puts around nothing.
_CONTENT: Final = """() => [document.head, document.body]
    .map(part => part ? part.innerHTML : '').join('')"""


class YoutubeiStage(TranscriptStage):
    """Transcripts from the watch page's panel."""

    name: Stage = "youtubei"

    def fetch(self, job: Job) -> Transcript:
        first: TranscriptError | None = None
        blocked = False
        for profile, proxy in self._ways(job):
            if first and (
                (blocked and proxy is None) or job.deadline.remaining() < _SHORTEST_TRY_S
            ):
                continue
            job.notes.profile, job.notes.proxy_used = profile, proxy is not None
            try:
                return self._try(job, profile, proxy)
            except TranscriptError as error:
                first = first or error
                if error.error_type in _ADDRESS and proxy is None:
                    blocked = True
                elif reason := rotation_reason_of(error):
                    job.proxy.rotate(reason, job.deadline)
                if error.error_type in _ENDS:
                    raise
        raise first or TranscriptError("proxy_error", "Direct connections are not allowed.")

    def _ways(self, job: Job) -> Iterator[tuple[Profile, Proxy | None]]:
        for profile in PROFILES:
            if job.proxy.direct_allowed:
                yield profile, None
            if job.proxy.identity is not None:  # asked anew: it may have been rotated meanwhile
                yield profile, job.proxy.identity

    def _try(self, job: Job, profile: Profile, proxy: Proxy | None) -> Transcript:
        timeout_s = job.deadline.timeout(_TRY_S)

        async def work(context: LeasedContext) -> tuple[tuple[Track, ...], Track, Captured]:
            page = cast("Page", await context.new_page())
            tracks = await _load(page, job.video_id, profile)
            track = self.track_for(job, tracks)
            left_s = context.remaining_s - 1.0  # so that the panel's own error is told
            captured = await open_and_capture(page, track, job.video_id, left_s)
            if captured.layout != "get_transcript" and track is not _shown(tracks, track):
                raise NotTried("language_unavailable", "The panel shows one track a language.")
            return tracks, track, captured

        try:
            tracks, track, captured = get_browser_pool().run(
                work, profile, proxy, for_browser(self._settings, profile), timeout_s=timeout_s
            )
        except (BrowserUnavailable, LeaseLost, TimeoutError, PlaywrightError) as error:
            raise _meaning(error) from None
        set_attributes(trace.get_current_span(), panel_layout=captured.layout)
        log.info("transcript.panel.captured", profile=profile, layout=captured.layout)
        return Transcript(
            video_id=job.video_id,
            source="youtubei",
            language=track.language,
            kind=track.kind,
            segments=tuple(captured.segments),
            track=track.name,
            available=tracks,
        )


def _shown(tracks: Sequence[Track], track: Track) -> Track:
    """The track that a panel shows which is asked for a language alone."""
    like = (track.language, track.kind)
    return next(other for other in tracks if (other.language, other.kind) == like)


async def _load(page: Page, video_id: str, profile: Profile) -> tuple[Track, ...]:
    """Load the watch page and read what it says about the video's captions.

    Raises:
        TranscriptError: as `read_player`, and what a page that is no watch page means.
    """
    query = urlencode({"v": video_id, "hl": "en"})
    # An error status without a body fails the navigation, and only the event tells it.
    statuses: list[int] = []

    def answered(response: Response) -> None:
        with suppress(PlaywrightError):  # a window that is about to open has no frame yet
            if response.request.is_navigation_request() and response.frame == page.main_frame:
                statuses.append(response.status)

    page.on("response", answered)
    try:
        await page.goto(f"https://{_HOSTS[profile]}/watch?{query}", wait_until="domcontentloaded")
    except PlaywrightError as error:
        if "ERR_HTTP_RESPONSE_CODE_FAILURE" not in str(error) or not statuses:
            raise
        raise refused(statuses[-1]) from None
    finally:
        page.remove_listener("response", answered)
    if statuses and statuses[-1] >= 400:
        raise refused(statuses[-1])
    await pass_consent(page)
    player: Any = await page.evaluate("() => window.ytInitialPlayerResponse || null")
    if player is None:
        check_watch_page(str(await page.evaluate(_CONTENT)).encode())
        raise TranscriptError("html_body", "YouTube answered with a page that is no watch page.")
    return read_player(orjson.dumps(player), video_id).captions()


def _meaning(error: Exception) -> TranscriptError:
    """What a browser's failure means; Playwright's texts quote URLs and stay behind."""
    if isinstance(error, BrowserUnavailable):
        # Our own overload is no fault of the stage, and its breaker must outlast a rush.
        kind = NotTried if error.reason in OVERLOAD else TranscriptError
        return kind("browser_unavailable", str(error), retry_after_s=error.retry_after_s)
    if isinstance(error, LeaseLost) and error.reason != "expired":
        return TranscriptError("browser_unavailable", "The browser died on this page.")
    if isinstance(error, TimeoutError | PlaywrightTimeout | LeaseLost):
        return TranscriptError("timeout", "The page did not come in time.")
    text = str(error)
    if "ERR_PROXY" in text or "ERR_TUNNEL" in text:
        return TranscriptError("proxy_error", "The proxy refused or failed.")
    if "net::ERR" in text:
        return TranscriptError("connection_error", "The page could not be loaded.")
    return TranscriptError("browser_unavailable", "The browser failed on this page.")
