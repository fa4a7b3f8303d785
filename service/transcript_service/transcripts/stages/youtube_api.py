"""Stage 1: the youtube-transcript-api library, on a session that is ours.

The library knows the current way in: watch page, API key, ANDROID player. It is asked for
the player's answer alone. What it would make of that is left aside: it knows one shape of
track names, keeps one track a language, and its caption parser takes a minute for one line
of many `<`.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

import requests
from youtube_transcript_api import (
    CouldNotRetrieveTranscript,
    FailedToCreateConsentCookie,
    IpBlocked,
    RequestBlocked,
    YouTubeTranscriptApi,
)

from ...settings import Settings
from ...telemetry.vocabulary import ErrorType
from ...telemetry.vocabulary import Stage as StageName
from ..http import YouTubeSession, classify, classify_status
from ..model import Transcript, TranscriptError
from ..player import check_watch_page
from .base import Job
from .caption_file import fetch_captions

# What it can say before it has a player's answer. Subclasses before their bases.
_MEANING: Final[tuple[tuple[type[Exception], ErrorType], ...]] = (
    (IpBlocked, "ip_blocked"),
    (RequestBlocked, "request_blocked"),
    (FailedToCreateConsentCookie, "consent_required"),
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
        with YouTubeSession(self._settings, job.deadline, job.proxy.identity) as session:
            try:
                answer = _player_answer(session, job.video_id)
                return fetch_captions(session, job, answer, self._settings, self.name)
            except requests.RequestException as error:
                raise classify(error) from None


class _PlayerAnswered(Exception):
    """The library has what it was asked for: enough."""


def _player_answer(session: requests.Session, video_id: str) -> bytes:
    """The player's answer, got by the library.

    Raises:
        TranscriptError: it did not get that far.
        requests.RequestException: an exchange failed.
    """
    page, answer = b"", b""

    def read(response: requests.Response, *_: Any, **__: Any) -> None:
        nonlocal page, answer
        if error := classify_status(response):
            raise error
        if response.is_redirect:
            return
        # A page that does not say how it is written would be searched for that, for seconds.
        response.encoding = "utf-8"
        if urlsplit(response.url).path == "/youtubei/v1/player":
            answer = response.content
            raise _PlayerAnswered
        page = response.content
        if not page.strip():
            raise TranscriptError("empty_body", "YouTube answered with an empty page.")

    session.hooks["response"] = [read]
    try:
        YouTubeTranscriptApi(http_client=session).list(video_id)
    except _PlayerAnswered:
        return answer
    except CouldNotRetrieveTranscript as error:
        for kind, word in _MEANING:
            if isinstance(error, kind):
                detail = f"YouTube's page means {word.replace('_', ' ')}."
                raise TranscriptError(word, detail) from None
        check_watch_page(page)
    finally:
        session.hooks["response"] = []
    raise TranscriptError("parse_error", "The watch page cannot be read.")
