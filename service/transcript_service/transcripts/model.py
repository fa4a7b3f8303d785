"""What a transcript is, where it came from, and how getting one can fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ..telemetry.vocabulary import ErrorType, Outcome, Profile, Source, Stage, outcome_of
from .shapes import AttemptDocument, TrackDocument

Kind = Literal["manual", "asr", "speech"]


@dataclass(frozen=True, slots=True)
class Segment:
    """One caption: `start` and `duration` in seconds, `text` never blank."""

    start: float
    duration: float
    text: str


@dataclass(frozen=True, slots=True)
class Track:
    """A caption track that YouTube lists for a video.

    `url` is a secret (it is signed) and stays in the process. `po_token_required` is true
    where the URL answers with an empty body unless a proof-of-origin token is sent.
    """

    language: str
    kind: Kind
    name: str
    url: str = field(repr=False, default="")
    po_token_required: bool = False
    is_translatable: bool = False

    def as_dict(self) -> TrackDocument:
        """What callers may know of it."""
        return {"language": self.language, "kind": self.kind, "name": self.name}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One stage's try within a request; `duration_s` covers its retries."""

    stage: Stage
    outcome: Outcome
    error_type: ErrorType | None
    duration_s: float
    profile: Profile | None = None
    proxy_used: bool = False

    def as_dict(self) -> AttemptDocument:
        return {
            "stage": self.stage,
            "outcome": self.outcome,
            "error_type": self.error_type,
            "duration_s": round(self.duration_s, 6),
            "profile": self.profile,
            "proxy_used": self.proxy_used,
        }


@dataclass(frozen=True, slots=True)
class Transcript:
    """The result of a request.

    `language`, `kind` and the track's name say which track was chosen, `available` which
    there were, and `attempts` what it took to get it.
    """

    video_id: str
    source: Source
    language: str
    kind: Kind
    segments: tuple[Segment, ...]
    available: tuple[Track, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    translated_from: str | None = None
    track: str | None = None
    cached: bool = False

    def with_attempts(self, attempts: Sequence[Attempt]) -> Transcript:
        return replace(self, attempts=tuple(attempts))


class TranscriptError(Exception):
    """A stage or a whole request did not get a transcript, and why.

    Args:
        error_type: a word of the vocabulary.
        detail: one sentence for people, without URLs or upstream text.
        retry_after_s: seconds YouTube asked to wait, if it did.
        status: the HTTP status that said so, YouTube's or the proxy's.
        available: the tracks that exist, where they are known.
        attempts: what was tried, filled in by the pipeline.
    """

    def __init__(
        self,
        error_type: ErrorType,
        detail: str,
        *,
        retry_after_s: float | None = None,
        status: int | None = None,
        available: Sequence[Track] = (),
        attempts: Sequence[Attempt] = (),
    ) -> None:
        super().__init__(f"{error_type}: {detail}")
        self.error_type: ErrorType = error_type
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.status = status
        self.available = tuple(available)
        self.attempts = tuple(attempts)

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
