"""`GET /api/jobs/{id}`: how a request that is answered later is getting on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Final, Literal, NotRequired

import orjson
from flask import Blueprint, Response, url_for
from pydantic import Field
from typing_extensions import TypedDict

from ..problem import Problem, TraceId
from ..rfc3339 import rfc3339
from ..telemetry import get_logger
from ..telemetry.vocabulary import ErrorType, Stage
from ..transcripts.formats import TranscriptDocument, as_document
from ..transcripts.job_store import STORAGE_ERRORS, JobRecord, JobStore
from ..transcripts.model import Attempt

log = get_logger(__name__)

# How soon to ask again while a job runs.
_ASK_AGAIN_S: Final = 2
_STORAGE_BACK_S: Final = 10
_JOB_ID: Final = re.compile(r"[0-9a-f]{32}")


_NONE: Final = Field(examples=[None])
_TIME: Final = Field(
    json_schema_extra={"format": "date-time"}, examples=["2026-11-24T17:59:58.120Z"]
)


class JobError(TypedDict):
    code: ErrorType
    detail: str


class JobDocument(TypedDict):
    id: Annotated[str, Field(examples=["0123456789abcdef0123456789abcdef"])]
    state: Literal["queued", "running", "succeeded", "failed"]
    video_id: Annotated[str, Field(examples=["dQw4w9WgXcQ"])]
    languages: Annotated[Sequence[str], Field(examples=[["en"]])]
    translate: Annotated[str | None, _NONE]
    track: Annotated[str | None, _NONE]
    stage: Annotated[Stage | None, _NONE]
    attempts: Sequence[Attempt]
    created_at: Annotated[str, _TIME]
    started_at: Annotated[str, _TIME] | None
    finished_at: Annotated[str, _TIME] | None
    error: Annotated[JobError | None, _NONE]
    trace_id: TraceId
    result: NotRequired[TranscriptDocument]


def create_blueprint(store: JobStore) -> Blueprint:
    blueprint = Blueprint("jobs", __name__, url_prefix="/api/jobs")

    @blueprint.get("/<job_id>")
    def job(job_id: str) -> Response:
        with storage_at_hand():
            record = store.get(job_id) if _JOB_ID.fullmatch(job_id) else None
            transcript = store.result(record) if record else None
        if record is None or (record.state == "succeeded" and transcript is None):
            raise Problem(404, "job_unknown", "There is no such job (any more).")
        document: dict[str, Any] = {**describe(record)}
        if transcript is not None:
            document["result"] = as_document(transcript, record.trace_id)
        response = Response(orjson.dumps(document), mimetype="application/json")
        if not record.finished:
            response.headers["Retry-After"] = str(_ASK_AGAIN_S)
        return response

    return blueprint


@contextmanager
def storage_at_hand() -> Iterator[None]:
    """Answer 503 where the jobs' storage is away: Redis restarting, a disk full."""
    try:
        yield
    except STORAGE_ERRORS as error:
        log.warning("job.storage_failed", error_type=type(error).__name__)
        raise Problem(
            503,
            "job_storage_unavailable",
            "Requests that are answered later cannot be kept or looked up for now.",
            retry_after_s=_STORAGE_BACK_S,
        ) from None


def accepted(record: JobRecord) -> Response:
    """The answer to a request that asked for an answer later (RFC 7240, `respond-async`)."""
    response = Response(orjson.dumps(describe(record)), status=202, mimetype="application/json")
    response.headers["Location"] = url_for("jobs.job", job_id=record.id)
    response.headers["Preference-Applied"] = "respond-async"
    response.headers["Retry-After"] = str(_ASK_AGAIN_S)
    return response


def describe(record: JobRecord) -> JobDocument:
    """A job as JSON: times as RFC 3339, an error as the codes that problems have."""
    wanted = record.wanted
    error: JobError | None = None
    if record.error_type:
        error = {"code": record.error_type, "detail": record.detail or ""}
    started_at, finished_at = (
        None if at is None else rfc3339(at, "milliseconds")
        for at in (record.started_at, record.finished_at)
    )
    return {
        "id": record.id,
        "state": record.state,
        "video_id": wanted.video_id,
        "languages": wanted.languages,
        "translate": wanted.translate_to,
        "track": wanted.track,
        "stage": record.stage,
        "attempts": record.attempts,
        "created_at": rfc3339(record.created_at, "milliseconds"),
        "started_at": started_at,
        "finished_at": finished_at,
        "error": error,
        "trace_id": record.trace_id,
    }
