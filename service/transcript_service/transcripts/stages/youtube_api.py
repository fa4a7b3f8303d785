"""Stage 1: the youtube-transcript-api library, on a session that is ours.

The library knows the current way in: watch page, API key, ANDROID player, caption URL. It
has no timeouts and leaves damaged answers to its parsers, so every answer is read by this
project's own rules as it arrives, before the library sees it.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

import requests
from youtube_transcript_api import (
    AgeRestricted,
    CouldNotRetrieveTranscript,
    FailedToCreateConsentCookie,
    IpBlocked,
    NoTranscriptFound,
    NotTranslatable,
    PoTokenRequired,
    RequestBlocked,
    TranscriptsDisabled,
    TranslationLanguageNotAvailable,
    VideoUnavailable,
    VideoUnplayable,
    YouTubeDataUnparsable,
    YouTubeTranscriptApi,
)

from ...settings import Settings
from ...telemetry.vocabulary import ErrorType
from ...telemetry.vocabulary import Stage as StageName
from ..captions import parse_captions
from ..http import YouTubeSession, classify, classify_status
from ..model import Segment, Track, Transcript, TranscriptError
from ..player import check_watch_page, read_player
from .base import Job, track_for, translation_for

# Subclasses before their bases: IpBlocked is a RequestBlocked.
_MEANING: Final[tuple[tuple[type[Exception], ErrorType], ...]] = (
    (IpBlocked, "ip_blocked"),
    (RequestBlocked, "request_blocked"),
    (PoTokenRequired, "po_token_required"),
    (FailedToCreateConsentCookie, "consent_required"),
    (AgeRestricted, "age_restricted"),
    (VideoUnavailable, "video_unavailable"),
    (VideoUnplayable, "video_unplayable"),
    (TranscriptsDisabled, "transcripts_disabled"),
    (NoTranscriptFound, "language_unavailable"),
    (NotTranslatable, "language_unavailable"),
    (TranslationLanguageNotAvailable, "language_unavailable"),
)


class YouTubeApiStage:
    """Transcripts through youtube-transcript-api."""

    name: StageName = "youtube_api"
    attempts = 2
    translates = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def fetch(self, job: Job) -> Transcript:
        """See `Stage.fetch`."""
        job.notes.proxy_used = job.proxy.used
        answers = _Answers()
        with YouTubeSession(self._settings, job.deadline, job.proxy.identity) as session:
            session.hooks["response"].append(answers.read)
            try:
                listing = YouTubeTranscriptApi(http_client=session).list(job.video_id)
                track = track_for(job, answers.tracks, self._settings)
                translate_to = translation_for(job, track, answers.tracks, answers.player)
                if track.po_token_required:
                    raise TranscriptError(
                        "po_token_required", "YouTube wants a proof-of-origin token for this track."
                    )
                chosen = next(
                    item
                    for item in listing
                    if item.language_code == track.language
                    and item.is_generated == (track.kind == "asr")
                )
                if translate_to:
                    chosen = chosen.translate(translate_to)
                chosen.fetch()
            except YouTubeDataUnparsable:
                check_watch_page(answers.page)
                raise TranscriptError("parse_error", "The watch page cannot be read.") from None
            except CouldNotRetrieveTranscript as error:
                raise _meaning(error) from None
            except requests.RequestException as error:
                raise classify(error) from None
            except (LookupError, AttributeError, TypeError, StopIteration):
                # The library walks YouTube's objects without looking.
                raise TranscriptError("parse_error", "The answer lacks expected parts.") from None
        return Transcript(
            video_id=job.video_id,
            source="youtube_api",
            language=translate_to or track.language,
            translated_from=track.language if translate_to else None,
            kind=track.kind,
            segments=tuple(answers.segments),
            available=tuple(answers.tracks),
        )


class _Answers:
    """Reads each answer on its way to the library."""

    def __init__(self) -> None:
        self.page = b""
        self.player = b""
        self.tracks: list[Track] = []
        self.segments: list[Segment] = []

    def read(self, response: requests.Response, *_: Any, **__: Any) -> None:
        """Keep what the answer holds.

        Raises:
            TranscriptError: what it says instead.
        """
        if error := classify_status(response):
            raise error
        path = urlsplit(response.url).path
        if path == "/youtubei/v1/player":
            self.player = response.content
            self.tracks = read_player(response.content)
        elif path == "/api/timedtext":
            self.segments = parse_captions(response.content, "srv1")
        elif path == "/watch":
            self.page = response.content
            if not response.content.strip():
                raise TranscriptError("empty_body", "YouTube answered with an empty page.")


def _meaning(error: CouldNotRetrieveTranscript) -> TranscriptError:
    error_type: ErrorType = "parse_error"
    for kind, word in _MEANING:
        if isinstance(error, kind):
            error_type = word
            break
    return TranscriptError(error_type, f"YouTube's answer means {error_type.replace('_', ' ')}.")
