"""What each fault of YouTube's means at each HTTP stage, and what it costs.

Every row is a real answer of the simulator. `calls` is how the breaker books it: an answer
about the video is ignored, because it says nothing against the stage.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulator.testing import RunningSimulator, running_simulator
from transcript_service.proxies import ProxyPool
from transcript_service.resilience import CircuitBreaker, CircuitBreakerConfig
from transcript_service.settings import Settings
from transcript_service.telemetry.testing import InMemoryTelemetry
from transcript_service.telemetry.vocabulary import Stage, outcome_of
from transcript_service.transcripts.model import TranscriptError
from transcript_service.transcripts.pipeline import Pipeline
from transcript_service.transcripts.stages.timedtext import TimedtextStage
from transcript_service.transcripts.stages.youtube_api import YouTubeApiStage

# (stage, fault, error type, tries, breaker's booking)
FAULTS: list[tuple[Stage, str, str, int, str]] = [
    ("youtube_api", "http_403@watch", "http_4xx", 1, "failed"),
    ("youtube_api", "http_404@player", "http_4xx", 1, "failed"),
    ("youtube_api", "http_429@watch:60", "ip_blocked", 1, "failed"),
    ("youtube_api", "http_429@timedtext:1", "ip_blocked", 2, "failed"),
    ("youtube_api", "http_500@player", "http_5xx", 2, "failed"),
    ("youtube_api", "http_503@timedtext:1", "http_5xx", 2, "failed"),
    ("youtube_api", "empty_body@watch", "empty_body", 2, "failed"),
    ("youtube_api", "empty_body@player", "empty_body", 2, "failed"),
    ("youtube_api", "empty_body@timedtext", "empty_body", 2, "failed"),
    ("youtube_api", "tiny_body@timedtext", "parse_error", 2, "failed"),
    ("youtube_api", "html_body@player", "html_body", 1, "failed"),
    ("youtube_api", "html_body@timedtext", "html_body", 1, "failed"),
    ("youtube_api", "truncated_json@player", "parse_error", 2, "failed"),
    ("youtube_api", "truncated_json@timedtext", "parse_error", 2, "failed"),
    ("youtube_api", "wrong_format@timedtext", "parse_error", 2, "failed"),
    ("youtube_api", "no_start@timedtext", "parse_error", 2, "failed"),
    ("youtube_api", "xml_entities@timedtext", "parse_error", 2, "failed"),
    ("youtube_api", "consent_forever", "consent_required", 1, "failed"),
    ("youtube_api", "bot_check", "request_blocked", 1, "failed"),
    ("youtube_api", "recaptcha", "ip_blocked", 1, "failed"),
    ("youtube_api", "no_api_key", "html_body", 1, "failed"),
    ("youtube_api", "po_token", "po_token_required", 1, "failed"),
    ("youtube_api", "po_token_xpv", "po_token_required", 1, "failed"),
    ("youtube_api", "expired_signature", "http_4xx", 1, "failed"),
    ("youtube_api", "reset@timedtext", "connection_error", 2, "failed"),
    ("youtube_api", "hang@player", "timeout", 2, "failed"),
    ("timedtext", "http_403@timedtext", "http_4xx", 1, "failed"),
    ("timedtext", "http_429@player:60", "ip_blocked", 1, "failed"),
    ("timedtext", "http_502@player", "http_5xx", 2, "failed"),
    ("timedtext", "empty_body@player", "empty_body", 2, "failed"),
    ("timedtext", "empty_body@timedtext", "empty_body", 2, "failed"),
    ("timedtext", "html_body@timedtext", "html_body", 1, "failed"),
    ("timedtext", "truncated_json@timedtext", "parse_error", 2, "failed"),
    ("timedtext", "bot_check", "request_blocked", 1, "failed"),
    ("timedtext", "po_token", "po_token_required", 1, "failed"),
    ("timedtext", "po_token_xpv", "po_token_required", 1, "failed"),
    ("timedtext", "reset@player", "connection_error", 2, "failed"),
    ("timedtext", "hang@timedtext", "timeout", 2, "failed"),
]  # fmt: skip
# The same facts as the library stage meets, met by whoever asks differently.
SURVIVED: list[tuple[Stage, str]] = [
    ("youtube_api", "consent"),
    ("youtube_api", "consent_inline"),
    ("youtube_api", "wrong_type@timedtext"),
    ("youtube_api", "slow_headers:1"),
    ("youtube_api", "slow_body@timedtext:1"),
    ("timedtext", "consent_forever"),
    ("timedtext", "recaptcha"),
    ("timedtext", "hang@watch"),
    ("timedtext", "wrong_type@timedtext"),
]
ANSWERS = {
    "transcripts_disabled": "no captions at all",
    "video_unavailable": "removed",
    "video_unplayable": "private",
    "age_restricted": "age gate",
}


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    with running_simulator(tmp_path_factory.mktemp("sim")) as running:
        yield running


@pytest.fixture
def settings(simulator: RunningSimulator, tmp_path: Path) -> Settings:
    return Settings(
        youtube_resolve_to=simulator.resolve_to,
        youtube_ca_file=simulator.ca_file,
        state_dir=tmp_path,
        read_timeout_s=2,
        job_deadline_s=20,
    )


@pytest.fixture(scope="module")
def video(simulator: RunningSimulator) -> Iterator[str]:
    """A healthy video; what a test switches on is off again after the module."""
    yield next(
        v.id for v in simulator.state.videos() if v.playability.ok and v.track("en", "manual")
    )
    simulator.reset()


def pipeline(settings: Settings, stage: Stage) -> Pipeline:
    made = YouTubeApiStage(settings) if stage == "youtube_api" else TimedtextStage(settings)
    breaker = CircuitBreaker(stage, CircuitBreakerConfig())
    return Pipeline(settings, [made], {stage: breaker}, ProxyPool([]))


def bookings(telemetry: InMemoryTelemetry, stage: Stage) -> dict[str, float]:
    """The breaker's calls by kind, zeros left out."""
    return {
        dict(attributes)["kind"]: value
        for (name, attributes), value in telemetry.metrics().items()
        if name == "circuit_breaker.calls" and value and dict(attributes)["name"] == stage
    }


@pytest.mark.parametrize(("stage", "fault", "error_type", "tries", "booking"), FAULTS)
def test_a_fault_is_named_counted_and_traced(
    simulator: RunningSimulator,
    settings: Settings,
    telemetry: InMemoryTelemetry,
    video: str,
    stage: Stage,
    fault: str,
    error_type: Any,
    tries: int,
    booking: str,
) -> None:
    simulator.set_fault(video, fault)
    with pytest.raises(TranscriptError) as failure:
        pipeline(settings, stage).fetch(video, ("en",))

    error = failure.value
    outcome = outcome_of(error_type)
    assert outcome != "no_captions"
    assert (error.error_type, error.outcome) == (error_type, outcome)
    assert [(a.stage, a.outcome, a.error_type) for a in error.attempts] == [
        (stage, outcome, error_type)
    ]
    assert bookings(telemetry, stage) == {booking: 1}

    spans = {span.name: dict(span.attributes or {}) for span in telemetry.spans()}
    assert spans["transcript.stage"]["error.type"] == error_type
    assert spans["transcript.stage"]["outcome"] == outcome
    assert spans["transcript.stage"]["attempt"] == tries
    assert spans["transcript.fetch"]["outcome"] == outcome
    lines = [line for line in telemetry.events() if line["event"] == "transcript.stage.finished"]
    assert [(line["outcome"], line["error_type"], line["attempt"]) for line in lines] == [
        (outcome, error_type, tries)
    ]


@pytest.mark.parametrize(("stage", "fault"), SURVIVED)
def test_a_fault_that_a_stage_gets_around_costs_nothing(
    simulator: RunningSimulator,
    settings: Settings,
    telemetry: InMemoryTelemetry,
    video: str,
    stage: Stage,
    fault: str,
) -> None:
    simulator.set_fault(video, fault)
    transcript = pipeline(settings, stage).fetch(video, ("en",))
    assert transcript.segments
    assert [a.outcome for a in transcript.attempts] == ["success"]
    assert bookings(telemetry, stage) == {"successful": 1}


@pytest.mark.parametrize("stage", ["youtube_api", "timedtext"])
@pytest.mark.parametrize("error_type", ANSWERS)
def test_an_answer_about_the_video_is_no_failure_of_the_stage(
    simulator: RunningSimulator,
    settings: Settings,
    telemetry: InMemoryTelemetry,
    stage: Stage,
    error_type: str,
) -> None:
    met = set()
    for video in simulator.state.videos():
        if video.playability.ok and video.tracks:
            continue
        with pytest.raises(TranscriptError) as failure:
            pipeline(settings, stage).fetch(video.id)
        if failure.value.error_type == error_type:
            met.add(video.id)
            assert failure.value.outcome == "no_captions"
            assert len(failure.value.attempts) == 1
    assert met, f"the simulator has no video for: {ANSWERS[error_type]}"
    booked = bookings(telemetry, stage)
    assert booked["ignored"] >= len(met)
