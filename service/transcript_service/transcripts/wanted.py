"""What a caller asks for: a video and, of its captions, which."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from html import unescape
from typing import Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from .model import TranscriptError

# BCP 47 as YouTube writes it: `en`, `zh-Hans`, `es-419`, and `en-nP7-2PuUl7o` for named tracks.
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9][A-Za-z0-9_-]{0,31})?")
# Joiners and other invisible characters belong to names in Persian, Hindi or with emoji.
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,200}")
_ID: Final = re.compile(r"[A-Za-z0-9_-]{11}")
# An id with what was glued to it: `ID?si=…` in a query, `ID&t=30` in a path, `ID.` in a sentence.
_ID_AND_MORE: Final = re.compile(r"([A-Za-z0-9_-]{11})(?=$|[?&#/;,.!)'\"\s])")
# Longest text looked at; a real URL with a playlist and a share id is below 300.
_LONGEST: Final = 2048
_MOST_FIELDS: Final = 50
# A consent page in a login page in a redirect.
_DEEPEST: Final = 4
_HOSTS: Final = frozenset(
    {"youtube.com", "youtube-nocookie.com", "youtubekids.com", "youtu.be", "youtube.googleapis.com"}
)
# Google's own pages on the way to a video. Where they lead must be YouTube again.
_DETOUR: Final = re.compile(r"(?:accounts|consent|www)\.google\.[a-z.]{2,6}")
_DESTINATIONS: Final = ("continue", "next", "next_url", "u", "url", "q")
_ID_IN_PATH: Final = frozenset({"embed", "shorts", "live", "v", "e", "vi", "watch"})
# Eleven letters each, and no ids: players of a playlist and of a channel.
_NO_IDS: Final = {"videoseries": "playlist", "live_stream": "channel"}
_CHANNELS: Final = frozenset({"channel", "c", "user"})
_WHAT: Final = "A video is named by its 11-character id or by a YouTube URL."


@dataclass(frozen=True, slots=True)
class Wanted:
    """One request for a transcript.

    `languages` are most wanted first; none takes what there is. `translate_to` lets YouTube
    translate the chosen track, where it is in another language. `track` is the name that the
    track must have, as `available` lists it.
    """

    video_id: str
    languages: tuple[str, ...] = ()
    translate_to: str | None = None
    track: str | None = None

    @property
    def key(self) -> str:
        """The same for all that ask for the same. A track's name may hold spaces."""
        languages = ",".join(self.languages)
        return f"{self.video_id} {languages} {self.translate_to or '-'} {self.track or ''}"


def parse_wanted(
    video: str, lang: str | None = None, translate: str | None = None, track: str | None = None
) -> Wanted:
    """A request from what people write: `lang` may list several codes, such as `en,de`.

    Raises:
        TranscriptError: `invalid_video_id`, `invalid_parameter`.
    """
    languages = () if lang is None else tuple(dict.fromkeys(map(str.strip, lang.split(","))))
    if len(languages) > 10 or not all(map(_LANGUAGE.fullmatch, languages)):
        raise _wrong("lang takes up to ten language codes, such as en,de or zh-Hans.")
    translate_to = None if translate is None else translate.strip()
    if translate_to is not None and not _LANGUAGE.fullmatch(translate_to):
        raise _wrong("translate takes one language code, such as de or zh-Hans.")
    if track is not None and not (track.strip() and _NAME.fullmatch(track)):
        raise _wrong("track takes the name of one caption track.")
    return Wanted(parse_video_id(video), languages, translate_to, track and track.strip())


def _wrong(detail: str) -> TranscriptError:
    return TranscriptError("invalid_parameter", detail)


def parse_video_id(text: str) -> str:
    """The video id in `text`: an id itself or any form of YouTube URL.

    Understood are watch, youtu.be, embed, shorts, live, v, attribution, oembed, consent and
    login links on any YouTube host, with or without scheme, percent-encoded or not, and with
    what mail, chat and web pages do to them.

    Raises:
        TranscriptError: `invalid_video_id`; a playlist or channel is told to be one.
    """
    if len(text) > _LONGEST:
        raise TranscriptError("invalid_video_id", _WHAT)
    text = _without_wrapping(text)
    if _ID.fullmatch(text):
        return text
    other: str | None = None
    # Apps share a sentence with the URL in it.
    for word in (text, *(word for word in text.split() if "/" in word)):
        video, is_other = _from_url(_without_wrapping(word), _DEEPEST)
        if video:
            return video
        other = other or is_other
    if other:
        raise TranscriptError("invalid_video_id", f"That is a {other}, not a video. {_WHAT}")
    raise TranscriptError("invalid_video_id", _WHAT)


def _without_wrapping(text: str) -> str:
    """The text without what cannot be seen and without the brackets and dots around a link."""
    seen = "".join(mark for mark in text if unicodedata.category(mark) != "Cf")
    return seen.strip().strip("<>()[]{}\"'“”‘’«»").rstrip(".,;:!…。")


def _from_url(text: str, depth: int) -> tuple[str | None, str | None]:
    """The id that a URL names, or what it names instead of a video."""
    text = _decoded(text)
    text = unescape(unescape(text)) if "&amp;" in text else text
    # A proxy or web server may have folded the two slashes into one.
    text = re.sub(r"^(https?):/+", r"\1://", text, flags=re.IGNORECASE)
    if "://" not in text.partition("?")[0]:
        text = f"https://{text.lstrip('/')}"
    try:
        url = urlsplit(text)
        host = (url.hostname or "").lower().rstrip(".")
    except ValueError:
        return None, None
    is_youtube = host in _HOSTS or host.endswith(tuple(f".{known}" for known in _HOSTS))
    if url.scheme.lower() not in ("http", "https") or not (is_youtube or _DETOUR.fullmatch(host)):
        return None, None
    query = _fields(url.query)
    if is_youtube and (video := _own_id(url, host, query)):
        return video, None
    other = _other(url, query) if is_youtube else None
    for name in _DESTINATIONS if depth else ():
        for target in query.get(name, []):
            video, is_other = _from_url(_absolute(target), depth - 1)
            if video:
                return video, None
            other = other or is_other
    return None, other


def _absolute(target: str) -> str:
    target = _decoded(target)
    is_path = target.startswith("/") and not target.startswith("//")
    return f"https://www.youtube.com{target}" if is_path else target


def _decoded(text: str) -> str:
    return unquote(text) if "/" not in text and "%2f" in text.lower() else text


def _own_id(url: SplitResult, host: str, query: dict[str, list[str]]) -> str | None:
    parts = [part for part in url.path.split("/") if part]
    candidates = [*query.get("v", []), *query.get("vi", [])]
    if host == "youtu.be":
        candidates = parts[:1] + candidates
    if len(parts) >= 2 and parts[0] in _ID_IN_PATH and parts[1] not in _NO_IDS:
        candidates.insert(0, parts[1])
    # Old mobile and television pages: `/#/watch?v=…`, `/watch#v=…`.
    candidates += _fields(url.fragment.rpartition("?")[2].lstrip("!/")).get("v", [])
    found = (_ID_AND_MORE.match(candidate) for candidate in candidates)
    return next((match[1] for match in found if match), None)


def _other(url: SplitResult, query: dict[str, list[str]]) -> str | None:
    """What a YouTube URL without a video is about, where that has a name."""
    parts = [*(part for part in url.path.split("/") if part), "", ""]
    if parts[0] == "embed" and parts[1] in _NO_IDS:
        return _NO_IDS[parts[1]]
    if parts[0] == "playlist" or "list" in query:
        return "playlist"
    if parts[0] in _CHANNELS or parts[0].startswith("@") or "channel" in query:
        return "channel"
    return None


def _fields(query: str) -> dict[str, list[str]]:
    return parse_qs(query) if query.count("&") < _MOST_FIELDS else {}
