"""The shapes of the transcript API's answers, declared once; see `dashboard.shapes`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from ..telemetry.vocabulary import ErrorType, Outcome, Source, Stage

_VIDEO = Field(examples=["dQw4w9WgXcQ"])
_LANGUAGE = Field(examples=["en"])
_NONE = Field(examples=[None])
_TRACE_ID = Field(pattern="^[0-9a-f]{32}$", examples=["4bf92f3577b34da6a3ce929d0e0e4736"])
_TIME = Field(json_schema_extra={"format": "date-time"}, examples=["2026-11-24T17:59:58.120Z"])


class SegmentDocument(TypedDict):
    start: Annotated[float, Field(examples=[0.4])]
    duration: Annotated[float, Field(examples=[2.6])]
    text: Annotated[str, Field(examples=["This is film number 1."])]


class TrackDocument(TypedDict):
    language: Annotated[str, _LANGUAGE]
    kind: Annotated[str, Field(examples=["manual"])]
    name: Annotated[str, Field(examples=["English"])]


class AttemptDocument(TypedDict):
    stage: Stage
    outcome: Outcome
    error_type: Annotated[ErrorType | None, _NONE]
    duration_s: Annotated[float, Field(examples=[0.413])]
    profile: Annotated[str | None, _NONE]
    proxy_used: bool


class TranscriptDocument(TypedDict):
    video_id: Annotated[str, _VIDEO]
    source: Source
    language: Annotated[str, _LANGUAGE]
    kind: Literal["manual", "asr", "speech"]
    track: Annotated[str | None, Field(examples=["English"])]
    translated_from: Annotated[str | None, _NONE]
    segments: Sequence[SegmentDocument]
    available: Sequence[TrackDocument]
    attempts: Sequence[AttemptDocument]
    cached: bool
    trace_id: Annotated[str, _TRACE_ID]


class JobError(TypedDict):
    code: ErrorType
    detail: str


class JobDocument(TypedDict):
    id: Annotated[str, Field(examples=["0123456789abcdef0123456789abcdef"])]
    state: Literal["queued", "running", "succeeded", "failed"]
    video_id: Annotated[str, _VIDEO]
    languages: Annotated[Sequence[str], Field(examples=[["en"]])]
    translate: Annotated[str | None, _NONE]
    track: Annotated[str | None, _NONE]
    stage: Annotated[Stage | None, _NONE]
    attempts: Sequence[AttemptDocument]
    created_at: Annotated[str, _TIME]
    started_at: Annotated[str, _TIME] | None
    finished_at: Annotated[str, _TIME] | None
    error: Annotated[JobError | None, _NONE]
    trace_id: Annotated[str, _TRACE_ID]
    result: NotRequired[TranscriptDocument]
