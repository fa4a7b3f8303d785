"""Reading YouTube's player answer and watch page: is there a transcript, and if not, why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, urljoin, urlsplit

from .captions import check_body, check_page, has_key, load_json, object_of, text_of
from .http import YouTubeSession
from .model import Track, TranscriptError
from .refusals import refusal_of
from .text import number

_HOME: Final = "https://www.youtube.com"
_PLAYER: Final = f"{_HOME}/youtubei/v1/player?prettyPrint=false"
# The client that youtube-transcript-api 1.2.5 introduces itself as.
_ANDROID: Final = {"clientName": "ANDROID", "clientVersion": "20.10.38", "hl": "en"}


@dataclass(frozen=True, slots=True)
class Player:
    """What the player says about a video that plays.

    `tracks` are in YouTube's order, `translations` the languages it translates them into,
    `audio_url` the smallest sound track (a secret like a track's). `duration_s` is 0 where
    it is not told.
    """

    tracks: tuple[Track, ...]
    translations: tuple[str, ...]
    duration_s: float
    is_live: bool
    audio_url: str | None

    def captions(self) -> tuple[Track, ...]:
        """The tracks.

        Raises:
            TranscriptError: `live_stream` or `transcripts_disabled` where there are none.
        """
        if not self.tracks and self.is_live:
            raise TranscriptError("live_stream", "The video is live and has no captions yet.")
        if not self.tracks:
            raise TranscriptError("transcripts_disabled", "The video has no captions.")
        return self.tracks


def ask_player(session: YouTubeSession, video_id: str) -> bytes:
    """The ANDROID player's answer about a video."""
    asked = {"context": {"client": _ANDROID}, "videoId": video_id}
    return session.post(_PLAYER, json=asked).content


def read_player(body: bytes, video_id: str) -> Player:
    """A `/youtubei/v1/player` answer about a video that plays.

    Raises:
        TranscriptError: what the answer says instead (see `refusal_of`), `wrong_video`
            where it is about another one, or why it is no answer (`empty_body`,
            `html_body`, `consent_required`, `ip_blocked`, `parse_error`).
    """
    check_body(body)
    player = object_of(load_json(body))
    playability = object_of(player.get("playabilityStatus"))
    if not playability:
        raise TranscriptError("parse_error", "The player answer has no playability status.")
    details = object_of(player.get("videoDetails"))
    about = details.get("videoId")
    if isinstance(about, str) and about != video_id:
        raise another_video()
    if playability.get("status") != "OK":
        raise refusal_of(playability)
    if not isinstance(about, str):
        raise TranscriptError("parse_error", "The player answer does not name its video.")
    captions = object_of(object_of(player.get("captions")).get("playerCaptionsTracklistRenderer"))
    codes = [item.get("languageCode") for item in _dicts(captions.get("translationLanguages"))]
    length = details.get("lengthSeconds")
    sounds = [
        item
        for item in _dicts(object_of(player.get("streamingData")).get("adaptiveFormats"))
        if str(item.get("mimeType", "")).startswith("audio/") and isinstance(item.get("url"), str)
    ]
    smallest = min(sounds, key=lambda item: number(item.get("bitrate")) or 0.0, default=None)
    return Player(
        tracks=tuple(
            track for item in _dicts(captions.get("captionTracks")) if (track := _track(item))
        ),
        translations=tuple(code for code in codes if isinstance(code, str) and code),
        duration_s=float(length) if isinstance(length, str) and length.isdecimal() else 0.0,
        is_live=details.get("isLive") is True,
        audio_url=smallest["url"] if smallest else None,
    )


def another_video() -> TranscriptError:
    """The error for an answer about a video that nobody asked for.

    YouTube puts a notice in the place of a video ("this app is out of date") where it does
    not like the client.
    """
    return TranscriptError("wrong_video", "YouTube answered about another video.")


def check_watch_page(body: bytes) -> None:
    """Refuse a watch page from which no transcript can be reached.

    Raises:
        TranscriptError: `empty_body`, `consent_required`, `ip_blocked`, or `html_body` for
            a page that is no watch page.
    """
    if not body.strip():
        raise TranscriptError("empty_body", "YouTube answered with an empty page.")
    check_page(body)
    if not has_key(body):
        raise TranscriptError("html_body", "YouTube answered with a page that is no watch page.")


def _track(data: dict[str, Any]) -> Track | None:
    language, url = data.get("languageCode"), data.get("baseUrl")
    if not isinstance(language, str) or not isinstance(url, str) or not language:
        return None
    try:
        url = urljoin(_HOME, url)
        gated = needs_po_token(url)
    except ValueError:  # no URL at all
        return None
    return Track(
        language=language,
        kind="asr" if data.get("kind") == "asr" else "manual",
        name=text_of(data.get("name")),
        url=url,
        po_token_required=gated,
        is_translatable=bool(data.get("isTranslatable")),
    )


def needs_po_token(url: str) -> bool:
    """Whether a caption URL answers with nothing unless a proof-of-origin token is sent.

    YouTube marks such URLs with the experiments `xpe` or `xpv` in `exp`.
    """
    query = parse_qs(urlsplit(url).query)
    experiments = ",".join(query.get("exp", [])).split(",")
    return "pot" not in query and bool({"xpe", "xpv"} & set(experiments))


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
