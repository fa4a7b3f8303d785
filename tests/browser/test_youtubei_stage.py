"""The browser stage on the simulated watch page: every panel, and what goes wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from simulator.testing import RunningSimulator, running_simulator
from tests.chromium import require_chromium
from transcript_service.browser import BrowserPool, PoolConfig
from transcript_service.proxies import JobProxy, ProxyPool
from transcript_service.resilience import Deadline
from transcript_service.settings import Settings
from transcript_service.telemetry.testing import InMemoryTelemetry
from transcript_service.transcripts.model import Transcript, TranscriptError
from transcript_service.transcripts.stages import youtubei
from transcript_service.transcripts.stages.base import Job
from transcript_service.transcripts.stages.youtubei import YoutubeiStage

Fetch = Callable[..., Transcript]


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    with running_simulator(tmp_path_factory.mktemp("sim")) as running:
        yield running


@pytest.fixture(scope="module")
def settings(simulator: RunningSimulator) -> Settings:
    require_chromium(None)
    return Settings(youtube_resolve_to=simulator.resolve_to, youtube_ca_file=simulator.ca_file)


@pytest.fixture(scope="module")
def pool(settings: Settings) -> Iterator[BrowserPool]:
    made = BrowserPool(PoolConfig.from_settings(settings))
    yield made
    made.close()


@pytest.fixture
def fetch(settings: Settings, pool: BrowserPool, monkeypatch: pytest.MonkeyPatch) -> Fetch:
    monkeypatch.setattr(youtubei, "get_browser_pool", lambda: pool)

    def run(video: str, *languages: str, seconds: float = 60) -> Transcript:
        job = Job(video, languages, Deadline(seconds), JobProxy(ProxyPool([]), "test", None))
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
