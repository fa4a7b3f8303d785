"""Order, early exits, deadline and cache of the pipeline, with stages made up for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.live import wait_for
from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.proxies import ProxyPool
from transcript_service.proxies.proxy import read_entries
from transcript_service.resilience import CircuitBreaker, CircuitBreakerConfig
from transcript_service.settings import Settings
from transcript_service.telemetry.vocabulary import STAGES, ErrorType
from transcript_service.telemetry.vocabulary import Stage as StageName
from transcript_service.transcripts.admission import Places
from transcript_service.transcripts.cache import TranscriptCache
from transcript_service.transcripts.cache_file import CacheFile
from transcript_service.transcripts.model import Segment, Track, Transcript, TranscriptError
from transcript_service.transcripts.pipeline import Pipeline
from transcript_service.transcripts.stages.base import Job, TranscriptStage
from transcript_service.transcripts.wanted import Wanted

VIDEO = "a-B_9cD3eFg"


class Scripted(TranscriptStage):
    """A stage that does as it is told and counts how often it was asked."""

    def __init__(
        self,
        name: StageName,
        act: ErrorType | Callable[[Job], None] | None,
        *,
        translates: bool = True,
    ) -> None:
        self.name = name
        self.act = act
        self.translates = translates
        self.attempts = 1
        self.calls = 0

    def fetch(self, job: Job) -> Transcript:
        self.calls += 1
        if isinstance(self.act, str):
            raise TranscriptError(self.act, "as told")
        if self.act is not None:
            self.act(job)
        track = Track("en", "manual", "English", url="https://signed")
        return Transcript(
            job.video_id, self.name, "en", "manual", (Segment(0, 1, "hello"),), (track,)
        )


def pipeline(
    *stages: Scripted,
    deadline_s: float = 5.0,
    cache: TranscriptCache | None = None,
    proxies: ProxyPool | None = None,
) -> Pipeline:
    config = CircuitBreakerConfig(window_size=4, minimum_calls=2)
    return Pipeline(
        Settings(job_deadline_s=deadline_s),
        stages,
        {name: CircuitBreaker(name, config) for name in STAGES},
        proxies or ProxyPool([]),
        cache,
    )


@pytest.mark.parametrize(
    ("errors", "asked", "reported"),
    [
        # A failure passes the job on; the first telling error is the one reported.
        (["http_5xx", "po_token_required", "timeout", "asr_unavailable"], 4, "http_5xx"),
        (["browser_unavailable", "ip_blocked", "timeout", "asr_unavailable"], 4, "ip_blocked"),
        (["internal", "asr_unavailable", "browser_unavailable", "internal"], 4, "internal"),
        # An answer about the video ends it.
        (["video_unavailable", None, None, None], 1, "video_unavailable"),
        (["video_unplayable", None, None, None], 1, "video_unplayable"),
        (["age_restricted", None, None, None], 1, "age_restricted"),
        (["language_unavailable", None, None, None], 1, "language_unavailable"),
        (["timeout", "video_unavailable", None, None], 2, "timeout"),
        # Without captions only hearing helps.
        (["transcripts_disabled", None, None, "asr_unavailable"], 2, "transcripts_disabled"),
    ],
)
def test_who_is_asked_and_what_is_reported(
    errors: list[ErrorType | None], asked: int, reported: str
) -> None:
    stages = [Scripted(name, error) for name, error in zip(STAGES, errors, strict=True)]
    with pytest.raises(TranscriptError) as failure:
        pipeline(*stages).fetch(Wanted(VIDEO))
    assert sum(stage.calls for stage in stages) == asked
    assert len(failure.value.attempts) == asked
    assert failure.value.error_type == reported


def test_the_first_transcript_ends_the_job_and_tells_what_it_took(
    telemetry: InMemoryTelemetry,
) -> None:
    stages = [
        Scripted("youtube_api", "request_blocked"),
        Scripted("timedtext", None),
        Scripted("youtubei", None),
    ]
    transcript = pipeline(*stages).fetch(Wanted(VIDEO))
    assert transcript.source == "timedtext"
    assert [(a.stage, a.outcome) for a in transcript.attempts] == [
        ("youtube_api", "blocked"),
        ("timedtext", "success"),
    ]
    assert stages[2].calls == 0
    assert telemetry.metric("transcript.requests", outcome="success", source="timedtext") == 1


def test_no_captions_and_speech_is_a_success() -> None:
    stages = [
        Scripted("youtube_api", "transcripts_disabled"),
        Scripted("timedtext", None),
        Scripted("asr", None),
    ]
    assert pipeline(*stages).fetch(Wanted(VIDEO)).source == "asr"
    assert stages[1].calls == 0


def test_an_open_breaker_skips_the_stage_and_is_not_a_duration(
    telemetry: InMemoryTelemetry,
) -> None:
    failing, working = Scripted("youtube_api", "http_5xx"), Scripted("timedtext", None)
    line = pipeline(failing, working)
    for _ in range(3):
        assert line.fetch(Wanted(VIDEO)).source == "timedtext"
    assert failing.calls == 2  # the window's minimum; the third was not let through
    skipped = telemetry.metric(
        "transcript.stage.skipped", stage="youtube_api", reason="breaker_open"
    )
    assert skipped == 1
    assert telemetry.metric("circuit_breaker.calls", name="youtube_api", kind="not_permitted") == 1


def test_a_stage_that_hangs_does_not_hold_the_job(telemetry: InMemoryTelemetry) -> None:
    release = threading.Event()

    def hang(job: Job) -> None:
        release.wait(20)

    stages = [Scripted("youtube_api", hang), Scripted("timedtext", None)]
    began = time.monotonic()
    with pytest.raises(TranscriptError) as failure:
        pipeline(*stages, deadline_s=0.5).fetch(Wanted(VIDEO))
    assert time.monotonic() - began < 10  # much less than the stage hangs
    release.set()
    assert failure.value.error_type == "deadline_exceeded"
    assert [(a.stage, a.error_type) for a in failure.value.attempts] == [
        ("youtube_api", "deadline_exceeded"),
        ("timedtext", "deadline_exceeded"),
    ]
    assert stages[1].calls == 0
    skipped = telemetry.metric(
        "transcript.stage.skipped", stage="timedtext", reason="deadline_exceeded"
    )
    assert skipped == 1


def test_a_defect_in_a_stage_is_an_internal_error_with_a_stack_in_the_log(
    telemetry: InMemoryTelemetry,
) -> None:
    def broken(job: Job) -> None:
        raise ZeroDivisionError("secret text")

    with pytest.raises(TranscriptError) as failure:
        pipeline(Scripted("youtube_api", broken)).fetch(Wanted(VIDEO))
    assert failure.value.error_type == "internal"
    assert "secret text" not in str(failure.value)
    (event,) = telemetry.events("transcript.stage.failed")
    assert event["error_type"] == "ZeroDivisionError"


def test_a_cached_transcript_asks_no_stage_and_says_so(
    telemetry: InMemoryTelemetry, tmp_path: Path
) -> None:
    now = [1000.0]
    cache = TranscriptCache(
        CacheFile(tmp_path / "c.sqlite3", 10_000_000), ttl_s=60, stale_s=60, clock=lambda: now[0]
    )
    stage = Scripted("youtube_api", None)
    line = pipeline(stage, cache=cache)
    first, second = line.fetch(Wanted(VIDEO, ("en",))), line.fetch(Wanted(VIDEO, ("en",)))
    assert (first.cached, second.cached, stage.calls) == (False, True, 1)
    assert second.source == "youtube_api"
    assert second.segments == first.segments
    assert second.attempts == ()
    assert second.available[0].url == ""  # the signed URL was not written to disk
    assert telemetry.metric("transcript.requests", outcome="success", source="cache") == 1
    line.fetch(Wanted(VIDEO, ("de",)))
    assert stage.calls == 2  # another language is another entry

    # Out of date: asked again; while that fails, the old one stands in, unless the video is gone.
    now[0] += 90
    stage.act = "http_5xx"
    assert line.fetch(Wanted(VIDEO, ("en",))).cached
    stage.act = "video_unavailable"
    with pytest.raises(TranscriptError):
        line.fetch(Wanted(VIDEO, ("en",)))


def test_who_has_time_left_is_not_failed_by_who_had_none(tmp_path: Path) -> None:
    cache = TranscriptCache(CacheFile(tmp_path / "c.sqlite3", 10_000_000), ttl_s=60, stale_s=60)
    begun, release = threading.Event(), threading.Event()

    def hang(_: Job) -> None:
        begun.set()
        release.wait(20)

    stage = Scripted("youtube_api", hang)
    line = pipeline(stage, deadline_s=30, cache=cache)
    with ThreadPoolExecutor(2) as threads:
        hurried = threads.submit(line.fetch, Wanted(VIDEO), deadline_s=1)
        assert begun.wait(20)
        stage.act = None
        patient = threads.submit(line.fetch, Wanted(VIDEO), deadline_s=30)
        assert patient.result(20).source == "youtube_api"
        failure = hurried.exception(20)
    release.set()
    assert isinstance(failure, TranscriptError)
    assert failure.error_type == "deadline_exceeded"
    assert stage.calls == 2


def test_who_needs_no_place_is_not_failed_by_who_found_none(tmp_path: Path) -> None:
    cache = TranscriptCache(CacheFile(tmp_path / "c.sqlite3", 10_000_000), ttl_s=60, stale_s=60)
    line = pipeline(Scripted("youtube_api", None), deadline_s=30, cache=cache)
    places = Places(Settings(web_fetches=1, web_fetches_waiting=1, web_fetch_wait_s=1))
    with places.fetching(), ThreadPoolExecutor(2) as threads:
        refused = threads.submit(line.fetch, Wanted(VIDEO), admission=places)
        wait_for("the first", lambda: cache._flights._flights, 20)
        job = threads.submit(line.fetch, Wanted(VIDEO))
        assert job.result(20).source == "youtube_api"
        failure = refused.exception(20)
    assert isinstance(failure, TranscriptError)
    assert failure.error_type == "overloaded"


def test_a_stage_that_cannot_translate_is_not_asked_for_a_translation(tmp_path: Path) -> None:
    reading = Scripted("youtube_api", None)
    panel = Scripted("youtubei", None, translates=False)
    cache = TranscriptCache(CacheFile(tmp_path / "c.sqlite3", 10_000_000), ttl_s=60, stale_s=60)
    line = pipeline(panel, reading, cache=cache)
    assert line.fetch(Wanted(VIDEO, ("en",), "de")).source == "youtube_api"
    assert panel.calls == 0
    # The translation is an entry of its own, and so is each language.
    assert line.fetch(Wanted(VIDEO, ("en",))).source == "youtubei"
    assert not line.fetch(Wanted(VIDEO, ("en",), "fr")).cached
    assert line.fetch(Wanted(VIDEO, ("en",), "de")).cached
    assert (panel.calls, reading.calls) == (1, 2)

    with pytest.raises(TranscriptError) as failure:
        pipeline(panel).fetch(Wanted(VIDEO, (), "de"))
    # Asked for by the caller, so no failure of the service.
    assert (failure.value.error_type, failure.value.attempts) == ("language_unavailable", ())
    with pytest.raises(TranscriptError) as failure:
        pipeline().fetch(Wanted(VIDEO))
    assert failure.value.error_type == "internal"


def test_a_timeout_that_nobody_named_is_the_stages_and_not_the_jobs() -> None:
    def act(_: Job) -> None:
        raise TimeoutError("a file on a network disk")

    result = pipeline(Scripted("youtube_api", act), Scripted("timedtext", None)).fetch(
        Wanted(VIDEO)
    )
    assert [(a.stage, a.error_type) for a in result.attempts] == [
        ("youtube_api", "internal"),
        ("timedtext", None),
    ]


def test_who_waits_for_another_request_in_vain_gets_the_old_transcript(
    telemetry: InMemoryTelemetry, tmp_path: Path
) -> None:
    now = [1000.0]
    cache = TranscriptCache(
        CacheFile(tmp_path / "c.sqlite3", 10_000_000), ttl_s=60, stale_s=60, clock=lambda: now[0]
    )
    begun, release = threading.Event(), threading.Event()
    stage = Scripted("youtube_api", None)
    line = pipeline(stage, deadline_s=30, cache=cache)
    kept = line.fetch(Wanted(VIDEO))
    now[0] += 90

    def hang(job: Job) -> None:
        begun.set()
        release.wait(20)

    stage.act = hang
    first = threading.Thread(target=lambda: line.fetch(Wanted(VIDEO)))
    first.start()
    assert begun.wait(20)
    old = line.fetch(Wanted(VIDEO), deadline_s=0.3)
    release.set()
    first.join(20)
    assert (old.cached, old.segments) == (True, kept.segments)
    assert stage.calls == 2
    (event,) = telemetry.events("transcript.cache.stale_served")
    assert event["error_type"] == "DeadlineExceeded"

    # Where nothing is kept there is nothing to stand in.
    stage.act = hang
    begun.clear()
    release.clear()
    other = threading.Thread(target=lambda: line.fetch(Wanted(VIDEO, ("fr",))))
    other.start()
    assert begun.wait(20)
    with pytest.raises(TranscriptError) as failure:
        line.fetch(Wanted(VIDEO, ("fr",)), deadline_s=0.3)
    release.set()
    other.join(20)
    assert failure.value.error_type == "deadline_exceeded"


@pytest.mark.parametrize("how", ["timeout", "hangs"])
def test_a_stage_that_got_too_little_time_is_not_blamed(
    how: str, telemetry: InMemoryTelemetry
) -> None:
    def eat_the_time(job: Job) -> None:
        time.sleep(max(0.0, job.deadline.remaining() - 0.15))
        raise TranscriptError("http_5xx", "late")

    def too_slow(job: Job) -> None:
        time.sleep(job.deadline.remaining() + (0.3 if how == "hangs" else 0.0))
        raise TranscriptError("timeout", "it did not come in time")

    stages = [Scripted("youtube_api", eat_the_time), Scripted("timedtext", too_slow)]
    line = pipeline(*stages, deadline_s=0.6)
    for _ in range(2):  # the least that a breaker opens on
        with pytest.raises(TranscriptError) as failure:
            line.fetch(Wanted(VIDEO))
        assert failure.value.attempts[1].error_type == "deadline_exceeded"
    assert telemetry.metric("circuit_breaker.calls", name="timedtext", kind="ignored") == 2
    assert telemetry.metric("circuit_breaker.state", name="timedtext", state="open") in (None, 0)


def test_a_stage_that_had_enough_time_is_blamed_for_using_it_up(
    telemetry: InMemoryTelemetry,
) -> None:
    def too_slow(job: Job) -> None:
        time.sleep(job.deadline.remaining())
        raise TranscriptError("timeout", "it did not come in time")

    line = pipeline(Scripted("timedtext", too_slow), deadline_s=0.3)
    with pytest.raises(TranscriptError):
        line.fetch(Wanted(VIDEO))
    assert telemetry.metric("circuit_breaker.calls", name="timedtext", kind="failed") == 1


@pytest.mark.parametrize(
    ("refusal", "reason", "resting"),
    [
        ("country_blocked", "country", 0),
        ("rate_limited", "rate_limited", 1),
        ("request_blocked", "bot_check", 1),
    ],
)
def test_what_another_way_out_may_help_against_is_tried_through_another_proxy(
    telemetry: InMemoryTelemetry, refusal: ErrorType, reason: str, resting: int
) -> None:
    """A proxy in the wrong country is right for other videos; one that is refused rests."""
    used: list[str] = []

    def act(job: Job) -> None:
        assert job.proxy.identity is not None
        used.append(job.proxy.identity.id)
        if len(used) == 1:
            raise TranscriptError(refusal, "as told")

    stage = Scripted("youtube_api", act)
    stage.attempts = 2
    proxies = ProxyPool(read_entries("127.0.0.1:1 127.0.0.1:2", None))
    assert pipeline(stage, proxies=proxies).fetch(Wanted(VIDEO)).segments
    assert len(set(used)) == 2
    assert len(proxies.healthy()) == 2 - resting
    assert telemetry.metric("proxy.rotations", reason=reason) == 1


def test_one_video_counts_against_a_stage_once_a_minute_and_a_translation_never(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr("transcript_service.transcripts.pipeline.time.monotonic", lambda: now[0])
    config = CircuitBreakerConfig(window_size=4, minimum_calls=3)
    breaker = CircuitBreaker("timedtext", config)
    stage = Scripted("timedtext", "parse_error")
    line = Pipeline(Settings(), [stage], {"timedtext": breaker}, ProxyPool([]))

    def ask(video: str) -> None:
        with pytest.raises(TranscriptError):
            line.fetch(Wanted(video))

    states: list[str] = []
    for _ in range(10):
        ask(VIDEO)
    states.append(breaker.state)
    stage.act = "translation_refused"
    for number in range(10):
        ask(f"video{number:06}")
    states.append(breaker.state)
    stage.act = "parse_error"
    ask("bbbbbbbbbbb")
    now[0] += 61
    ask(VIDEO)
    assert [*states, breaker.state] == ["closed", "closed", "open"]
