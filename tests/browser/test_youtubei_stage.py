"""The browser stage on the simulated watch page: every panel, and what goes wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trustme
from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Route

from simulator.testing import RunningSimulator, running_simulator
from tests.browser.site import Site, serve
from tests.needed import require_chromium
from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.browser import OVERLOAD, BrowserPool, BrowserUnavailable
from transcript_service.browser.errors import UnavailableReason
from transcript_service.proxies import JobProxy, ProxyPool
from transcript_service.resilience import Deadline
from transcript_service.settings import Settings
from transcript_service.transcripts.model import NotTried, Transcript, TranscriptError
from transcript_service.transcripts.stages import youtubei
from transcript_service.transcripts.stages.base import Job, rotation_reason_of
from transcript_service.transcripts.stages.youtubei import YoutubeiStage
from transcript_service.transcripts.wanted import Wanted

Fetch = Callable[..., Transcript]


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    with running_simulator(tmp_path_factory.mktemp("sim")) as running:
        yield running


@pytest.fixture(scope="module")
def settings(simulator: RunningSimulator) -> Settings:
    require_chromium(None)
    return patient(simulator.resolve_to, simulator.ca_file)


def patient(resolve_to: str, ca_file: Path) -> Settings:
    """With time for a busy machine to start Chromium."""
    return Settings(
        youtube_resolve_to=resolve_to, youtube_ca_file=ca_file, browser_acquire_timeout_s=60
    )


@pytest.fixture(scope="module")
def pool(settings: Settings) -> Iterator[BrowserPool]:
    made = BrowserPool(settings)
    yield made
    made.close()


@pytest.fixture
def fetch(settings: Settings, pool: BrowserPool, monkeypatch: pytest.MonkeyPatch) -> Fetch:
    monkeypatch.setattr(youtubei, "get_browser_pool", lambda: pool)

    def run(video: str, *languages: str, seconds: float = 60) -> Transcript:
        job = Job(
            Wanted(video, languages), Deadline(seconds), JobProxy(ProxyPool([]), "test", None)
        )
        return YoutubeiStage(settings).fetch(job)

    return run


@pytest.fixture
def healthy(simulator: RunningSimulator) -> Iterator[Callable[..., str]]:
    """A playable video with manual captions and the given panel, and no fault afterwards."""

    def find(panel: str, language: str = "en") -> str:
        return next(
            video.id
            for video in simulator.state.videos()
            if video.playability.ok and video.panel == panel and video.track(language, "manual")
        )

    yield find
    simulator.reset()


@pytest.mark.parametrize(
    ("panel", "layout"),
    [("modern", "get_panel"), ("classic", "get_transcript"), ("tabbed", "get_panel")],
)
def test_the_lines_of_every_panel_are_captured_and_the_layout_is_told(
    fetch: Fetch,
    healthy: Callable[..., str],
    simulator: RunningSimulator,
    telemetry: InMemoryTelemetry,
    panel: str,
    layout: str,
) -> None:
    video = healthy(panel)
    transcript = fetch(video, "en")
    track = next(v for v in simulator.state.videos() if v.id == video).track("en", "manual")
    assert track is not None
    assert [s.text for s in transcript.segments] == [
        " ".join(s.text.split()) for s in track.segments() if s.text.strip()
    ]
    # The modern panel tells whole seconds only.
    tolerance = 0.001 if layout == "get_transcript" else 1.0
    wanted = [s.start for s in track.segments() if s.text.strip()]
    for segment, start in zip(transcript.segments, wanted, strict=True):
        assert abs(segment.start - start) < tolerance
    (event,) = telemetry.events("transcript.panel.captured")
    assert event["layout"] == layout


def test_the_wanted_language_is_asked_for_whatever_the_page_shows(
    fetch: Fetch, healthy: Callable[..., str]
) -> None:
    for panel in ("classic", "modern"):
        transcript = fetch(healthy(panel, "de"), "de")
        assert transcript.language == "de"
        assert transcript.segments[0].text.startswith("Das ist")


def test_a_page_script_that_never_ends_is_left_in_time_and_the_pool_serves_on(
    fetch: Fetch, healthy: Callable[..., str], simulator: RunningSimulator
) -> None:
    video = healthy("modern")
    simulator.set_fault(video, "endless_script")
    deadline = Deadline(300)
    with pytest.raises(TranscriptError) as failure:
        fetch(video, "en", seconds=8)
    assert failure.value.error_type == "timeout"
    assert deadline.remaining() > 300 - 8 - 3
    simulator.set_fault(video)
    assert fetch(video, "en").segments


def test_a_request_that_cannot_be_sent_on_costs_no_other_lease_a_call(
    fetch: Fetch,
    healthy: Callable[..., str],
    pool: BrowserPool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As that of a page which is just being closed."""
    send_on = Route.continue_
    failed: list[Route] = []

    async def fail(route: Route, **options: Any) -> None:
        await send_on(route, **options)  # or the stage would wait for its answer
        failed.append(route)
        raise PlaywrightError("Target page, context or browser has been closed")

    with pool.lease("mobile") as elsewhere:
        page = elsewhere.new_page()
        monkeypatch.setattr(Route, "continue_", fail)
        with ThreadPoolExecutor() as threads:
            fetching = threads.submit(fetch, healthy("classic"), "en")
            while not fetching.done():
                assert page.evaluate("1") == 1
        assert fetching.result().segments
        assert failed


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Settings]]:
    """A server under YouTube's names that answers with a status alone, and who trusts it."""
    authority = trustme.CA()
    ca_file = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    with serve(authority.issue_cert("www.youtube.com", "m.youtube.com")) as site:
        yield site, patient(site.address, ca_file)


@pytest.fixture(scope="module")
def refused(refusing: tuple[Site, Settings]) -> Iterator[BrowserPool]:
    made = BrowserPool(refusing[1])
    yield made
    made.close(grace_s=0)


@pytest.mark.parametrize(
    ("status", "error_type", "reason"),
    [(429, "ip_blocked", "http_429"), (403, "http_4xx", "http_403"), (503, "http_5xx", None)],
)
def test_a_refusal_without_a_body_is_told_by_its_status_and_not_blamed_on_a_proxy(
    refusing: tuple[Site, Settings],
    refused: BrowserPool,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    error_type: str,
    reason: str | None,
) -> None:
    site, settings = refusing
    site.bodiless = status
    monkeypatch.setattr(youtubei, "get_browser_pool", lambda: refused)
    job = Job(Wanted("dQw4w9WgXcQ"), Deadline(60), JobProxy(ProxyPool([]), "test", None))
    with pytest.raises(TranscriptError) as failure:
        YoutubeiStage(settings).fetch(job)
    assert (failure.value.error_type, failure.value.status) == (error_type, status)
    assert rotation_reason_of(failure.value) == reason


@pytest.mark.parametrize("reason", sorted(OVERLOAD))
def test_the_pools_own_overload_counts_against_nobody(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, reason: UnavailableReason
) -> None:
    class Busy:
        def run(self, *_: object, **__: object) -> None:
            raise BrowserUnavailable(reason, "busy", 7.0)

    monkeypatch.setattr(youtubei, "get_browser_pool", Busy)
    job = Job(Wanted("dQw4w9WgXcQ"), Deadline(60), JobProxy(ProxyPool([]), "test", None))
    with pytest.raises(NotTried) as failure:
        YoutubeiStage(settings).fetch(job)
    assert (failure.value.error_type, failure.value.retry_after_s) == ("browser_unavailable", 7.0)
