"""One request from its video id to a transcript or to the reason why there is none.

Stages run in order of cost under one deadline: deadline, breaker, retry, call. The first
transcript ends the job, and so does an answer about the video itself, which no other
stage can change. Everything tried is kept, so that caller, trace, metric and log line
tell the same story.
"""

from __future__ import annotations

import contextvars
import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from typing import Final, TypeVar

from opentelemetry.trace import Span

from ..proxies import JobProxy, NoProxyAvailable, ProxyPool
from ..resilience.circuit_breaker import CallNotPermitted, CircuitBreaker
from ..resilience.deadline import Deadline, DeadlineExceeded
from ..settings import Settings
from ..telemetry import get_logger, instruments, log_context, set_attributes, span
from ..telemetry.vocabulary import ANSWERS, ErrorType, Stage
from .admission import Places
from .cache import TranscriptCache
from .model import Attempt, NotTried, Transcript, TranscriptError
from .stages.base import Job, Notes, TranscriptStage, rotation_reason_of
from .wanted import Wanted

log = get_logger(__name__)

T = TypeVar("T")

# Answers that end a job at once. Disabled captions do not: speech recognition needs none.
_FINAL: Final = ANSWERS - {"transcripts_disabled"}
# Of these, what the browser stage may get around where it is logged in.
_NEEDS_LOGIN: Final[frozenset[ErrorType]] = frozenset(
    {"age_restricted", "video_private", "members_only", "payment_required"}
)
_NEEDS_CAPTIONS: Final[frozenset[Stage]] = frozenset({"youtube_api", "timedtext", "youtubei"})
# Worth a second try at once: the next answer may well be a good one.
_RETRYABLE: Final[frozenset[ErrorType]] = frozenset(
    {"timeout", "connection_error", "http_5xx", "empty_body", "parse_error"}
)
_PATIENCE_S: Final = 3.0
# A stage that begins with less than this, or with less than half of a configured deadline
# that is shorter, and runs out of time was given too little by those before it.
_ENOUGH_S: Final = 10.0
# Why a stage was not called at all; "unavailable" is its own word (`NotTried`).
_NO_TRY: Final[frozenset[ErrorType]] = frozenset({"breaker_open", "deadline_exceeded"})
# Says something about us rather than about YouTube; reported only if nothing else is known.
_OWN: Final[frozenset[ErrorType]] = frozenset(
    {"breaker_open", "deadline_exceeded", "browser_unavailable", "asr_unavailable", "internal"}
)
# Says something about one video or track: it counts against a stage once in this time, so
# that whoever asks for one damaged video again and again closes the stage for nobody.
_OF_ONE_VIDEO: Final[frozenset[ErrorType]] = frozenset(
    {
        "empty_body", "parse_error", "po_token_required", "http_4xx", "playability_unknown",
        "wrong_video",
    }
)  # fmt: skip
_COUNTED_ONCE_S: Final = 60.0
# Before a second try 0.5 to 1 s: long enough for a hiccup to pass, short beside a 60 s job.
_FIRST_WAIT_S: Final = 0.5
_JITTER_S: Final = 0.5
_MOST_WAIT_S: Final = 5.0
_MOST_COUNTED: Final = 10_000


class Pipeline:
    """Fetches transcripts. One per process, called from all its threads."""

    def __init__(
        self,
        settings: Settings,
        stages: Sequence[TranscriptStage],
        breakers: Mapping[Stage, CircuitBreaker],
        proxies: ProxyPool,
        cache: TranscriptCache | None = None,
    ) -> None:
        self._settings = settings
        self._stages = stages
        self._breakers = breakers
        self._proxies = proxies
        self._cache = cache
        self._enough_s = min(_ENOUGH_S, settings.job_deadline_s / 2)
        self._final = _FINAL
        if settings.cookies_file or settings.cookies_file_desktop or settings.cookies_file_mobile:
            self._final = _FINAL - _NEEDS_LOGIN
        self._counted: dict[tuple[Stage, str], float] = {}
        # A call that hangs where no timeout reaches (DNS, a library) is left behind on
        # these threads when the deadline passes; what it hangs on is ended, or ends by
        # its own timeouts.
        self._threads = ThreadPoolExecutor(
            max_workers=settings.web_fetches * 3, thread_name_prefix="stage"
        )

    def fetch(
        self,
        wanted: Wanted,
        *,
        deadline_s: float | None = None,
        on_stage: Callable[[Stage], None] | None = None,
        admission: Places | None = None,
    ) -> Transcript:
        """The transcript of a video.

        Args:
            wanted: which one. Stages that cannot do that are left out.
            deadline_s: seconds for all of it (JOB_DEADLINE_S).
            on_stage: told each stage that begins.
            admission: where there are only so many places to fetch.

        Raises:
            TranscriptError: with `attempts` filled in.
        """
        started = time.perf_counter()
        deadline = Deadline(deadline_s or self._settings.job_deadline_s)
        named = {"video_id": wanted.video_id}
        with log_context(**named), span("transcript.fetch", **named) as opened:

            def load() -> Transcript:
                with admission.fetching() if admission else nullcontext():
                    way = self._way_out(deadline)
                    return self._stages_in_order(Job(wanted, deadline, way, on_stage=on_stage))

            result: Transcript | TranscriptError
            try:
                waiting = admission.waiting if admission else nullcontext
                if self._cache is None:
                    with waiting():
                        result = load()
                else:
                    result = self._cache.fetch(wanted.key, load, deadline, waiting)
            except DeadlineExceeded:
                # Of another request for the same, or while a proxy was looked for.
                result = TranscriptError("deadline_exceeded", "The request's time was used up.")
            except TranscriptError as error:
                result = error
            _tell(opened, time.perf_counter() - started, result)
            if isinstance(result, TranscriptError):
                raise result
            return result

    def _way_out(self, deadline: Deadline) -> JobProxy:
        try:
            return self._until(deadline, lambda: self._proxies.for_job(uuid.uuid4().hex, deadline))
        except NoProxyAvailable as error:
            raise TranscriptError(
                "proxy_error", "All proxies are resting.", retry_after_s=error.retry_after_s
            ) from None

    def _stages_in_order(self, job: Job) -> Transcript:
        attempts: list[Attempt] = []
        errors: list[TranscriptError] = []
        wanted = job.wanted
        for stage in self._stages:
            has_captions = not any(error.error_type == "transcripts_disabled" for error in errors)
            if stage.name in _NEEDS_CAPTIONS:
                fits = has_captions and (stage.translates or not wanted.translate_to)
            else:  # speech is not translated, and no named track
                fits = not wanted.translate_to and not wanted.track
            if not fits:
                continue
            attempt, result = self._attempt(stage, job)
            attempts.append(attempt)
            if isinstance(result, Transcript):
                return replace(result, attempts=tuple(attempts))
            errors.append(result)
            if result.error_type in self._final:
                break
        if not errors:
            errors.append(
                TranscriptError("language_unavailable", "No stage that translates is switched on.")
                if self._stages
                else TranscriptError("internal", "No stage is switched on.")
            )
        telling = next((error for error in errors if error.error_type not in _OWN), errors[0])
        telling.attempts = tuple(attempts)
        raise telling

    def _attempt(
        self, stage: TranscriptStage, job: Job
    ) -> tuple[Attempt, Transcript | TranscriptError]:
        """One stage, measured; never raises."""
        started = time.perf_counter()
        if job.on_stage is not None:
            job.on_stage(stage.name)
        with log_context(stage=stage.name), span("transcript.stage", stage=stage.name) as opened:
            job = replace(job, notes=Notes())
            result = self._guarded(stage, job)
            error = result if isinstance(result, TranscriptError) else None
            attempt = Attempt(
                stage=stage.name,
                outcome=error.outcome if error else "success",
                error_type=error.error_type if error else None,
                duration_s=round(time.perf_counter() - started, 6),
                profile=job.notes.profile,
                proxy_used=job.notes.proxy_used,
            )
            told = {
                "outcome": attempt.outcome,
                "error_type": attempt.error_type,
                "profile": attempt.profile,
            }
            tries, proxy_used = job.notes.tries, attempt.proxy_used
            set_attributes(
                opened, video_id=job.video_id, attempt=tries, proxy_used=proxy_used, **told
            )
            late = attempt.error_type == "deadline_exceeded" and tries == 0
            if attempt.outcome == "skipped" or late:
                # No duration: a refusal in microseconds would ruin the stage's quantiles.
                reason = attempt.error_type if attempt.error_type in _NO_TRY else "unavailable"
                instruments.TRANSCRIPT_STAGE_SKIPPED.add(1, stage=stage.name, reason=reason)
                log.info("transcript.stage.skipped", stage=stage.name, reason=reason)
            else:
                instruments.TRANSCRIPT_STAGE_DURATION.record(
                    attempt.duration_s,
                    stage=stage.name,
                    proxy_used="true" if proxy_used else "false",
                    **told,
                )
                log.info(
                    "transcript.stage.finished",
                    attempt=tries,
                    duration_s=attempt.duration_s,
                    proxy_used=proxy_used,
                    **told,
                )
        return attempt, result

    def _guarded(self, stage: TranscriptStage, job: Job) -> Transcript | TranscriptError:
        """Deadline, breaker, retry, call: every way it can end as a result."""
        try:
            job.deadline.check()
            # A probe may take as long as its job; the place of one that outlives it is given away.
            with self._breakers[stage.name].permit(job.deadline.remaining() + 5.0) as permit:
                hurried = job.deadline.remaining() < self._enough_s
                try:
                    return self._until(job.deadline, lambda: _tries(stage, job))
                except DeadlineExceeded:
                    if hurried:
                        permit.ignore()
                    raise
                except TranscriptError as error:
                    if hurried and error.error_type == "timeout":
                        permit.ignore()
                        raise DeadlineExceeded("the stage was given too little time") from error
                    if self._counts(error, stage.name, job.video_id):
                        permit.failure()
                    else:
                        permit.ignore()
                    return error
        except CallNotPermitted as refusal:
            return TranscriptError(
                "breaker_open",
                "This way is closed for a while after failing too often.",
                retry_after_s=refusal.retry_after_s,
            )
        except DeadlineExceeded:
            return TranscriptError("deadline_exceeded", "The request's time was used up.")
        except Exception as error:
            log.exception("transcript.stage.failed", error_type=type(error).__name__)
            return TranscriptError("internal", "The stage failed unexpectedly.")

    def _counts(self, error: TranscriptError, stage: Stage, video_id: str) -> bool:
        """Whether an error counts against the stage's breaker: whether it is about the stage.

        An answer is about the video, a refused translation about translations.
        """
        if isinstance(error, NotTried) or error.error_type in ANSWERS | {"translation_refused"}:
            return False
        if error.error_type not in _OF_ONE_VIDEO:
            return True
        now = time.monotonic()
        if now - self._counted.get((stage, video_id), -_COUNTED_ONCE_S) < _COUNTED_ONCE_S:
            return False
        if len(self._counted) >= _MOST_COUNTED:
            self._counted.clear()
        self._counted[stage, video_id] = now
        return True

    def _until(self, deadline: Deadline, call: Callable[[], T]) -> T:
        """The result of `call`, not waited for beyond the deadline."""
        future = self._threads.submit(contextvars.copy_context().run, call)
        try:
            return future.result(timeout=deadline.remaining())
        except TimeoutError:
            if future.done():  # its own, or it ended in this moment
                return future.result()
            future.cancel()
            deadline.leave_behind()
            raise DeadlineExceeded("the call did not end in time") from None


def _tries(stage: TranscriptStage, job: Job) -> Transcript:
    """What a stage gives in as many tries as it has; none begins after the deadline."""
    job.deadline.check()
    while True:
        job.notes.tries += 1
        try:
            return stage.fetch(job)
        except TranscriptError as error:
            tried = job.notes.tries
            if not _worth_another_try(error, job) or tried >= stage.attempts:
                raise
            delay_s = _wait_s(tried, error.retry_after_s)
            if delay_s >= job.deadline.remaining():
                raise  # at once: the next stage has what time there is
            log.info(
                "transcript.stage.retried",
                attempt=tried,
                delay_s=round(delay_s, 3),
                error_type=error.error_type,
            )
        time.sleep(delay_s)


def _wait_s(tried: int, asked_s: float | None) -> float:
    """Seconds to wait after a failed try.

    The wait has jitter (see "Exponential Backoff And Jitter", AWS Architecture Blog, 2015),
    also where the server said when (`asked_s`, its `Retry-After`): not all clients come back
    at the same instant.
    """
    jitter_s = random.uniform(0.0, _JITTER_S)  # noqa: S311 - no secret
    if asked_s is not None:
        return max(0.0, asked_s) + jitter_s
    return min(_MOST_WAIT_S, _FIRST_WAIT_S * 2.0 ** (tried - 1) + jitter_s)


def _worth_another_try(error: TranscriptError, job: Job) -> bool:
    """Whether the next try can end otherwise; changes the job's proxy where that is why."""
    if (reason := rotation_reason_of(error)) and job.proxy.rotate(reason, job.deadline):
        return True
    if error.error_type == "ip_blocked":
        # YouTube said when; a longer wait is better spent on the next stage.
        return error.retry_after_s is not None and error.retry_after_s <= _PATIENCE_S
    return error.error_type in _RETRYABLE


def _tell(opened: Span, duration_s: float, result: Transcript | TranscriptError) -> None:
    """The request's span, metrics and log line, from one set of facts."""
    told: dict[str, str | None]
    if isinstance(result, TranscriptError):
        told = {"outcome": result.outcome, "source": None, "error_type": result.error_type}
    else:
        source = "cache" if result.cached else result.source
        told = {"outcome": "success", "source": source, "error_type": None}
    set_attributes(opened, **told)
    instruments.TRANSCRIPT_REQUESTS.add(1, **told)
    instruments.TRANSCRIPT_REQUEST_DURATION.record(
        duration_s, outcome=told["outcome"], source=told["source"]
    )
    log.info("transcript.request.finished", duration_s=round(duration_s, 6), **told)
