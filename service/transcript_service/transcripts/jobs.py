"""Long work: running the requests that are answered later, surviving restarts.

A job that was running when its process died is noticed by its missing heartbeat and run once
more; if that fails too it is reported as failed. A run that was given up on cannot
overwrite the result of a later one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from opentelemetry import context

from ..settings import Settings
from ..telemetry import get_logger, instruments, log_context, span
from ..telemetry.vocabulary import Stage
from .job_store import TRACE_CONTEXT, JobRecord, JobStore
from .model import Transcript, TranscriptError
from .pipeline import Pipeline

log = get_logger(__name__)

_BEAT_S: Final = 2.0
_POLL_S: Final = 0.5


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

        def on_stage(name: Stage) -> None:
            with self._lock:  # the next heartbeat tells it
                if job.id in self._running:
                    self._running[job.id] = replace(job, stage=name)

        transcript: Transcript | None = None
        with (
            _in_trace_of(job),
            log_context(video_id=job.wanted.video_id, job_id=job.id),
            span("transcript.job", job_id=job.id, run=job.run),
        ):
            try:
                transcript = self._pipeline.fetch(
                    job.wanted, deadline_s=self._deadline_s, on_stage=on_stage
                )
                attempts = transcript.attempts
                done = replace(job, state="succeeded")
            except TranscriptError as error:
                attempts = error.attempts
                done = replace(
                    job, state="failed", error_type=error.error_type, detail=error.detail
                )
            finally:
                # Without a heartbeat: whatever happened here, the job is taken up again.
                with self._lock:
                    mine = self._running.pop(job.id, None) is not None
            if mine:
                self._store.finish(replace(done, attempts=attempts), transcript)
            outcome = "success" if transcript else "error"
            instruments.JOB_DURATION.record(time.perf_counter() - began, outcome=outcome)
            log.info("job.finished", state=done.state, error_type=done.error_type)


@contextmanager
def _in_trace_of(job: JobRecord) -> Iterator[None]:
    """Continue the trace of the request that asked for the job."""
    token = context.attach(TRACE_CONTEXT.extract(job.carrier))
    try:
        yield
    finally:
        context.detach(token)
