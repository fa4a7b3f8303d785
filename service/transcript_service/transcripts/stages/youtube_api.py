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

from ...telemetry.vocabulary import Stage as StageName
from ..http import YouTubeSession
from ..model import TranscriptError
from ..player import check_watch_page
from .caption_file import CaptionFileStage


class _PlayerAnswered(Exception):
    """The library has what it was asked for: enough."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.body = body


class YouTubeApiStage(CaptionFileStage):
    """Transcripts through youtube-transcript-api."""

    name: StageName = "youtube_api"

    def player_answer(self, session: YouTubeSession, video_id: str) -> bytes:
        """See `CaptionFileStage.player_answer`."""
        page = b""

        def read(response: requests.Response, *_: Any, **__: Any) -> None:
            nonlocal page
            if response.is_redirect or not response.ok:
                return
            # A page that does not say how it is written would be searched for that, for seconds.
            response.encoding = "utf-8"
            if urlsplit(response.url).path == "/youtubei/v1/player":
                raise _PlayerAnswered(response.content)
            page = response.content

        session.hooks["response"] = [read]
        try:
            YouTubeTranscriptApi(http_client=session).list(video_id)
        except _PlayerAnswered as answered:
            return answered.body
        except CouldNotRetrieveTranscript:
            check_watch_page(page)
        finally:
            session.hooks["response"] = []
        raise TranscriptError("parse_error", "The watch page cannot be read.")
