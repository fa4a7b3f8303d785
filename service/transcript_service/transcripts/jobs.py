"""Long work: requests that are answered later, surviving restarts.

Queue and records live in huey's storage: a SQLite file of their own by default, Redis
where REDIS_URL is set, so that all workers (and with Redis all machines) see them. A job
that was running when its process died is noticed by its missing heartbeat and run once
more; if that fails too it is reported as failed. A run that was given up on cannot
overwrite the result of a later one.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import orjson
from huey.constants import EmptyData
from huey.storage import RedisStorage, SqliteStorage
from opentelemetry import context, trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from ..private_files import make_file
from ..settings import Settings
from ..telemetry import get_logger, instruments, log_context, span
from ..telemetry.vocabulary import ErrorType
from . import stored
from .model import Transcript, TranscriptError
from .pipeline import Pipeline

log = get_logger(__name__)

State = Literal["queued", "running", "succeeded", "failed"]
JOB_ID: Final = re.compile(r"[0-9a-f]{32}")
# A heartbeat every two seconds; six missed ones mean that the process is gone.
_BEAT_S: Final = 2.0
_LOST_S: Final = 15.0
# One run and, after a crash, one more: a video that kills workers must not do it for ever.
_RUNS: Final = 2
_POLL_S: Final = 0.5


class QueueFull(Exception):
    """There are as many jobs waiting as may wait."""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What is known of a job; times in seconds since the epoch.

    `stage` is the one being tried. `run` counts the starts. The ids are those of the span
    that asked, whose trace the job continues.
    """

    id: str
    video_id: str
    languages: tuple[str, ...]
    trace_id: str
    parent_span_id: str
    created_at: float
    state: State = "queued"
    stage: str | None = None
    run: int = 0
    started_at: float | None = None
    finished_at: float | None = None
    error_type: ErrorType | None = None
    detail: str | None = None
    attempts: list[dict[str, Any]] = field(default_factory=list)
    translate_to: str | None = None
    track: str | None = None

    @property
    def finished(self) -> bool:
        return self.state in ("succeeded", "failed")


class JobStore:
    """Records, results and the queue, over huey's storage. Safe between processes.

    Args:
        settings: where the storage is and its bounds.
        clock: seconds since the epoch.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self._most = settings.job_queue_max
        self._keep_s = settings.job_result_ttl_s
        if settings.redis_url:
            url = settings.redis_url.get_secret_value()
            self._storage: Any = RedisStorage("transcript-jobs", url=url, blocking=False)
        else:
            path = make_file(settings.state_dir / "jobs.sqlite3")
            self._storage = SqliteStorage("transcript-jobs", filename=str(path), strict_fifo=True)

    def submit(
        self,
        video_id: str,
        languages: tuple[str, ...],
        translate_to: str | None = None,
        track: str | None = None,
    ) -> JobRecord:
        """Put a job into the queue, in the current trace.

        Raises:
            QueueFull: too many are waiting.
        """
        if self._storage.queue_size() >= self._most:
            raise QueueFull
        here = trace.get_current_span().get_span_context()
        job = JobRecord(
            id=uuid.uuid4().hex,
            video_id=video_id,
            languages=languages,
            translate_to=translate_to,
            track=track,
            trace_id=trace.format_trace_id(here.trace_id),
            parent_span_id=trace.format_span_id(here.span_id),
            created_at=self.clock(),
        )
        self.save(job)
        self._storage.enqueue(job.id.encode())
        self.measure()
        return job

    def save(self, job: JobRecord) -> None:
        """Keep a job's record."""
        self._storage.put_data(f"job:{job.id}", orjson.dumps(job))

    def get(self, job_id: str) -> JobRecord | None:
        """A job's record, `None` where there is none (any more)."""
        body = self._storage.peek_data(f"job:{job_id}")
        return None if body is EmptyData else _record(bytes(body))

    def result(self, job_id: str) -> Transcript | None:
        """The transcript of a job that succeeded."""
        body = self._storage.peek_data(f"result:{job_id}")
        return None if body is EmptyData else stored.load(bytes(body))

    def next(self) -> JobRecord | None:
        """Take the next job out of the queue and begin its run; `None` where none waits."""
        taken = self._storage.dequeue()
        if taken is None:
            return None
        job = self.get(bytes(taken).decode())
        if job is None or job.finished or job.state == "running":
            return None
        job = replace(job, state="running", run=job.run + 1, started_at=self.clock())
        if not self._storage.put_if_empty(f"run:{job.id}:{job.run}", b"1"):
            return None  # somebody else's already
        self.beat(job)
        self.save(job)
        self.measure()
        return job

    def beat(self, job: JobRecord) -> None:
        """Say that the run goes on."""
        self._storage.put_data(f"beat:{job.id}", orjson.dumps(self.clock()))

    def finish(self, job: JobRecord, transcript: Transcript | None) -> bool:
        """Keep the end of a run, unless a later run has begun meanwhile."""
        now = self.get(job.id)
        if now is None or now.run != job.run or now.finished:
            return False
        if transcript is not None:
            self._storage.put_data(f"result:{job.id}", stored.dump(transcript))
        self.save(replace(job, finished_at=self.clock(), stage=None))
        return True

    def requeue(self, job: JobRecord) -> None:
        """Give a run back: to be done by whoever comes next."""
        current = self.get(job.id)
        if current is not None and current.run == job.run and not current.finished:
            self.save(replace(job, state="queued", stage=None, started_at=None))
            self._storage.enqueue(job.id.encode())

    def recover(self) -> None:
        """Find jobs whose run died or that fell out of the queue, and forget old ones."""
        now = self.clock()
        items = {_text(key): bytes(value) for key, value in self._storage.result_items().items()}
        waiting = {bytes(item).decode() for item in self._storage.enqueued_items()}
        for key, body in items.items():
            kind, _, job_id = key.partition(":")
            if kind != "job":
                continue
            job = _record(body)
            if job.finished:
                if now - (job.finished_at or 0) > self._keep_s:
                    self._forget(job, items)
                continue
            beat = items.get(f"beat:{job_id}")
            last_sign = orjson.loads(beat) if beat else job.created_at
            if now - last_sign > _LOST_S and job_id not in waiting:
                self._take_up(job)
        self.measure()

    def _take_up(self, job: JobRecord) -> None:
        # Several processes notice at once; one of them acts.
        if not self._storage.put_if_empty(f"lost:{job.id}:{job.run}", b"1"):
            return
        log.warning("job.lost", job_id=job.id, video_id=job.video_id, run=job.run)
        if job.run >= _RUNS:
            self.finish(
                replace(
                    job,
                    state="failed",
                    error_type="internal",
                    detail="The worker was stopped while it worked on this, more than once.",
                ),
                None,
            )
        else:
            self.beat(job)
            self.requeue(job)

    def _forget(self, job: JobRecord, items: dict[str, bytes]) -> None:
        for key in items:
            if key.split(":")[1] == job.id:
                self._storage.delete_data(key)

    def measure(self) -> None:
        """Say to the metrics how many jobs wait."""
        instruments.JOB_QUEUE_SIZE.set(self._storage.queue_size())


class JobRunner:
    """Runs jobs on threads of this process."""

    def __init__(self, settings: Settings, store: JobStore, pipeline: Pipeline) -> None:
        self._store = store
        self._pipeline = pipeline
        self._deadline_s = settings.job_async_deadline_s
        self._stopping = threading.Event()
        self._running: dict[str, JobRecord] = {}
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._work, name=f"job-{number}", daemon=True)
            for number in range(settings.job_workers)
        ]
        if self._threads:
            self._threads.append(
                threading.Thread(target=self._watch, name="job-watch", daemon=True)
            )

    def start(self) -> None:
        """Begin to take jobs. Once per process, after gunicorn's fork."""
        for thread in self._threads:
            thread.start()

    def stop(self, grace_s: float = 2.0) -> None:
        """Take no more jobs; give back those that do not end within `grace_s`."""
        self._stopping.set()
        end = time.monotonic() + grace_s
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        with self._lock:
            given_back, self._running = list(self._running.values()), {}
        for job in given_back:
            self._store.requeue(job)

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                job = self._store.next()
                if job is None:
                    self._stopping.wait(_POLL_S)
                else:
                    self._run(job)
            except Exception as error:
                # The storage is away (Redis restarting, disk full): come back to it.
                log.exception("job.storage_failed", error_type=type(error).__name__)
                self._stopping.wait(5.0)

    def _watch(self) -> None:
        turns = 0
        while not self._stopping.wait(_BEAT_S if turns else 0.0):
            try:
                with self._lock:
                    running = list(self._running.values())
                for job in running:
                    self._store.beat(job)
                if turns % 5 == 0:
                    self._store.recover()
            except Exception as error:
                log.exception("job.storage_failed", error_type=type(error).__name__)
            turns += 1

    def _run(self, job: JobRecord) -> None:
        with self._lock:
            self._running[job.id] = job
        began = time.perf_counter()

        def on_stage(name: str) -> None:
            self._store.save(replace(job, stage=name))

        transcript: Transcript | None = None
        with (
            _in_trace_of(job),
            log_context(video_id=job.video_id, job_id=job.id),
            span("transcript.job", job_id=job.id, run=job.run),
        ):
            try:
                transcript = self._pipeline.fetch(
                    job.video_id,
                    job.languages,
                    job.translate_to,
                    track=job.track,
                    deadline_s=self._deadline_s,
                    on_stage=on_stage,
                )
                attempts = transcript.attempts
                done = replace(job, state="succeeded")
            except TranscriptError as error:
                attempts = error.attempts
                done = replace(
                    job, state="failed", error_type=error.error_type, detail=error.detail
                )
            with self._lock:
                mine = self._running.pop(job.id, None) is not None
            if mine:
                done = replace(done, attempts=[attempt.as_dict() for attempt in attempts])
                self._store.finish(done, transcript)
            outcome = "success" if transcript else "error"
            instruments.JOB_DURATION.record(time.perf_counter() - began, outcome=outcome)
            log.info("job.finished", state=done.state, error_type=done.error_type)


@contextmanager
def _in_trace_of(job: JobRecord) -> Iterator[None]:
    """Continue the trace of the request that asked for the job."""
    parent = SpanContext(
        trace_id=int(job.trace_id, 16),
        span_id=int(job.parent_span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )
    token = context.attach(trace.set_span_in_context(NonRecordingSpan(parent)))
    try:
        yield
    finally:
        context.detach(token)


def _record(body: bytes) -> JobRecord:
    fields = orjson.loads(body)
    fields["languages"] = tuple(fields["languages"])
    return JobRecord(**fields)


def _text(key: object) -> str:
    return key.decode() if isinstance(key, bytes) else str(key)
