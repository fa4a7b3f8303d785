"""What YouTube's player means when it does not play a video.

The words of an answer are looked up in one table, first match first. What is said about us
(a bot check, a rate limit, an old client) stands before what is said about the video, because
YouTube says "unavailable" for both. What the table does not know is `playability_unknown`:
never that a video is gone. Phrases are those of public reports and recordings, in English,
which every request asks for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from ..telemetry.vocabulary import ErrorType
from .captions import object_of, text_of
from .model import TranscriptError

_TEXT_KEYS: Final = frozenset({"reason", "reasonTitle", "text", "simpleText", "content", "url"})
# Who is asked to log in is told about bots only where it is taken for one; anywhere else
# the word may be part of somebody's name.
_BOT_WORD: Final = re.compile(
    r"\b(?:ro)?bots?\b|\bбот|\bробот|ボット|ロボット|机器人|機器人|봇|روبوت|בוט|बॉट|रोबोट"
)


class _Meaning(NamedTuple):
    """A kind of refusal: known by one of its phrases, marks or statuses.

    `phrases` stand in the answer's texts and links, lower-cased and with plain apostrophes;
    `marks` are keys of its objects. Where `only` is given no other status can mean it.
    """

    error_type: ErrorType
    detail: str
    phrases: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    only: str | None = None


_MEANINGS: Final = (
    # About us: another client or another address may well get the video.
    _Meaning(
        "request_blocked",
        "YouTube takes this client for a bot.",
        # The address is that of "learn more" of a bot check, in every language.
        ("not a bot", "unusual traffic", "support.google.com/youtube/answer/3037019"),
        ("playerCaptchaViewModel",),
    ),
    _Meaning(
        "rate_limited",
        "YouTube serves this client nothing for a while.",
        ("content isn't available, try again later", "rate-limited", "rate limited"),
    ),
    _Meaning(
        "client_outdated",
        "YouTube wants a newer client than this stage introduces itself as.",
        (
            "latest version of youtube", "update the app", "update youtube", "out of date",
            "needs to be reloaded", "no longer supported", "market://details",
            "play.google.com/store/apps",
        ),
    ),
    # About the video.
    _Meaning(
        "country_blocked",
        "The video may not be seen in the country of this address.",
        ("in your country", "in your region", "in your location"),
    ),
    _Meaning(
        "age_restricted",
        "The video is age-restricted and needs a login.",
        ("inappropriate for some users", "confirm your age", "age-restricted", "age restricted"),
        ("desktopLegacyAgeGateReason",),
        ("AGE_VERIFICATION_REQUIRED", "AGE_CHECK_REQUIRED", "CONTENT_CHECK_REQUIRED"),
    ),
    _Meaning(
        "members_only",
        "The video is for the channel's members.",
        ("members-only", "channel's members", "members on level", "join this channel"),
    ),
    _Meaning(
        "payment_required",
        "The video has to be paid for.",
        ("requires payment", "rent or buy", "purchase", "premium members", "premium to watch"),
        ("playerLegacyDesktopYpcOfferRenderer", "playerLegacyDesktopYpcTrailerRenderer",
         "ypcTrailerRenderer"),
    ),
    _Meaning(
        "video_upcoming",
        "The video begins later: a premiere or a planned live stream.",
        ("premieres in", "premiere will begin", "live event will begin", "live event will start",
         "live stream will begin", "will begin shortly"),
        ("scheduledStartTime",),
    ),
    _Meaning(
        "live_stream",
        "The live stream is not there to be played: it has not begun or has ended.",
        ("live event has ended", "live stream has ended", "live stream recording"),
        statuses=("LIVE_STREAM_OFFLINE",),
    ),
    _Meaning("video_private", "The video is private.", ("private video", "video is private")),
    _Meaning(
        "account_closed",
        "The account that the video belonged to is closed.",
        ("account associated with this video", "closed their youtube account",
         "account has been terminated", "account was terminated"),
    ),
    _Meaning(
        "video_removed_copyright",
        "The video was removed because of somebody's copyright.",
        ("copyright",),
    ),
    _Meaning(
        "video_removed_by_uploader",
        "The video was removed by who uploaded it.",
        ("removed by the uploader", "removed by the user", "deleted by the uploader"),
    ),
    _Meaning(
        "video_removed_by_youtube",
        "The video was removed by YouTube for breaking its rules.",
        ("terms of service", "community guidelines", "removed for violating", "youtube's policy"),
    ),
    # YouTube gives no reason. The short sentences count only where nothing else is said.
    _Meaning(
        "video_unavailable",
        "The video does not exist or was removed.",
        ("been removed", "removed:", "does not exist", "doesn't exist"),
        only="ERROR",
    ),
    _Meaning(
        "video_unplayable",
        "YouTube does not play this video here.",
        ("not made this available", "not made this video available", "other websites",
         "not available on this app", "not available on this device", "youtube kids"),
    ),
    # Guests who are asked to log in for nothing in particular are taken for bots.
    _Meaning(
        "request_blocked",
        "YouTube takes this client for a bot.",
        ("please sign in",),
        only="LOGIN_REQUIRED",
    ),
)  # fmt: skip

# All that an answer says where a video is not there and YouTube does not say why.
_NO_REASON: Final = re.compile(
    r"(?:this )?video (?:is |isn't |is not |is no longer )?(?:un)?available(?: anymore)?\.?"
)

_UNEXPLAINED: Final[dict[str, ErrorType]] = {
    "ERROR": "video_unavailable",
    "UNPLAYABLE": "video_unplayable",
}
_DETAILS: Final = {meaning.error_type: meaning.detail for meaning in _MEANINGS}


def refusal_of(playability: dict[str, Any]) -> TranscriptError:
    """The error that a `playabilityStatus` other than OK means."""
    status = str(playability.get("status"))
    keys: set[str] = set()
    # The reason stands in several places, of which an answer need not have every one.
    texts = list(_texts(playability, keys))
    words = _plain("\n".join(texts))
    if status == "LOGIN_REQUIRED" and _BOT_WORD.search(words):
        return TranscriptError("request_blocked", _DETAILS["request_blocked"])
    for meaning in _MEANINGS:
        if _is_meant(meaning, status, words, keys):
            return TranscriptError(meaning.error_type, meaning.detail)
    screen = object_of(playability.get("errorScreen")).get("playerErrorMessageRenderer")
    message = object_of(screen)
    said = [playability.get("reason"), text_of(message.get("reason"))]
    said.append(text_of(message.get("subreason")))
    lines = [_plain(text) for text in said if isinstance(text, str) and text]
    if lines and all(_NO_REASON.fullmatch(line) for line in lines) and status in _UNEXPLAINED:
        return TranscriptError(_UNEXPLAINED[status], _DETAILS[_UNEXPLAINED[status]])
    return TranscriptError(
        "playability_unknown", "YouTube does not play this video, for a reason unknown here."
    )


def _plain(text: str) -> str:
    return text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").lower().strip()


def _is_meant(meaning: _Meaning, status: str, words: str, keys: set[str]) -> bool:
    if meaning.only not in (None, status):
        return False
    return (
        status in meaning.statuses
        or any(phrase in words for phrase in meaning.phrases)
        or not keys.isdisjoint(meaning.marks)
    )


def _texts(value: object, keys: set[str]) -> Iterator[str]:
    """The texts and links in a JSON value, however deep; its objects' keys go into `keys`."""
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            for key, item in node.items():
                if item:
                    keys.add(key)
                if isinstance(item, str) and key in _TEXT_KEYS:
                    yield item
                elif key == "messages" and isinstance(item, list):
                    yield from (text for text in item if isinstance(text, str))
                stack.append(item)
        elif isinstance(node, list):
            stack.extend(node)
