"""Where requests that are answered later are kept: the queue, the records and the results.

In huey's storage: a SQLite file of its own by default, Redis where REDIS_URL is set, so that
all workers (and with Redis all machines) see them. Equal requests that wait or run are one
job, equal results are kept once, and all results together within a bound.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
import uuid
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import orjson
from huey.constants import EmptyData
from huey.storage import RedisStorage, SqliteStorage
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from pydantic import TypeAdapter
from redis.exceptions import RedisError

from ..private_files import make_file
from ..problem import Problem
from ..resilience.shared_redis import connect
from ..settings import Settings
from ..telemetry import get_logger, instruments
from ..telemetry.vocabulary import ErrorType, Stage
from .model import Attempt, Transcript
from .wanted import Wanted

log = get_logger(__name__)

State = Literal["queued", "running", "succeeded", "failed"]
STORAGE_ERRORS: Final = (RedisError, sqlite3.Error)
"""What any method of a store raises while its storage is away."""
TRACE_CONTEXT: Final = TraceContextTextMapPropagator()
# A run gives a sign of life every two seconds; six missed ones mean that the process is gone.
_LOST_S: Final = 15.0
# One run and, after a crash, one more: a video that kills workers must not do it for ever.
_RUNS: Final = 2
_REDIS_ANSWER_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What is known of a job; times in seconds since the epoch.

    `stage` is the one being tried. `run` counts the starts. `carrier` holds the trace context
    of who asked first (W3C), whose trace the job continues. `result` is the name of what it
    found.
    """

    id: str
    wanted: Wanted
    carrier: dict[str, str]
    created_at: float
    state: State = "queued"
    stage: Stage | None = None
    run: int = 0
    started_at: float | None = None
    finished_at: float | None = None
    error_type: ErrorType | None = None
    detail: str | None = None
    attempts: tuple[Attempt, ...] = ()
    result: str | None = None

    @property
    def finished(self) -> bool:
        return self.state in ("succeeded", "failed")

    @property
    def trace_id(self) -> str:
        """Of who asked first, in hexadecimal digits; zeros where nobody traced."""
        return self.carrier.get("traceparent", f"-{'0' * 32}").split("-")[1]

    @property
    def same(self) -> str:
        """Where the id stands of the unfinished job that asks for the same."""
        return f"same:{_digest(self.wanted.key.encode())}"


_RECORD: Final = TypeAdapter(JobRecord)


class JobStore:
    """Records, results and the queue. Safe between processes. `clock` tells Unix seconds."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self._most = settings.job_queue_max
        self._keep_s = settings.job_result_ttl_s
        self._most_bytes = settings.job_results_max_mb * 1_000_000
        if client := connect(settings, _REDIS_ANSWER_S):
            self._storage: Any = RedisStorage(
                "transcript-jobs", connection_pool=client.connection_pool, blocking=False
            )
        else:
            path = make_file(settings.state_dir / "jobs.sqlite3")
            self._storage = SqliteStorage("transcript-jobs", filename=str(path), strict_fifo=True)

    def submit(self, wanted: Wanted) -> JobRecord:
        """Put a job into the queue, in the current trace, or join an equal one.

        Raises:
            Problem: 429 `queue_full`, too many are waiting.
        """
        carrier: dict[str, str] = {}
        TRACE_CONTEXT.inject(carrier)
        job = JobRecord(uuid.uuid4().hex, wanted, carrier, created_at=self.clock())
        other = self._peek(job.same)
        if other and (equal := self.get(other.decode())) and not equal.finished:
            return equal
        if self._storage.queue_size() >= self._most:
            detail = "Too many requests wait to be answered later."
            raise Problem(429, "queue_full", detail, retry_after_s=30)
        self.save(job)
        self._storage.put_data(job.same, job.id.encode())
        self._storage.enqueue(job.id.encode())
        self.measure()
        return job

    def save(self, job: JobRecord) -> None:
        """Keep a job's record."""
        self._storage.put_data(f"job:{job.id}", orjson.dumps(job))

    def get(self, job_id: str) -> JobRecord | None:
        """A job's record, `None` where there is none (any more)."""
        try:
            job = _RECORD.validate_json(self._peek(f"job:{job_id}") or b"")
        except ValueError:  # there is none, or one of another version
            return None
        if job.state != "running":
            return job
        return replace(job, stage=self._last_sign(job)[1])

    def result(self, job: JobRecord) -> Transcript | None:
        """The transcript of a job that succeeded, as long as it is kept."""
        body = self._peek(f"result:{job.result}") if job.result else None
        return None if body is None else Transcript.from_json(zlib.decompress(body))

    def next(self) -> JobRecord | None:
        """Take the next job out of the queue and begin its run; `None` where none waits."""
        taken = self._storage.dequeue()
        if taken is None:
            return None
        job = self.get(bytes(taken).decode())
        if job is None or job.finished or job.state == "running":
            return None
        job = replace(job, state="running", run=job.run + 1, started_at=self.clock())
        # Where the storage fails between taking and saving, nobody runs it and no heartbeat
        # comes: `recover` puts it back.
        self.beat(job)
        self.save(job)
        self.measure()
        return job

    def beat(self, job: JobRecord) -> None:
        """Say that the run goes on, and at which stage."""
        self._storage.put_data(f"beat:{job.id}", orjson.dumps([self.clock(), job.stage]))

    def finish(self, job: JobRecord, transcript: Transcript | None) -> bool:
        """Keep the end of a run, unless a later run has begun meanwhile."""
        now = self.get(job.id)
        if now is None or now.run != job.run or now.finished:
            return False
        finished_at = self.clock()
        job = replace(job, finished_at=finished_at, stage=None)
        size = 0
        if transcript is not None:
            body = transcript.as_json()
            job = replace(job, result=_digest(body))
            packed = zlib.compress(body, 1)
            size = len(packed)
            self._storage.put_data(f"result:{job.result}", packed)
        # The key says it all: bookkeeping reads keys and no values.
        done = f"done:{finished_at:.3f}:{job.id}:{job.result or ''}:{size}"
        self._storage.put_data(done, b"")
        self.save(job)
        self._storage.delete_data(f"beat:{job.id}")
        self._storage.delete_data(job.same)
        if transcript is not None:
            self._forget_old(self._keys())
        return True

    def requeue(self, job: JobRecord) -> None:
        """Give a run back: to be done by whoever comes next."""
        current = self.get(job.id)
        if current is not None and current.run == job.run and not current.finished:
            self.save(replace(job, state="queued", stage=None, started_at=None))
            self._storage.enqueue(job.id.encode())

    def recover(self) -> None:
        """Find jobs whose run died or that fell out of the queue, and forget old ones.

        Of what is kept only the names are read, and the records of unfinished jobs.
        """
        keys = self._keys()
        ended = self._forget_old(keys)
        waiting = {bytes(item).decode() for item in self._storage.enqueued_items()}
        for job_id in (key[4:] for key in keys if key.startswith("job:")):
            if job_id in ended or job_id in waiting:
                continue
            job = self.get(job_id)
            if job and not job.finished and self.clock() - self._last_sign(job)[0] > _LOST_S:
                self._take_up(job)
        self.measure()

    def measure(self) -> None:
        """Say to the metrics how many jobs wait."""
        instruments.JOB_QUEUE_SIZE.set(self._storage.queue_size())

    def _take_up(self, job: JobRecord) -> None:
        log.warning("job.lost", job_id=job.id, video_id=job.wanted.video_id, run=job.run)
        if job.run >= _RUNS:
            detail = "The worker was stopped while it worked on this, more than once."
            self.finish(replace(job, state="failed", error_type="internal", detail=detail), None)
        else:
            # Other processes notice as well: to them it is heard of again.
            self.beat(job)
            self.requeue(job)

    def _forget_old(self, keys: list[str]) -> set[str]:
        """Forget what ended long ago and, from the oldest on, what goes beyond the bound.

        Returns the ids of all that had ended.
        """
        ended = [key.split(":") for key in keys if key.startswith("done:")]
        kept: set[str] = set()
        total = 0
        for _, at, job_id, result, size in sorted(ended, key=lambda parts: -float(parts[1])):
            if result not in kept:
                total += int(size)
            young = self.clock() - float(at) <= self._keep_s
            if young and total <= self._most_bytes:
                kept.add(result)
                continue
            self._storage.delete_data(f"done:{at}:{job_id}:{result}:{size}")
            self._storage.delete_data(f"job:{job_id}")
            if result and result not in kept:
                self._storage.delete_data(f"result:{result}")
        return {job_id for _, _, job_id, _, _ in ended}

    def _last_sign(self, job: JobRecord) -> tuple[float, Stage | None]:
        """When a job was last heard of, and the stage it was at."""
        body = self._peek(f"beat:{job.id}")
        at, stage = orjson.loads(body) if body else (job.created_at, None)
        return at, stage

    def _peek(self, key: str) -> bytes | None:
        body = self._storage.peek_data(key)
        return None if body is EmptyData else bytes(body)

    def _keys(self) -> list[str]:
        """The names of all that is kept; huey itself reads the values with them."""
        if isinstance(self._storage, RedisStorage):
            return [key.decode() for key in self._storage.conn.hkeys(self._storage.result_key)]
        rows = self._storage.sql(
            "SELECT key FROM kv WHERE queue = ?", (self._storage.name,), results=True
        )
        return [key for (key,) in rows]


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:32]
