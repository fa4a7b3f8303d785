"""Requests that are answered later: queued, run once, found again after a crash."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.live import wait_for
from transcript_service.settings import Settings
from transcript_service.telemetry import span
from transcript_service.telemetry.testing import InMemoryTelemetry
from transcript_service.transcripts.jobs import JobRecord, JobRunner, JobStore, QueueFull
from transcript_service.transcripts.model import Segment, Transcript, TranscriptError

VIDEO = "a-B_9cD3eFg"
TRANSCRIPT = Transcript(VIDEO, "asr", "en", "speech", (Segment(0, 1, "hello"),))


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class FakePipeline:
    """Delivers, fails or waits, as told."""

    def __init__(self, act: Callable[[], Transcript]) -> None:
        self.act = act
        self.calls: list[tuple[str, tuple[str, ...], str | None, float]] = []

    def fetch(
        self,
        video_id: str,
        languages: tuple[str, ...],
        translate_to: str | None,
        *,
        track: str | None,
        deadline_s: float,
        on_stage: Callable[[str], None],
    ) -> Transcript:
        self.calls.append((video_id, languages, translate_to, deadline_s))
        on_stage("asr")
        return self.act()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path, job_queue_max=3, job_async_deadline_s=77)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(settings: Settings, clock: Clock) -> JobStore:
    return JobStore(settings, clock)


@pytest.fixture
def run(settings: Settings, store: JobStore) -> Iterator[Callable[[Any], JobRunner]]:
    runners: list[JobRunner] = []

    def start(pipeline: Any) -> JobRunner:
        runner = JobRunner(settings, store, pipeline)
        runners.append(runner)
        runner.start()
        return runner

    yield start
    for runner in runners:
        runner.stop(grace_s=5)


def finished(store: JobStore, job: JobRecord) -> JobRecord:
    return wait_for(
        "the job's end", lambda: ((r := store.get(job.id)) and r.finished and r) or None, 20
    )


def test_a_job_is_done_in_the_trace_of_the_request_that_asked(
    store: JobStore, run: Callable[[Any], JobRunner], telemetry: InMemoryTelemetry
) -> None:
    with span("request") as asking:
        job = store.submit(VIDEO, ("en", "de"), "fr")
    assert job.state == "queued"
    pipeline = FakePipeline(lambda: TRANSCRIPT)
    run(pipeline)
    done = finished(store, job)
    assert done.state == "succeeded"
    assert store.result(job.id) == TRANSCRIPT
    assert pipeline.calls == [(VIDEO, ("en", "de"), "fr", 77.0)]
    worked = telemetry.span("transcript.job")
    assert worked.context is not None
    assert worked.context.trace_id == asking.get_span_context().trace_id
    assert worked.parent is not None
    assert worked.parent.span_id == asking.get_span_context().span_id


def test_a_failure_is_kept_with_its_error_type(
    store: JobStore, run: Callable[[Any], JobRunner]
) -> None:
    def fail() -> Transcript:
        raise TranscriptError("ip_blocked", "Not now.")

    job = store.submit(VIDEO, ())
    run(FakePipeline(fail))
    done = finished(store, job)
    assert (done.state, done.error_type, done.detail) == ("failed", "ip_blocked", "Not now.")
    assert store.result(job.id) is None


def test_the_queue_has_a_bound(store: JobStore) -> None:
    for _ in range(3):
        store.submit(VIDEO, ())
    with pytest.raises(QueueFull):
        store.submit(VIDEO, ())


def test_jobs_survive_the_process(settings: Settings, store: JobStore, clock: Clock) -> None:
    job = store.submit(VIDEO, ("en",))
    again = JobStore(settings, clock)
    taken = again.next()
    assert taken is not None
    assert (taken.id, taken.state, taken.run) == (job.id, "running", 1)
    assert again.next() is None


def test_a_run_that_died_is_done_once_more_and_then_given_up(
    settings: Settings, store: JobStore, clock: Clock
) -> None:
    job = store.submit(VIDEO, ())
    first = store.next()
    assert first is not None

    clock.now += 10
    store.recover()
    assert store.next() is None  # still within the patience for heartbeats

    clock.now += 10
    store.recover()
    JobStore(settings, clock).recover()  # another process notices as well
    second = store.next()
    assert second is not None
    assert (second.id, second.run) == (job.id, 2)
    assert store.next() is None  # queued once, not twice

    # The first run was only slow: its result comes too late to count.
    assert not store.finish(replace(first, state="succeeded"), TRANSCRIPT)
    assert store.result(job.id) is None

    clock.now += 20
    store.recover()
    lost = store.get(job.id)
    assert lost is not None
    assert (lost.state, lost.error_type) == ("failed", "internal")


def test_a_job_that_fell_out_of_the_queue_is_put_back(store: JobStore, clock: Clock) -> None:
    job = store.submit(VIDEO, ())
    store._storage.dequeue()  # taken by a process that died before it could begin
    clock.now += 20
    store.recover()
    taken = store.next()
    assert taken is not None
    assert taken.id == job.id


def test_a_stopping_worker_gives_its_job_back(
    store: JobStore, run: Callable[[Any], JobRunner]
) -> None:
    release = threading.Event()

    def wait() -> Transcript:
        release.wait(20)
        return TRANSCRIPT

    job = store.submit(VIDEO, ())
    runner = run(FakePipeline(wait))
    wait_for("the run", lambda: (r := store.get(job.id)) and r.stage == "asr")
    runner.stop(grace_s=0.1)
    given_back = store.get(job.id)
    assert given_back is not None
    assert given_back.state == "queued"
    taken = store.next()
    assert taken is not None
    assert (taken.id, taken.run) == (job.id, 2)
    release.set()


def test_old_results_are_forgotten(store: JobStore, clock: Clock) -> None:
    job = store.submit(VIDEO, ())
    taken = store.next()
    assert taken is not None
    assert store.finish(replace(taken, state="succeeded"), TRANSCRIPT)
    clock.now += 3601
    store.recover()
    assert store.get(job.id) is None
    assert store.result(job.id) is None
