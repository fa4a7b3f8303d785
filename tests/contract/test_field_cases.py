"""Situations that people reported, through each stage that can meet them and over HTTP.

The folder is described in its README; what is right stands here, in words in each case's
EXPECTED.txt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from simulator.testing import RunningSimulator
from tests import recorded
from tests.service_process import Service, service
from transcript_service.proxies import JobProxy, ProxyPool
from transcript_service.resilience import CircuitBreaker, CircuitBreakerConfig, Deadline
from transcript_service.settings import Settings
from transcript_service.telemetry.vocabulary import STAGES, ErrorType, Stage
from transcript_service.transcripts.model import TranscriptError
from transcript_service.transcripts.pipeline import Pipeline
from transcript_service.transcripts.stages.base import Job
from transcript_service.transcripts.stages.timedtext import TimedtextStage
from transcript_service.transcripts.stages.youtube_api import YouTubeApiStage
from transcript_service.transcripts.stages.youtubei import YoutubeiStage
from transcript_service.transcripts.wanted import Wanted

FOLDER = Path(__file__).parents[3] / "shared" / "field-cases"
if not FOLDER.is_dir():
    pytest.skip("no field cases beside this checkout", allow_module_level=True)
BY_HTTP: tuple[Stage, ...] = ("youtube_api", "timedtext")
BY_PAGE: tuple[Stage, ...] = (*BY_HTTP, "youtubei")
MAKE = {
    "youtube_api": YouTubeApiStage,
    "timedtext": TimedtextStage,
    "youtubei": YoutubeiStage,
}


@dataclass(frozen=True, slots=True)
class FieldCase:
    """A request for a case's video, and the lines or the error that are right."""

    video: str
    lines: tuple[str, ...] = ()
    error: ErrorType | None = None
    status: int = 200
    languages: str = ""
    translate: str = ""
    track: str = ""
    stages: tuple[Stage, ...] = BY_PAGE

    def __str__(self) -> str:
        parts = (self.video, self.languages, self.translate, self.track)
        return "-".join(part for part in parts if part)

    @property
    def query(self) -> str:
        """The request's query."""
        named = {"lang": self.languages, "translate": self.translate, "track": self.track}
        return "&".join(f"{name}={value}" for name, value in named.items() if value)


CASES = (
    FieldCase("arrowText01", ("A --> B 2 00:00:01,000 --> 00:00:09,000 injected", "ok")),
    FieldCase("codeTutor01", ("returns a List<String> here", "put it in a <div>")),
    FieldCase("nameSimple1", ("hello",)),
    FieldCase("noDuration1", ("first line", "second line", "third")),
    FieldCase("rolling_001", ("one two three", "four five six", "seven eight")),
    FieldCase("twoTracks01", ("words spoken in the film",)),
    FieldCase("twoTracks01", ("words spoken in the film",), track="Dialogue"),
    FieldCase("twoTracks01", ("chat log of viewers",), track="Live chat"),
    FieldCase("twoTracks01", error="language_unavailable", status=404, track="Commentary"),
    FieldCase("ytsubconv01", ("Inside the house", "for a day")),
    FieldCase("zhScript_01", ("繁體",), languages="zh-TW"),
    FieldCase("zhScript_01", ("繁體",), languages="zh-HK"),
    FieldCase("zhScript_01", ("简体",), languages="zh-CN"),
    FieldCase("zhScript_01", ("繁體譯",), languages="en", translate="zh-TW", stages=BY_HTTP),
    FieldCase("transl429_1", ("안녕",)),
    FieldCase(
        "transl429_1", error="translation_refused", status=503, translate="en", stages=BY_HTTP
    ),
    FieldCase("captchaWall", error="request_blocked", status=503),
    FieldCase("rateLimit01", error="rate_limited", status=503),
    FieldCase("oldClient01", error="client_outdated", status=502),
    FieldCase("geoBlocked1", error="country_blocked", status=403),
    FieldCase("wrongVid_01", error="wrong_video", status=502),
)
# What is a refusal of us: every stage is tried, and the breakers count it.
OF_US = [case for case in CASES if case.status in (502, 503) and not case.translate]


simulator = recorded.simulator_serving(FOLDER)
settings = recorded.settings
browser = recorded.browser


@pytest.fixture(scope="module")
def running(
    simulator: RunningSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("service"), simulator, {}) as started:
        yield started


def lines(texts: Iterator[str]) -> tuple[str, ...]:
    return tuple(" ".join(text.split()) for text in texts)


def test_every_case_is_tested() -> None:
    assert {case.video for case in CASES} == {
        path.parent.name for path in FOLDER.glob("*/player.*")
    }


@pytest.mark.parametrize("stage", BY_HTTP)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_stage_without_a_browser(case: FieldCase, stage: Stage, settings: Settings) -> None:
    _check(case, stage, settings)


@pytest.mark.usefixtures("browser")
@pytest.mark.parametrize("case", [c for c in CASES if "youtubei" in c.stages], ids=str)
def test_the_browser_stage(case: FieldCase, settings: Settings) -> None:
    _check(case, "youtubei", settings)


def _check(case: FieldCase, stage: Stage, settings: Settings) -> None:
    languages = tuple(filter(None, [case.languages]))
    wanted = Wanted(case.video, languages, case.translate or None, case.track or None)
    job = Job(wanted, Deadline(60), JobProxy(ProxyPool([]), "test", None))
    made: Any = MAKE[stage](settings)
    try:
        transcript = made.fetch(job)
    except TranscriptError as error:
        assert (error.error_type, ()) == (case.error, case.lines)
        return
    assert case.error is None
    assert lines(segment.text for segment in transcript.segments) == case.lines
    assert transcript.video_id == case.video


@pytest.mark.parametrize("case", CASES, ids=str)
def test_over_http(case: FieldCase, running: Service) -> None:
    answer = running.get(f"/api/transcripts/{case.video}?{case.query}")
    document = answer.json()
    assert answer.status_code == case.status, answer.text
    assert document.get("code") == case.error
    if case.error is None:
        assert lines(segment["text"] for segment in document["segments"]) == case.lines
    if case.status == 503:
        assert int(answer.headers["Retry-After"]) > 0
    if case in OF_US:
        assert {attempt["stage"] for attempt in document["attempts"]} >= set(BY_HTTP)


@pytest.mark.parametrize("case", OF_US, ids=str)
def test_a_refusal_of_us_counts_against_the_stages_and_not_as_an_answer(
    case: FieldCase, settings: Settings
) -> None:
    pipeline, breakers = _pipeline(settings)
    with pytest.raises(TranscriptError) as failure:
        pipeline.fetch(Wanted(case.video))
    assert [attempt.stage for attempt in failure.value.attempts] == list(BY_HTTP)
    assert failure.value.outcome in ("blocked", "error")
    assert {breakers[stage].state for stage in BY_HTTP} == {"open"}


@pytest.mark.parametrize(
    ("case", "times"), [("transl429_1", 5), ("geoBlocked1", 5), ("zhScript_01", 5)]
)
def test_what_is_about_one_video_closes_the_way_for_no_other(
    case: str, times: int, settings: Settings
) -> None:
    pipeline, breakers = _pipeline(settings)
    for _ in range(times):
        with pytest.raises(TranscriptError):
            pipeline.fetch(Wanted(case, ("fi",) if case == "zhScript_01" else (), "en"))
    assert {breakers[stage].state for stage in BY_HTTP} == {"closed"}
    assert pipeline.fetch(Wanted("transl429_1")).segments


def _pipeline(settings: Settings) -> tuple[Pipeline, dict[Stage, CircuitBreaker]]:
    """The stages without a browser, with breakers that open at the first failure."""
    config = CircuitBreakerConfig(window_size=2, minimum_calls=1)
    breakers: dict[Stage, CircuitBreaker] = {s: CircuitBreaker(s, config) for s in STAGES}
    stages: list[Any] = [MAKE[stage](settings) for stage in BY_HTTP]
    return Pipeline(settings, stages, breakers, ProxyPool([])), breakers
