"""`GET /api/transcripts/{video}`: a transcript, or a problem document that says why not."""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

from flask import Blueprint, Response, request

from ..problem import Problem
from ..telemetry import current_trace_id, instruments, vocabulary
from ..telemetry.vocabulary import ErrorType
from ..transcripts.admission import Places
from ..transcripts.formats import FORMATS
from ..transcripts.job_store import JobStore
from ..transcripts.model import TranscriptError, listed
from ..transcripts.pipeline import Pipeline
from ..transcripts.wanted import Wanted, parse_wanted
from .jobs import accepted, storage_at_hand

# 4xx: about the request or the video. 502: YouTube's answer is unusable. 503: come back
# later. 504: out of time.
STATUS: Final[dict[ErrorType, int]] = {
    word: status
    for group, status in (
        (vocabulary.CallerError, 400),
        (vocabulary.Missing, 404),
        (vocabulary.Closed, 403),
        (vocabulary.Refused, 503),
        (vocabulary.Gated, 502),
        (vocabulary.Unusable, 502),
        (vocabulary.Late, 504),
        (vocabulary.Busy, 503),
        (Literal["internal"], 500),
    )
    for word in get_args(group)
}
# Where YouTube did not say how long a refusal lasts.
_RETRY_AFTER_S: Final = 60.0


def create_blueprint(pipeline: Pipeline, jobs: JobStore, places: Places) -> Blueprint:
    blueprint = Blueprint("transcripts", __name__, url_prefix="/api/transcripts")

    # Without the slash too: a redirect would be an HTML page that leads where `Host` says.
    @blueprint.get("/", defaults={"video": ""}, strict_slashes=False)
    @blueprint.get("/<path:video>")
    def transcript(video: str) -> Response:
        try:
            wanted, fmt = _asked_for(video)
        except TranscriptError as error:
            instruments.TRANSCRIPT_REQUESTS.add(
                1, outcome=error.outcome, error_type=error.error_type
            )
            raise _problem(error) from None
        if fmt == "json" and _wants_it_later():
            with storage_at_hand():
                return accepted(jobs.submit(wanted))
        try:
            result = pipeline.fetch(wanted, admission=places)
        except TranscriptError as error:
            raise _problem(error) from None
        media_type, write = FORMATS[fmt]
        return Response(write(result, current_trace_id()), content_type=media_type)

    return blueprint


def _wants_it_later() -> bool:
    preferences = ",".join(request.headers.getlist("Prefer")).split(",")
    return any(part.split(";")[0].strip().lower() == "respond-async" for part in preferences)


def _asked_for(path: str) -> tuple[Wanted, str]:
    """What the caller wants, and in which format."""
    given = request.args
    for name in ("lang", "translate", "track", "format"):
        if len(given.getlist(name)) > 1:
            raise TranscriptError("invalid_parameter", f"{name} may be given once.")
    fmt = given.get("format", "json")
    if fmt not in FORMATS:
        raise TranscriptError("invalid_parameter", f"format is one of {', '.join(FORMATS)}.")
    # A watch URL's `?v=` arrives as our own query.
    video = f"{path}?{request.query_string.decode('latin-1')}" if "/" in path else path
    return parse_wanted(video, given.get("lang"), given.get("translate"), given.get("track")), fmt


def _problem(error: TranscriptError) -> Problem:
    status = STATUS[error.error_type]
    wait = error.retry_after_s or (_RETRY_AFTER_S if status == 503 else None)
    extensions: dict[str, Any] = {"attempts": error.attempts}
    if error.available:
        extensions["available"] = listed(error.available)
    return Problem(status, error.error_type, error.detail, retry_after_s=wait, **extensions)
