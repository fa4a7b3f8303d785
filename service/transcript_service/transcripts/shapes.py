"""The shapes of the transcript API's answers that are not the model's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from ..telemetry.vocabulary import ErrorType, Stage
from .model import Attempt, Transcript

_NONE: Final = Field(examples=[None])
_TRACE_ID: Final = Field(pattern="^[0-9a-f]{32}$", examples=["4bf92f3577b34da6a3ce929d0e0e4736"])
_TIME: Final = Field(
    json_schema_extra={"format": "date-time"}, examples=["2026-11-24T17:59:58.120Z"]
)


@dataclass(frozen=True)
class TranscriptDocument(Transcript):
    """A transcript and the trace of the request that got it."""

    trace_id: Annotated[str, _TRACE_ID] = field(kw_only=True)


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
    trace_id: Annotated[str, _TRACE_ID]
    result: NotRequired[TranscriptDocument]
