"""Stage 1: the youtube-transcript-api library, on a session that is ours.

The library knows the current way in: watch page, API key, ANDROID player. It is asked for
the player's answer alone. What it would make of that is left aside: it knows one shape of
track names, keeps one track a language, and its caption parser takes a minute for one line
of many `<`.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import requests
from youtube_transcript_api import CouldNotRetrieveTranscript, YouTubeTranscriptApi

from ...telemetry.vocabulary import Stage
from ..http import YouTubeSession
from ..model import TranscriptError
from ..player import check_watch_page
from .timedtext import TimedtextStage


class _PlayerAnswered(Exception):
    """The library has what it was asked for: enough."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.body = body


class _Library:
    """What the library uses of a session. The player's answer ends its work.

    By an exception, which must not pass through the session: the request's span would fail.
    """

    def __init__(self, session: YouTubeSession) -> None:
        self._session = session
        self.headers, self.cookies = session.headers, session.cookies
        self.page = b""

    def get(self, *args: Any, **kwargs: Any) -> requests.Response:
        response = self._session.get(*args, **kwargs)
        if response.ok:
            # A page that does not say how it is written would be searched for that, for seconds.
            response.encoding = "utf-8"
            self.page = response.content
        return response

    def post(self, *args: Any, **kwargs: Any) -> requests.Response:
        response = self._session.post(*args, **kwargs)
        if response.ok and urlsplit(response.url).path == "/youtubei/v1/player":
            raise _PlayerAnswered(response.content)
        return response


class YouTubeApiStage(TimedtextStage):
    """The same as `TimedtextStage`, after a player's answer that the library got."""

    name: Stage = "youtube_api"

    def player_answer(self, session: YouTubeSession, video_id: str) -> bytes:
        library = _Library(session)
        try:
            YouTubeTranscriptApi(http_client=library).list(video_id)  # type: ignore[arg-type]
        except _PlayerAnswered as answered:
            return answered.body
        except CouldNotRetrieveTranscript:
            check_watch_page(library.page)
        raise TranscriptError("parse_error", "The watch page cannot be read.")
