"""`GET /api/jobs/{id}`: how a request that is answered later is getting on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import orjson
from flask import Blueprint, Response, url_for

from ..problem import Problem
from ..transcripts.formats import as_document
from ..transcripts.jobs import JOB_ID, JobRecord, JobStore

# How soon to ask again while a job runs.
_ASK_AGAIN_S: Final = 2


def create_blueprint(store: JobStore) -> Blueprint:
    """The job routes over a store."""
    blueprint = Blueprint("jobs", __name__, url_prefix="/api/jobs")

    @blueprint.get("/<job_id>")
    def job(job_id: str) -> Response:
        record = store.get(job_id) if JOB_ID.fullmatch(job_id) else None
        if record is None:
            raise Problem(404, "job_unknown", "There is no such job (any more).")
        document = describe(record)
        if record.state == "succeeded" and (transcript := store.result(job_id)):
            document["result"] = as_document(transcript, record.trace_id)
        response = Response(orjson.dumps(document), mimetype="application/json")
        if not record.finished:
            response.headers["Retry-After"] = str(_ASK_AGAIN_S)
        return response

    return blueprint


def accepted(record: JobRecord) -> Response:
    """The answer to a request that asked for an answer later (RFC 7240, `respond-async`)."""
    response = Response(orjson.dumps(describe(record)), status=202, mimetype="application/json")
    response.headers["Location"] = url_for("jobs.job", job_id=record.id)
    response.headers["Preference-Applied"] = "respond-async"
    response.headers["Retry-After"] = str(_ASK_AGAIN_S)
    return response


def describe(record: JobRecord) -> dict[str, Any]:
    """A job as JSON: times as RFC 3339, an error as the codes that problems have."""
    error = {"code": record.error_type, "detail": record.detail} if record.error_type else None
    return {
        "id": record.id,
        "state": record.state,
        "video_id": record.video_id,
        "languages": list(record.languages),
        "translate": record.translate_to,
        "track": record.track,
        "stage": record.stage,
        "attempts": record.attempts,
        "created_at": _time(record.created_at),
        "started_at": _time(record.started_at),
        "finished_at": _time(record.finished_at),
        "error": error,
        "trace_id": record.trace_id,
    }


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return (
        datetime.fromtimestamp(seconds, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
