"""Reading YouTube's player answer and watch page: is there a transcript, and if not, why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

from ..telemetry.vocabulary import ErrorType
from .captions import check_body, check_page, has_key, load_json
from .model import Track, TranscriptError

_HOME = "https://www.youtube.com"
# Reasons are matched on a few words, lower-cased and with YouTube's typographic
# apostrophe made plain: the sentences around them vary.
_BOT = ("not a bot", "unusual traffic")
# Who is asked to log in is told about bots only where it is taken for one; anywhere else
# the word may be part of somebody's name.
_BOT_WORD = re.compile(
    r"\b(?:ro)?bots?\b|\bбот|\bробот|ボット|ロボット|机器人|機器人|봇|روبوت|בוט|बॉट|रोबोट"
)
# Where YouTube's "learn more" of a bot check leads, in every language.
_BOT_HELP = "support.google.com/youtube/answer/3037019"
_TEXT_KEYS = frozenset({"reason", "reasonTitle", "text", "simpleText", "content", "url"})
_AGE = ("inappropriate for some users", "confirm your age", "age-restricted", "age restricted")
_AGE_STATUSES = frozenset(
    {"AGE_VERIFICATION_REQUIRED", "AGE_CHECK_REQUIRED", "CONTENT_CHECK_REQUIRED"}
)


def read_player(body: bytes) -> list[Track]:
    """The caption tracks of a `/youtubei/v1/player` answer, in YouTube's order.

    Raises:
        TranscriptError: what the answer says instead (`video_unavailable`,
            `video_unplayable`, `age_restricted`, `request_blocked`,
            `transcripts_disabled`), or why it is none (`empty_body`, `html_body`,
            `consent_required`, `ip_blocked`, `parse_error`).
    """
    player = check_playability(body)
    renderer = _dict(_dict(player.get("captions")).get("playerCaptionsTracklistRenderer"))
    listed = renderer.get("captionTracks")
    tracks = (
        [track for item in listed if (track := _track(item))] if isinstance(listed, list) else []
    )
    if not tracks:
        raise TranscriptError("transcripts_disabled", "The video has no captions.")
    return tracks


def read_translations(body: bytes) -> list[str]:
    """The languages that YouTube translates the captions of a player answer into.

    Raises:
        TranscriptError: as `check_playability`.
    """
    player = check_playability(body)
    renderer = _dict(_dict(player.get("captions")).get("playerCaptionsTracklistRenderer"))
    listed = renderer.get("translationLanguages")
    codes = [_dict(item).get("languageCode") for item in listed] if isinstance(listed, list) else []
    return [code for code in codes if isinstance(code, str) and code]


def check_playability(body: bytes) -> dict[str, Any]:
    """The player answer of a video that plays, captions or not.

    Raises:
        TranscriptError: as `read_player`, `transcripts_disabled` aside.
    """
    check_body(body)
    player = load_json(body)
    playability = _dict(_dict(player).get("playabilityStatus"))
    if not playability:
        raise TranscriptError("parse_error", "The player answer has no playability status.")
    status = playability.get("status")
    if status != "OK":
        raise _unplayable(playability, str(status))
    return _dict(player)


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


def _unplayable(playability: dict[str, Any], status: str) -> TranscriptError:
    error_type: ErrorType = "video_unplayable"
    detail = "YouTube does not play this video."
    # The reason stands in several places, of which an answer need not have every one.
    words = "\n".join(_texts(playability)).replace("’", "'").lower()
    if (
        any(part in words for part in _BOT)
        or _BOT_HELP in words
        or (status == "LOGIN_REQUIRED" and _BOT_WORD.search(words))
    ):
        error_type, detail = "request_blocked", "YouTube takes this client for a bot."
    elif (
        status in _AGE_STATUSES
        or playability.get("desktopLegacyAgeGateReason")
        or any(part in words for part in _AGE)
    ):
        error_type, detail = "age_restricted", "The video is age-restricted and needs a login."
    elif status == "ERROR":
        error_type, detail = "video_unavailable", "The video does not exist or was removed."
    elif status == "LIVE_STREAM_OFFLINE":
        detail = "The live stream has not started or has ended."
    elif status == "LOGIN_REQUIRED":
        detail = "The video is private or needs a login."
    return TranscriptError(error_type, detail)


def _texts(value: object) -> Iterator[str]:
    """The texts and links in a JSON value, however deep."""
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            for key, item in node.items():
                if isinstance(item, str) and key in _TEXT_KEYS:
                    yield item
                elif key == "messages" and isinstance(item, list):
                    yield from (text for text in item if isinstance(text, str))
                stack.append(item)
        elif isinstance(node, list):
            stack.extend(node)


def _track(item: object) -> Track | None:
    data = _dict(item)
    language, url = data.get("languageCode"), data.get("baseUrl")
    if not isinstance(language, str) or not isinstance(url, str) or not language:
        return None
    return Track(
        language=language,
        kind="asr" if data.get("kind") == "asr" else "manual",
        name=_name(data.get("name")),
        url=urljoin(_HOME, url),
        po_token_required=needs_po_token(url),
        is_translatable=bool(data.get("isTranslatable")),
    )


def needs_po_token(url: str) -> bool:
    """Whether a caption URL answers with nothing unless a proof-of-origin token is sent.

    YouTube marks such URLs with the experiments `xpe` or `xpv` in `exp`.
    """
    query = parse_qs(urlsplit(url).query)
    experiments = ",".join(query.get("exp", [])).split(",")
    return "pot" not in query and bool({"xpe", "xpv"} & set(experiments))


def _name(value: object) -> str:
    name = _dict(value)
    if isinstance(name.get("simpleText"), str):
        return str(name["simpleText"])
    runs = name.get("runs")
    texts = [_dict(run).get("text") for run in runs] if isinstance(runs, list) else []
    return "".join(text for text in texts if isinstance(text, str))


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
