"""Requests that are answered later: queued, run once, found again after a crash."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from pydantic import SecretStr

from tests.live import wait_for
from tests.ports import free_port
from tests.redis_server import Server
from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.problem import Problem
from transcript_service.settings import Settings
from transcript_service.telemetry import span
from transcript_service.transcripts.job_store import JobRecord, JobStore
from transcript_service.transcripts.jobs import JobRunner
from transcript_service.transcripts.model import Segment, Transcript, TranscriptError
from transcript_service.transcripts.pipeline import Pipeline
from transcript_service.transcripts.wanted import Wanted
from transcript_service.web import create_app

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
        self.calls: list[tuple[Wanted, float]] = []

    def fetch(
        self, wanted: Wanted, *, deadline_s: float, on_stage: Callable[[str], None]
    ) -> Transcript:
        self.calls.append((wanted, deadline_s))
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
        job = store.submit(Wanted(VIDEO, ("en", "de"), "fr"))
    assert job.state == "queued"
    pipeline = FakePipeline(lambda: TRANSCRIPT)
    run(pipeline)
    done = finished(store, job)
    assert done.state == "succeeded"
    assert store.result(done) == TRANSCRIPT
    assert pipeline.calls == [(Wanted(VIDEO, ("en", "de"), "fr"), 77.0)]
    # Its span ends when its result is there already.
    wait_for("its span", lambda: telemetry.spans("transcript.job"), 20)
    worked = telemetry.span("transcript.job")
    assert worked.context is not None
    assert worked.context.trace_id == asking.get_span_context().trace_id
    assert worked.parent is not None
    assert worked.parent.span_id == asking.get_span_context().span_id


def test_a_job_of_a_request_that_was_not_sampled_is_not_either(
    store: JobStore, run: Callable[[Any], JobRunner], telemetry: InMemoryTelemetry
) -> None:
    nobody = SpanContext(0x1234, 0x5678, is_remote=True, trace_flags=TraceFlags.get_default())
    asking = otel_context.attach(trace.set_span_in_context(NonRecordingSpan(nobody)))
    try:
        job = store.submit(Wanted(VIDEO, ("en",)))
    finally:
        otel_context.detach(asking)
    run(FakePipeline(lambda: TRANSCRIPT))
    assert finished(store, job).state == "succeeded"
    (line,) = wait_for("its line", lambda: telemetry.events("job.finished"), 20)
    assert telemetry.spans("transcript.job") == []
    assert line["trace_id"] == f"{0x1234:032x}"


def test_a_failure_is_kept_with_its_error_type(
    store: JobStore, run: Callable[[Any], JobRunner]
) -> None:
    def fail() -> Transcript:
        raise TranscriptError("ip_blocked", "Not now.")

    job = store.submit(Wanted(VIDEO))
    run(FakePipeline(fail))
    done = finished(store, job)
    assert (done.state, done.error_type, done.detail) == ("failed", "ip_blocked", "Not now.")
    assert store.result(done) is None


def test_the_queue_has_a_bound(store: JobStore) -> None:
    for language in ("en", "de", "fr"):
        store.submit(Wanted(VIDEO, (language,)))
    with pytest.raises(Problem, match="Too many"):
        store.submit(Wanted(VIDEO, ("it",)))
    joined = store.submit(Wanted(VIDEO, ("de",)))  # the one that waits
    assert joined.wanted.languages == ("de",)


def test_jobs_survive_the_process(settings: Settings, store: JobStore, clock: Clock) -> None:
    job = store.submit(Wanted(VIDEO, ("en",)))
    again = JobStore(settings, clock)
    taken = again.next()
    assert taken is not None
    assert (taken.id, taken.state, taken.run) == (job.id, "running", 1)
    assert again.next() is None


def test_a_run_that_died_is_done_once_more_and_then_given_up(
    settings: Settings, store: JobStore, clock: Clock
) -> None:
    job = store.submit(Wanted(VIDEO))
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
    assert store.get(job.id) == replace(second, stage=None)

    clock.now += 20
    store.recover()
    lost = store.get(job.id)
    assert lost is not None
    assert (lost.state, lost.error_type) == ("failed", "internal")


def test_a_job_that_fell_out_of_the_queue_is_put_back(store: JobStore, clock: Clock) -> None:
    job = store.submit(Wanted(VIDEO))
    store._storage.dequeue()  # taken by a process that died before it could begin
    clock.now += 20
    store.recover()
    taken = store.next()
    assert taken is not None
    assert taken.id == job.id


def full(*_: Any) -> Any:
    raise sqlite3.OperationalError("database or disk is full")


@pytest.mark.parametrize("deletes_too", [False, True])
@pytest.mark.parametrize("kind", ["beat", "job"])
def test_a_job_whose_beginning_could_not_be_kept_begins_later(
    store: JobStore, clock: Clock, monkeypatch: pytest.MonkeyPatch, kind: str, deletes_too: bool
) -> None:
    job = store.submit(Wanted(VIDEO))

    put = store._storage.put_data

    def put_data(key: str, value: bytes) -> None:
        full() if key.startswith(kind) else put(key, value)

    for _ in range(3):  # however often
        with monkeypatch.context() as context:
            context.setattr(store._storage, "put_data", put_data)
            if deletes_too:
                context.setattr(store._storage, "delete_data", full)
            with pytest.raises(sqlite3.OperationalError):
                store.next()
        for _ in range(2):  # an old notice is removed by one look, the job taken up by the next
            clock.now += 20
            store.recover()
    assert store.submit(Wanted(VIDEO)).id == job.id
    taken = store.next()
    assert taken is not None
    assert (taken.id, taken.run, store.next()) == (job.id, 1, None)
    assert store.finish(replace(taken, state="succeeded"), TRANSCRIPT)
    assert not [key for key in store._keys() if key.startswith(("run", "lost", "beat"))]


def test_who_could_not_take_up_a_lost_job_leaves_it_to_the_next(
    store: JobStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = store.submit(Wanted(VIDEO))
    assert store.next() is not None
    clock.now += 20
    with monkeypatch.context() as context:
        context.setattr(store._storage, "enqueue", full)
        with pytest.raises(sqlite3.OperationalError):
            store.recover()
    for _ in range(2):
        clock.now += 20
        store.recover()
    taken = store.next()
    assert taken is not None
    assert (taken.id, taken.run) == (job.id, 2)


def test_a_stopping_worker_gives_its_job_back(
    store: JobStore, run: Callable[[Any], JobRunner]
) -> None:
    release = threading.Event()

    def wait() -> Transcript:
        release.wait(20)
        return TRANSCRIPT

    job = store.submit(Wanted(VIDEO))
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


def done(store: JobStore, *languages: str, text: str = "hello") -> JobRecord:
    """A job that has ended."""
    job = store.submit(Wanted(VIDEO, languages))
    taken = store.next()
    assert taken is not None
    assert taken.id == job.id
    said = replace(TRANSCRIPT, segments=(Segment(0, 1, text),))
    assert store.finish(replace(taken, state="succeeded"), said)
    ended = store.get(job.id)
    assert ended is not None
    return ended


def test_old_results_are_forgotten(store: JobStore, clock: Clock) -> None:
    job = done(store)
    clock.now += 3601
    store.recover()
    assert store.get(job.id) is None
    assert store.result(job) is None
    assert store._keys() == []


def test_equal_requests_are_one_job_until_it_has_ended(store: JobStore) -> None:
    first = store.submit(Wanted(VIDEO, ("en",), "de", "Dialogue"))
    assert store.submit(Wanted(VIDEO, ("en",), "de", "Dialogue")) == first
    others = [
        store.submit(Wanted("bbbbbbbbbbb", ("en",), "de", "Dialogue")),
        store.submit(Wanted(VIDEO, ("en",), "de")),
    ]
    running = store.next()
    assert running is not None
    assert store.submit(Wanted(VIDEO, ("en",), "de", "Dialogue")).id == running.id == first.id
    assert store.finish(replace(running, state="failed"), None)
    again = store.submit(Wanted(VIDEO, ("en",), "de", "Dialogue"))
    assert len({first.id, again.id, *(other.id for other in others)}) == 4


def random_text(size: int) -> str:
    return os.urandom(size // 2).hex()


def test_equal_results_are_kept_once_and_as_long_as_one_of_them(
    store: JobStore, clock: Clock, settings: Settings
) -> None:
    text = random_text(2_000_000)
    jobs = []
    for _ in range(20):
        jobs.append(done(store, text=text))
        clock.now += 200
    size = (settings.state_dir / "jobs.sqlite3").stat().st_size
    assert size < 4_000_000  # hexadecimal digits pack into half
    assert len({job.result for job in jobs}) == 1
    for job in jobs[-10:]:
        result = store.result(job)
        assert result is not None
        assert result.segments[0].text == text
    store.recover()
    assert store.get(jobs[0].id) is None
    assert store.result(jobs[-1]) is not None


def test_forty_requests_for_one_large_transcript_keep_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = replace(TRANSCRIPT, segments=(Segment(0, 1, random_text(2_000_000)),))
    monkeypatch.setattr(Pipeline, "fetch", lambda *_, **__: said)
    app = create_app(Settings(state_dir=tmp_path))
    client, runner = app.test_client(), app.extensions["job_runner"]
    places = []
    for number in range(40):  # no two are equal: each is a job
        path = f"/api/transcripts/{VIDEO}?lang=en,de-{number:03}"
        answer = client.get(path, headers={"Prefer": "respond-async"})
        assert answer.status_code == 202
        places.append(answer.headers["Location"])
    runner.start()
    wait_for("the last's end", lambda: (client.get(places[-1]).json or {})["state"] == "succeeded")
    runner.stop(grace_s=5)
    assert len(set(places)) == 40
    assert (tmp_path / "jobs.sqlite3").stat().st_size < 4_000_000


def test_all_results_together_have_a_bound(settings: Settings, clock: Clock) -> None:
    store = JobStore(settings.model_copy(update={"job_results_max_mb": 3}), clock)
    jobs = []
    for number in range(10):
        jobs.append(done(store, f"x{number}".replace("0", "a"), text=random_text(2_000_000)))
        clock.now += 1
    assert [job for job in jobs if store.get(job.id)] == jobs[-2:]
    assert (settings.state_dir / "jobs.sqlite3").stat().st_size < 6_000_000


def test_bookkeeping_reads_names_and_no_results(
    store: JobStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [done(store, text=random_text(1000)) for _ in range(5)]
    waiting = store.submit(Wanted(VIDEO, ("fr",)))
    read: list[str] = []
    peek = store._storage.peek_data

    def noted(key: str) -> Any:
        read.append(key)
        return peek(key)

    monkeypatch.setattr(store._storage, "peek_data", noted)
    monkeypatch.delattr(type(store._storage), "result_items")
    store._storage.dequeue()  # fell out of the queue: to be looked at
    store.recover()
    assert {key.split(":")[1] for key in read} == {waiting.id}
    assert all(store.get(job.id) for job in jobs)


def test_a_run_whose_storage_fails_is_taken_up_again(
    store: JobStore, run: Callable[[Any], JobRunner], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its heartbeat must end with it, or it would be running for ever."""

    tried = threading.Event()

    def away(*_: Any) -> bool:
        tried.set()
        raise sqlite3.OperationalError("disk I/O error")

    job = store.submit(Wanted(VIDEO))
    with monkeypatch.context() as failing:
        failing.setattr(store, "finish", away)
        runner = run(FakePipeline(lambda: TRANSCRIPT))
        wait_for("the failure", lambda: tried.is_set() and not runner._running, 20)
        wait_for("its end", lambda: (r := store.get(job.id)) and r.state == "running", 20)
    clock.now += 20
    store.recover()
    assert finished(store, job).run == 2


@pytest.fixture(params=["sqlite", "redis"])
def any_store(
    request: pytest.FixtureRequest, settings: Settings, clock: Clock, tmp_path: Path
) -> Iterator[JobStore]:
    """The same store over both kinds of storage."""
    if request.param == "sqlite":
        yield JobStore(settings, clock)
        return
    server = Server(tmp_path)
    try:
        server.start()
        redis = {"redis_url": SecretStr(server.url)}
        yield JobStore(settings.model_copy(update=redis), clock)
    finally:
        server.stop()


def test_both_storages_share_bound_and_forget(any_store: JobStore, clock: Clock) -> None:
    first, second = done(any_store), done(any_store)
    assert first.id != second.id
    assert any_store.result(first) == any_store.result(second) == TRANSCRIPT
    assert sum(key.startswith("result:") for key in any_store._keys()) == 1
    waiting = any_store.submit(Wanted(VIDEO, ("fr",)))
    assert any_store.submit(Wanted(VIDEO, ("fr",))).id == waiting.id
    clock.now += 3601
    any_store.recover()
    assert {key for key in any_store._keys() if not key.startswith(("job", "same"))} == set()
    taken = any_store.next()
    assert taken is not None
    assert taken.id == waiting.id


def test_storage_that_is_away_is_503_with_a_time_to_come_back(tmp_path: Path) -> None:
    settings = Settings(
        state_dir=tmp_path, redis_url=SecretStr(f"redis://127.0.0.1:{free_port()}/0"), job_workers=0
    )
    client = create_app(settings).test_client()
    for answer in (
        client.get(f"/api/transcripts/{VIDEO}", headers={"Prefer": "respond-async"}),
        client.get("/api/jobs/" + "0" * 32),
    ):
        assert answer.status_code == 503
        assert answer.mimetype == "application/problem+json"
        assert answer.json is not None
        assert answer.json["code"] == "job_storage_unavailable"
        assert int(answer.headers["Retry-After"]) > 0
