"""The speech stage: what it hears, through which engine, and where it stops."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import HttpUrl

from simulator.catalogue import by_title, expected_speech
from simulator.testing import RunningSimulator, running_simulator
from tests.needed import needed
from tests.speech_server import SpeechServer, speech_server
from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.proxies import JobProxy, ProxyPool
from transcript_service.resilience import (
    CircuitBreaker,
    CircuitBreakerConfig,
    Deadline,
    DeadlineExceeded,
)
from transcript_service.settings import Settings
from transcript_service.transcripts.model import TranscriptError
from transcript_service.transcripts.pipeline import Pipeline
from transcript_service.transcripts.stages.asr import AsrStage
from transcript_service.transcripts.stages.base import Job
from transcript_service.transcripts.wanted import Wanted


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    with running_simulator(tmp_path_factory.mktemp("sim")) as running:
        yield running


@pytest.fixture
def settings(simulator: RunningSimulator) -> Settings:
    return Settings(
        youtube_resolve_to=simulator.resolve_to,
        youtube_ca_file=simulator.ca_file,
        asr_audio_sources=("player",),
    )


def job(video: str, *languages: str, seconds: float = 240) -> Job:
    return Job(Wanted(video, languages), Deadline(seconds), JobProxy(ProxyPool([]), "test", None))


def shortest_english(simulator: RunningSimulator, segments: int = 1) -> str:
    """The shortest video whose sound speaks at least so many lines."""
    speaking = [
        video
        for video in simulator.state.videos()
        if video.playability.ok
        and video.spoken
        and video.spoken.lang == "en"
        and len(video.spoken.segments()) >= segments
    ]
    return min(speaking, key=lambda video: video.duration_s).id


def words(texts: list[str]) -> list[str]:
    return re.findall(r"[a-z']+", " ".join(texts).lower())


def test_the_built_in_engine_hears_the_words_at_their_times(
    simulator: RunningSimulator, settings: Settings, telemetry: InMemoryTelemetry
) -> None:
    needed("flite")  # to speak the words
    video = shortest_english(simulator, segments=6)
    spoken = expected_speech(video)
    transcript = AsrStage(settings).fetch(job(video))
    assert (transcript.kind, transcript.source, transcript.language) == ("speech", "asr", "en")

    said, heard = words([s.text for s in spoken]), words([s.text for s in transcript.segments])
    same = sum(
        block.size
        for block in difflib.SequenceMatcher(
            None, said, heard, autojunk=False
        ).get_matching_blocks()
    )
    assert same / len(said) > 0.6, f"said {said}, heard {heard}"
    # One segment per sentence, within a second of where it was spoken.
    starts = [s.start for s in spoken]
    assert all(min(abs(s.start - t) for t in starts) < 1.0 for s in transcript.segments)
    assert {span.name for span in telemetry.spans()} >= {"asr.audio", "asr.recognise"}


@pytest.mark.parametrize(
    ("title", "language", "busy", "why"),
    [
        ("The Three Hour Walk", "", False, "longer"),
        ("Live from the Market", "", False, "live"),
        ("One Sentence", "ja", False, "knows only en"),  # the built-in engine
        ("One Sentence", "", True, "busy"),
    ],
)
def test_what_speech_recognition_cannot_take_is_skipped_and_no_failure_of_it(
    settings: Settings,
    telemetry: InMemoryTelemetry,
    title: str,
    language: str,
    busy: bool,
    why: str,
) -> None:
    stage = AsrStage(settings.model_copy(update={"asr_max_concurrent": 1}))
    if busy:
        assert stage._running.acquire(blocking=False)
    breaker = CircuitBreaker("asr", CircuitBreakerConfig(window_size=2, minimum_calls=1))
    pipeline = Pipeline(settings, [stage], {"asr": breaker}, ProxyPool([]))
    for _ in range(2):
        with pytest.raises(TranscriptError) as refusal:
            pipeline.fetch(Wanted(by_title(title).id, (language,) if language else ()))
        assert refusal.value.error_type == "asr_unavailable"
        assert why in refusal.value.detail
        assert (refusal.value.retry_after_s is not None) is busy
        (attempt,) = refusal.value.attempts
        assert (attempt.outcome, attempt.error_type) == ("skipped", "asr_unavailable")
    assert breaker.state == "closed"
    assert telemetry.metric("circuit_breaker.calls", name="asr", kind="ignored") == 2
    assert telemetry.metric("transcript.stage.skipped", stage="asr", reason="unavailable") == 2
    assert all(each.status.is_unset for each in telemetry.spans() if each.name == "asr.audio")
    (line, _) = telemetry.events("transcript.stage.skipped")
    assert (line["stage"], line["reason"]) == ("asr", "unavailable")


def test_recognition_ends_with_the_deadline(
    simulator: RunningSimulator, settings: Settings
) -> None:
    with pytest.raises((DeadlineExceeded, TranscriptError)):
        AsrStage(settings).fetch(job(shortest_english(simulator), seconds=0.3))


@pytest.fixture
def speech() -> Iterator[SpeechServer]:
    with speech_server() as running:
        yield running


def test_an_endpoint_gets_the_sound_and_its_segment_times_are_kept(
    simulator: RunningSimulator, settings: Settings, speech: SpeechServer, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("sk-made-up\n")
    endpoint = settings.model_copy(
        update={"asr_endpoint": HttpUrl(speech.url), "asr_api_key_file": key}
    )
    segments = [
        {"id": 0, "start": 0.5, "end": 2.25, "text": " Hello there. "},
        {"id": 1, "start": 2.5, "end": 3.0, "text": "  "},
        {"id": 2, "start": 3.0, "end": 4.0, "text": "Again."},
    ]
    speech.body = json.dumps({"language": "english", "text": "…", "segments": segments}).encode()
    transcript = AsrStage(endpoint).fetch(job(shortest_english(simulator), "en-GB"))
    assert [(s.start, s.duration, s.text) for s in transcript.segments] == [
        (0.5, 1.75, "Hello there."),
        (3.0, 1.0, "Again."),
    ]
    seen = speech.seen
    assert seen["path"] == "/v1/audio/transcriptions"
    assert seen["authorization"] == "Bearer sk-made-up"
    assert (seen["response_format"], seen["language"]) == (b"verbose_json", b"en")
    assert seen["file"].startswith(b"OggS")
