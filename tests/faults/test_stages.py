"""What every fault means at each of the four stages, and what it costs (see `fault_table`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from pydantic import HttpUrl, SecretStr

from simulator.catalogue import by_title
from simulator.testing import RunningSimulator, running_simulator
from tests.faults.fault_table import (
    FAULTS,
    QUICK_REFUSALS,
    REFUSALS,
    SLOW_IN_A_BROWSER,
    SURVIVED,
    USUAL,
    Row,
)
from tests.needed import require_chromium
from tests.speech_server import SpeechServer, speech_server
from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.browser import BrowserPool
from transcript_service.proxies import ProxyPool, proxy_pool, refuse_direct_connections
from transcript_service.resilience import CircuitBreaker, CircuitBreakerConfig, Deadline
from transcript_service.settings import Settings
from transcript_service.telemetry.vocabulary import (
    ANSWERS,
    CALLER_ERRORS,
    ERROR_TYPES,
    STAGES,
    Stage,
    outcome_of,
)
from transcript_service.transcripts.http import YouTubeSession
from transcript_service.transcripts.model import Transcript, TranscriptError
from transcript_service.transcripts.pipeline import Pipeline
from transcript_service.transcripts.stages import youtubei
from transcript_service.transcripts.stages.asr import AsrStage
from transcript_service.transcripts.stages.timedtext import TimedtextStage
from transcript_service.transcripts.stages.youtube_api import YouTubeApiStage
from transcript_service.transcripts.stages.youtubei import YoutubeiStage
from transcript_service.transcripts.wanted import Wanted

HEARD = b'{"language": "en", "segments": [{"start": 0.5, "end": 2, "text": "Hello."}]}'
MAKE: dict[Stage, Callable[[Settings], Any]] = {
    "youtube_api": YouTubeApiStage,
    "timedtext": TimedtextStage,
    "youtubei": YoutubeiStage,
    "asr": AsrStage,
}
# What a stage does inside its span; the pool's own upkeep is not part of a request.
INNER: dict[Stage, set[str]] = {
    "youtube_api": set(),
    "timedtext": set(),
    "youtubei": {"browser.lease", "browser.navigate"},
    "asr": {"asr.audio", "asr.recognise"},
}
UPKEEP = {"browser.launch", "browser.retire"}
# Long enough to load the simulated page on a busy machine, and waited for twice.
BROWSER_TRY_S = 6.0


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    with running_simulator(tmp_path_factory.mktemp("sim")) as running:
        yield running


@pytest.fixture(scope="module")
def speech() -> Iterator[SpeechServer]:
    with speech_server() as running:
        yield running


@pytest.fixture(scope="module")
def settings(
    simulator: RunningSimulator, speech: SpeechServer, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    return Settings(
        youtube_resolve_to=simulator.resolve_to,
        youtube_ca_file=simulator.ca_file,
        state_dir=tmp_path_factory.mktemp("state"),
        read_timeout_s=2,
        browser_acquire_timeout_s=60,  # a busy machine starts Chromium in more than fifteen
        asr_audio_sources=("player",),
        asr_endpoint=HttpUrl(speech.url),
    )


@pytest.fixture(scope="module")
def pool(settings: Settings) -> Iterator[BrowserPool]:
    """One Chromium for all rows that need one."""
    require_chromium(settings.browser_executable)
    made = BrowserPool(settings)
    yield made
    made.close(grace_s=0)


class Bench:
    """Runs a stage, or several, in a pipeline against faults that are switched on for it."""

    def __init__(
        self,
        simulator: RunningSimulator,
        speech: SpeechServer,
        settings: Settings,
        request: pytest.FixtureRequest,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self._simulator = simulator
        self._speech = speech
        self._settings = settings
        self._request = request
        self._monkeypatch = monkeypatch

    def pipeline(self, row: Row) -> Pipeline:
        """A pipeline of the row's stage alone, as its settings and proxy say."""
        self._speech.status, self._speech.body = row.speech or (200, HEARD)
        if row.fault:
            self._simulator.set_fault(by_title(row.video or USUAL[row.stage]).id, row.fault)
        settings = self._settings.model_copy(
            update={"job_deadline_s": row.deadline_s, **row.settings}
        )
        proxies = ProxyPool([])
        if row.proxy:
            self._simulator.set_proxy_users({"alice": {"password": "pass", "fault": row.proxy}})
            address = f"http://alice:pass@127.0.0.1:{self._simulator.proxy_port}"
            with_proxy = {
                "proxy_list": SecretStr(address),
                "proxy_preflight": False,
                "enforce_proxy_all": True,
            }
            # A fresh settings object has a fresh pool, without the quarantine of other rows.
            proxies = proxy_pool.__wrapped__(settings.model_copy(update=with_proxy))
        return self.of(settings, [row.stage], proxies)

    def of(self, settings: Settings, stages: list[Stage], proxies: ProxyPool) -> Pipeline:
        """A pipeline of some stages, each with a breaker that opens at the first failure."""
        if "youtubei" in stages:
            self._give_browser(settings)
        config = CircuitBreakerConfig(window_size=2, minimum_calls=1)
        return Pipeline(
            settings,
            [MAKE[stage](settings) for stage in stages],
            {stage: CircuitBreaker(stage, config) for stage in stages},
            proxies,
        )

    def _give_browser(self, settings: Settings) -> None:
        if settings.browser_executable == self._settings.browser_executable:
            pool = self._request.getfixturevalue("pool")
        else:
            pool = BrowserPool(settings)
            self._request.addfinalizer(lambda: pool.close(grace_s=0))
        self._monkeypatch.setattr(youtubei, "get_browser_pool", lambda: pool)


@pytest.fixture
def bench(
    simulator: RunningSimulator,
    speech: SpeechServer,
    settings: Settings,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Bench]:
    yield Bench(simulator, speech, settings, request, monkeypatch)
    refuse_direct_connections(False)
    simulator.reset()
    simulator.set_proxy_users({})


def bookings(telemetry: InMemoryTelemetry, stage: Stage) -> dict[str, float]:
    """The breaker's calls by kind, zeros left out; on a busy machine any may be slow besides."""
    calls = {
        dict(attributes)["kind"]: value
        for (name, attributes), value in telemetry.metrics().items()
        if name == "circuit_breaker.calls" and value and dict(attributes)["name"] == stage
    }
    calls.pop("slow", None)
    return calls


def fetch(pipeline: Pipeline, row: Row) -> TranscriptError:
    with pytest.raises(TranscriptError) as failure:
        pipeline.fetch(
            Wanted(by_title(row.video or USUAL[row.stage]).id, ("en",), row.translate or None)
        )
    return failure.value


def _slow_if(slow: bool) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] if slow else []


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(
            row,
            marks=_slow_if(row.stage == "youtubei" and row.fault in SLOW_IN_A_BROWSER),
            id=str(row),
        )
        for row in FAULTS
    ],
)
def test_a_fault_is_named_counted_and_traced(
    bench: Bench, telemetry: InMemoryTelemetry, monkeypatch: pytest.MonkeyPatch, row: Row
) -> None:
    if row.error_type == "timeout":
        monkeypatch.setattr(youtubei, "_TRY_S", BROWSER_TRY_S)
    pipeline = bench.pipeline(row)
    for _ in range(row.before):
        fetch(pipeline, row)
    telemetry.clear()
    error = fetch(pipeline, row)

    outcome = outcome_of(row.error_type)
    assert (error.error_type, error.outcome) == (row.error_type, outcome)
    assert [(a.stage, a.outcome, a.error_type) for a in error.attempts] == [
        (row.stage, outcome, row.error_type)
    ]
    expected = Counter({row.booking: 1}) + Counter({"failed": row.before})
    assert bookings(telemetry, row.stage) == expected

    spans = {span.name: dict(span.attributes or {}) for span in telemetry.spans()}
    assert set(spans) - UPKEEP <= {"transcript.fetch", "transcript.stage"} | INNER[row.stage]
    stage = spans["transcript.stage"]
    assert (stage["stage"], stage["outcome"]) == (row.stage, outcome)
    assert (stage["error.type"], stage["attempt"]) == (row.error_type, row.tries)
    assert stage["proxy_used"] is bool(row.proxy)
    request = spans["transcript.fetch"]
    assert (request["outcome"], request["error.type"]) == (outcome, row.error_type)

    lines = [e for e in telemetry.events() if str(e["event"]).startswith("transcript.")]
    ends = "skipped" if outcome == "skipped" else "finished"
    assert Counter(line["event"] for line in lines) == Counter(
        {
            "transcript.stage.retried": max(0, row.tries - 1),
            "transcript.stage.failed": int(row.error_type == "internal"),
            f"transcript.stage.{ends}": 1,
            "transcript.request.finished": 1,
        }
    )
    if ends == "finished":
        (line,) = telemetry.events("transcript.stage.finished")
        assert (line["outcome"], line["error_type"], line["attempt"]) == (
            outcome, row.error_type, row.tries,
        )  # fmt: skip


@pytest.mark.parametrize(("stage", "fault", "video"), SURVIVED)
def test_a_fault_that_a_stage_gets_around_costs_nothing(
    bench: Bench, telemetry: InMemoryTelemetry, stage: Stage, fault: str, video: str
) -> None:
    row = Row(stage, fault, "internal", 1, "failed", video=video)
    pipeline = bench.pipeline(row)
    transcript = pipeline.fetch(Wanted(by_title(video or USUAL[stage]).id, ("en",)))
    assert transcript.segments
    assert [a.outcome for a in transcript.attempts] == ["success"]
    assert bookings(telemetry, stage) == {"successful": 1}
    if fault == "unknown_shape":  # an answer only the page understands: its rows remain
        assert telemetry.events("transcript.panel.captured")[0]["layout"] == "dom"


def test_the_table_has_every_error_that_an_answer_can_cause() -> None:
    # What a caller did wrong is refused before any stage is asked.
    # What is refused at the door reaches no stage.
    assert {row.error_type for row in FAULTS} == set(ERROR_TYPES) - CALLER_ERRORS - {"overloaded"}
    assert {row.stage for row in FAULTS} == set(STAGES)
    # Each stage can be refused and can be given each answer about a video that it hears.
    for stage in STAGES:
        met = {row.error_type for row in FAULTS if row.stage == stage}
        assert met >= {"request_blocked", "ip_blocked", "http_4xx", "timeout", "proxy_error"}
        assert met >= ANSWERS - ({"language_unavailable"} if stage == "asr" else set())


def test_no_refusal_in_the_table_is_an_answer_about_the_video() -> None:
    refused = [row for row in FAULTS if row.fault.partition("@")[0].split(":")[0] in REFUSALS]
    assert {row.stage for row in refused} == set(STAGES)
    assert [row for row in refused if outcome_of(row.error_type) == "no_captions"] == []


@pytest.mark.parametrize(
    "fault",
    [pytest.param(fault, marks=_slow_if(fault not in QUICK_REFUSALS)) for fault in REFUSALS],
)
def test_a_refusal_at_all_stages_is_never_reported_as_no_captions(
    bench: Bench, settings: Settings, simulator: RunningSimulator, fault: str
) -> None:
    """The whole pipeline, without speech, which would get around some of them."""
    video = by_title(USUAL["youtubei"]).id
    simulator.set_fault(video, fault)
    pipeline = bench.of(settings, ["youtube_api", "timedtext", "youtubei"], ProxyPool([]))
    heard: Transcript | TranscriptError
    try:
        heard = pipeline.fetch(Wanted(video, ("en",)))
    except TranscriptError as error:
        heard = error
        assert error.outcome in ("blocked", "error")
    assert "no_captions" not in {attempt.outcome for attempt in heard.attempts}
    assert heard.attempts[0].outcome != "success" or fault == "consent_forever"


def test_a_request_that_is_answered_has_no_failed_span(
    settings: Settings, telemetry: InMemoryTelemetry
) -> None:
    """The library is interrupted by an exception, whose stack took longer than the request."""
    instrumentor = RequestsInstrumentor()
    instrumentor.instrument()
    try:
        session = YouTubeSession(settings, Deadline(60))
        video = by_title("Bread for a Village").id
        assert YouTubeApiStage(settings).player_answer(session, video)
    finally:
        instrumentor.uninstrument()
    spans = telemetry.spans()
    assert [span.name for span in spans] == ["GET", "POST"]
    assert all(span.status.is_ok and not span.events for span in spans)
