"""What a transcript is, where it came from, and how getting one can fail.

The fields of the dataclasses are those of the API's answers; what is `_INTERNAL` stays in the
process. See `dashboard.shapes` for what the examples are for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter, with_config

from ..telemetry.vocabulary import ErrorType, Outcome, Profile, Source, Stage, outcome_of

Kind = Literal["manual", "asr", "speech"]

# All members are in every answer, those with a default too.
_SERVED: Final = ConfigDict(json_schema_serialization_defaults_required=True)
_INTERNAL: Final = Field(exclude=True)
_NONE: Final = Field(examples=[None])
_LANGUAGE: Final = Field(examples=["en"])
_NAME: Final = Field(examples=["English"])


@dataclass(frozen=True, slots=True)
class Segment:
    """One caption: `start` and `duration` in seconds, `text` never blank."""

    start: Annotated[float, Field(examples=[0.4])]
    duration: Annotated[float, Field(examples=[2.6])]
    text: Annotated[str, Field(examples=["This is film number 1."])]


@dataclass(frozen=True, slots=True)
class Track:
    """A caption track that YouTube lists for a video."""

    language: Annotated[str, _LANGUAGE]
    kind: Kind
    name: Annotated[str, _NAME]
    # Signed, and so a secret.
    url: Annotated[str, _INTERNAL] = field(repr=False, default="")
    # The URL answers with an empty body unless a proof-of-origin token is sent.
    po_token_required: Annotated[bool, _INTERNAL] = False
    is_translatable: Annotated[bool, _INTERNAL] = False


@with_config(_SERVED)
@dataclass(frozen=True, slots=True)
class Attempt:
    """One stage's try within a request; `duration_s` covers its retries."""

    stage: Stage
    outcome: Outcome
    error_type: Annotated[ErrorType | None, _NONE]
    duration_s: Annotated[float, Field(examples=[0.413])]
    profile: Annotated[Profile | None, _NONE] = None
    proxy_used: bool = False


@with_config(_SERVED)
@dataclass(frozen=True, slots=True)
class Transcript:
    """The result of a request.

    `language`, `kind` and the track's name say which track was chosen, `available` which
    there were, and `attempts` what it took to get it.
    """

    video_id: Annotated[str, Field(examples=["dQw4w9WgXcQ"])]
    source: Source
    language: Annotated[str, _LANGUAGE]
    kind: Kind
    segments: tuple[Segment, ...]
    available: tuple[Track, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    translated_from: Annotated[str | None, _NONE] = None
    track: Annotated[str | None, _NAME] = None
    cached: bool = False

    def as_dict(self) -> dict[str, Any]:
        """What is served of it."""
        members: dict[str, Any] = _TRANSCRIPT.dump_python(self)
        return members

    def as_json(self) -> bytes:
        """What is kept of it: all that stays true later, no account of this one request."""
        return _TRANSCRIPT.dump_json(replace(self, attempts=(), cached=False))

    @staticmethod
    def from_json(body: bytes) -> Transcript:
        """What `as_json` gave.

        Raises:
            ValueError: it was not written by this version.
        """
        return _TRANSCRIPT.validate_json(body)


_TRANSCRIPT: Final = TypeAdapter(Transcript)
_TRACKS: Final = TypeAdapter(tuple[Track, ...])


def listed(tracks: Sequence[Track]) -> list[dict[str, str]]:
    """What callers may know of tracks."""
    found: list[dict[str, str]] = _TRACKS.dump_python(tuple(tracks), mode="json")
    return found


class TranscriptError(Exception):
    """A stage or a whole request did not get a transcript, and why.

    Args:
        error_type: a word of the vocabulary.
        detail: one sentence for people, without URLs or upstream text.
        retry_after_s: seconds YouTube asked to wait, if it did.
        status: the HTTP status that said so, YouTube's or the proxy's.
        available: the tracks that exist, where they are known.

    `attempts` is what was tried, filled in by the pipeline.
    """

    def __init__(
        self,
        error_type: ErrorType,
        detail: str,
        *,
        retry_after_s: float | None = None,
        status: int | None = None,
        available: Sequence[Track] = (),
    ) -> None:
        super().__init__(f"{error_type}: {detail}")
        self.error_type: ErrorType = error_type
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.status = status
        self.available = tuple(available)
        self.attempts: tuple[Attempt, ...] = ()

    @property
    def outcome(self) -> Outcome:
        return outcome_of(self.error_type)


class NotTried(TranscriptError):
    """A stage is no way to this video at the moment, which is no failure of the stage.

    It counts as skipped: not against its breaker, and not among its durations.
    """

    @property
    def outcome(self) -> Outcome:
        return "skipped"
