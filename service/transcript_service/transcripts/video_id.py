"""From what people paste to the 11-character video id."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, unquote, urlsplit

from .model import TranscriptError

_ID = re.compile(r"[A-Za-z0-9_-]{11}")
# Longest text looked at; a real URL with a playlist and a share id is below 300.
_LONGEST = 2048
_HOSTS = frozenset({"youtube.com", "youtube-nocookie.com", "youtu.be"})
_ID_IN_PATH = frozenset({"embed", "shorts", "live", "v", "e", "vi", "watch"})
_URL_IN_QUERY = {"/attribution_link": "u", "/oembed": "url", "/redirect": "q"}


def parse_video_id(text: str) -> str:
    """The video id in `text`: an id itself or any form of YouTube URL.

    Understood are watch, youtu.be, embed, shorts, live, v, attribution and oembed links
    on any YouTube host, with or without scheme.

    Raises:
        TranscriptError: `invalid_video_id`.
    """
    if len(text) <= _LONGEST:
        text = text.strip()
        if _ID.fullmatch(text):
            return text
        found = _from_url(text)
        if found:
            return found
    raise TranscriptError(
        "invalid_video_id", "A video is named by its 11-character id or by a YouTube URL."
    )


def _from_url(text: str, *, nested: bool = False) -> str | None:
    # A proxy or web server may have folded the two slashes into one.
    text = re.sub(r"^(https?):/+", r"\1://", text, flags=re.IGNORECASE)
    if "://" not in text:
        text = f"https://{text.lstrip('/')}"
    try:
        url = urlsplit(text)
        host = (url.hostname or "").lower()
    except ValueError:
        return None
    if url.scheme.lower() not in ("http", "https") or not _is_youtube(host):
        return None
    query = parse_qs(url.query, max_num_fields=50) if url.query.count("&") < 50 else {}
    if (inner := query.get(_URL_IN_QUERY.get(url.path, ""))) and not nested:
        target = unquote(inner[0])
        if target.startswith("/"):
            target = f"https://www.youtube.com{target}"
        return _from_url(target, nested=True)
    parts = [part for part in url.path.split("/") if part]
    candidates = [*query.get("v", []), *query.get("vi", [])]
    if host == "youtu.be":
        candidates = parts[:1] or candidates
    elif len(parts) >= 2 and parts[0] in _ID_IN_PATH:
        candidates.insert(0, parts[1])
    return next((value for value in candidates if _ID.fullmatch(value)), None)


def _is_youtube(host: str) -> bool:
    return host in _HOSTS or host.endswith((".youtube.com", ".youtube-nocookie.com"))
