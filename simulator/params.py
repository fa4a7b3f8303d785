"""The ``params`` of get_transcript and get_panel: URL-quoted base64 of small protobuf messages.

Field numbers are those seen in recorded pages: get_transcript has 1 = video id,
2 = language message (1 = kind, 2 = language, 3 = variant, mostly ""), 3 = 1, 5 = panel name,
6 to 8 = 1; get_panel has 149 = {1 = video id, 3 = 1}.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from urllib.parse import quote, unquote

from simulator.model import TrackKind

SEARCH_PANEL = "engagement-panel-searchable-transcript-search-panel"
_PANEL_FIELD = 149

Message = dict[int, int | bytes]


def transcript_params(video: str, lang: str, kind: TrackKind) -> str:
    """The params YouTube's page sends to get_transcript for this track."""
    track = _encode([(1, b"asr" if kind == "asr" else b""), (2, lang.encode()), (3, b"")])
    message = _encode(
        [
            (1, video.encode()),
            (2, _to_text(track).encode()),
            (3, 1),
            (5, SEARCH_PANEL.encode()),
            (6, 1),
            (7, 1),
            (8, 1),
        ]
    )
    return _to_text(message)


def read_transcript_params(params: str) -> tuple[str, str, TrackKind, str] | None:
    """Video id, language, kind and variant of a call; None where the text is something else.

    Language is "" where the call leaves it to the server.
    """
    message = _decode(_from_text(params))
    video = message.get(1) if message else None
    if message is None or not isinstance(video, bytes):
        return None
    track = message.get(2, b"")
    inner = (
        _decode(_from_text(track.decode("ascii", "replace"))) if isinstance(track, bytes) else None
    )
    kind, lang, variant = ((inner or {}).get(number, b"") for number in (1, 2, 3))
    return (
        video.decode("ascii", "replace"),
        lang.decode("ascii", "replace") if isinstance(lang, bytes) else "",
        "asr" if kind == b"asr" else "manual",
        variant.decode("utf-8", "replace") if isinstance(variant, bytes) else "",
    )


def panel_params(video: str) -> str:
    """The params YouTube's page sends to get_panel for this video."""
    return _to_text(_encode([(_PANEL_FIELD, _encode([(1, video.encode()), (3, 1)]))]))


def read_panel_params(params: str) -> str | None:
    """The video id of a get_panel call; None where the text is something else."""
    message = _decode(_from_text(params))
    for value in (message or {}).values():
        inner = _decode(value) if isinstance(value, bytes) else None
        video = (inner or {}).get(1)
        if isinstance(video, bytes):
            return video.decode("ascii", "replace")
    return None


def _to_text(message: bytes) -> str:
    return quote(b64encode(message).decode(), safe="")


def _from_text(text: str) -> bytes:
    plain = unquote(text).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return b64decode(plain + "=" * (-len(plain) % 4))
    except (binascii.Error, ValueError):
        return b""


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _encode(fields: list[tuple[int, int | bytes]]) -> bytes:
    out = bytearray()
    for number, value in fields:
        if isinstance(value, int):
            out += _varint(number << 3) + _varint(value)
        else:
            out += _varint(number << 3 | 2) + _varint(len(value)) + value
    return bytes(out)


def _decode(data: bytes) -> Message | None:
    """The fields of a message of varints and strings; None where it is none."""
    fields: Message = {}
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    try:
        while at < len(data):
            tag = varint()
            if tag & 7 == 0:
                fields[tag >> 3] = varint()
            elif tag & 7 == 2:
                length = varint()
                if at + length > len(data):
                    return None
                fields[tag >> 3] = data[at : at + length]
                at += length
            else:
                return None
    except IndexError:
        return None
    return fields or None
