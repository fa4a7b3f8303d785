"""The one call of YouTube's inner API that several stages share: the ANDROID player."""

from __future__ import annotations

from typing import Final

import requests

from .http import classify, classify_status

PLAYER_URL: Final = "https://www.youtube.com/youtubei/v1/player?prettyPrint=false"
# The client that youtube-transcript-api 1.2.5 introduces itself as.
ANDROID_CLIENT: Final = {"clientName": "ANDROID", "clientVersion": "20.10.38", "hl": "en"}


def ask_player(session: requests.Session, video_id: str) -> bytes:
    """The player's answer about a video.

    Raises:
        TranscriptError: an error status, or the exchange failed.
    """
    try:
        response = session.post(
            PLAYER_URL, json={"context": {"client": ANDROID_CLIENT}, "videoId": video_id}
        )
    except requests.RequestException as error:
        raise classify(error) from None
    if refusal := classify_status(response):
        raise refusal
    return response.content
