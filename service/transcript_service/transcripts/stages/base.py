"""What the pipeline asks of a stage and what it gives it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ...proxies import JobProxy, RotationReason
from ...resilience.deadline import Deadline
from ...settings import Settings
from ...telemetry.vocabulary import ErrorType, Profile, Stage
from ..languages import choose_track
from ..model import Track, Transcript, TranscriptError
from ..wanted import Wanted


@dataclass(slots=True)
class Notes:
    """What a stage tells about its try while it runs, for metrics and the attempt's record."""

    profile: Profile | None = None
    proxy_used: bool = False
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """The work on one request.

    `proxy` is the way out, the same for all stages. `on_stage` is told each stage that begins.
    """

    wanted: Wanted
    deadline: Deadline
    proxy: JobProxy
    notes: Notes = field(default_factory=Notes)
    on_stage: Callable[[Stage], None] | None = None

    @property
    def video_id(self) -> str:
        return self.wanted.video_id


class TranscriptStage(ABC):
    """One way to a transcript. `fetch` is called from several threads at once."""

    name: Stage
    # Calls of `fetch` in a row, where a retry may help.
    attempts = 1
    # Whether it can have captions translated; one that cannot is not asked to.
    translates = False

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @abstractmethod
    def fetch(self, job: Job) -> Transcript:
        """The transcript.

        Raises:
            TranscriptError: why there is none.
            DeadlineExceeded: the job's time is over.
        """

    def track_for(self, job: Job, tracks: Sequence[Track]) -> Track:
        """The track that a job should get, by its wishes and the service's defaults.

        Raises:
            TranscriptError: `language_unavailable`.
        """
        return choose_track(
            tracks,
            job.wanted.languages or self._settings.default_languages,
            self._settings.fallback_languages,
            name=job.wanted.track,
            accept_any=not job.wanted.languages,
        )


# Statuses and errors that another way out may help against, and what they say of the present one.
_STATUS_ROTATES: Final[dict[int | None, RotationReason]] = {
    401: "http_401",
    403: "http_403",
    407: "http_407",
    429: "http_429",
}
_ROTATES: Final[dict[ErrorType, RotationReason]] = {
    "request_blocked": "bot_check",
    "rate_limited": "rate_limited",
    "country_blocked": "country",
    "proxy_error": "proxy_error",
}


def rotation_reason_of(error: TranscriptError) -> RotationReason | None:
    """Why this error calls for another way out, `None` where another would change nothing."""
    return _STATUS_ROTATES.get(error.status) or _ROTATES.get(error.error_type)
