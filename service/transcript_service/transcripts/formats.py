"""A transcript as JSON, SubRip, WebVTT or plain text."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import orjson

from .model import Segment, Transcript


def as_document(transcript: Transcript, trace_id: str) -> dict[str, Any]:
    """The JSON document of a transcript; times in seconds."""
    return {
        "video_id": transcript.video_id,
        "source": transcript.source,
        "language": transcript.language,
        "kind": transcript.kind,
        "translated_from": transcript.translated_from,
        "segments": [
            {"start": s.start, "duration": s.duration, "text": s.text} for s in transcript.segments
        ],
        "available": [track.as_dict() for track in transcript.available],
        "attempts": [attempt.as_dict() for attempt in transcript.attempts],
        "cached": transcript.cached,
        "trace_id": trace_id,
    }


def _json(transcript: Transcript, trace_id: str) -> bytes:
    return orjson.dumps(as_document(transcript, trace_id))


def _srt(transcript: Transcript, trace_id: str) -> bytes:
    blocks = [
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{_lines(segment.text)}\n"
        for number, (segment, start, end) in enumerate(_timed(transcript), start=1)
    ]
    return "\n".join(blocks).encode()


def _vtt(transcript: Transcript, trace_id: str) -> bytes:
    # https://www.w3.org/TR/webvtt1/: the header block ends with an empty line, and text
    # may hold neither an unescaped < or & nor the arrow that starts a cue's timing.
    blocks = ["WEBVTT\nLanguage: " + transcript.language + "\n"]
    for segment, start, end in _timed(transcript):
        text = _lines(segment.text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        blocks.append(f"{_clock(start, '.')} --> {_clock(end, '.')}\n{text}\n")
    return "\n".join(blocks).encode()


def _text(transcript: Transcript, trace_id: str) -> bytes:
    return "".join(f"{' '.join(s.text.split())}\n" for s in transcript.segments).encode()


def _timed(transcript: Transcript) -> list[tuple[Segment, float, float]]:
    return [(s, s.start, s.start + s.duration) for s in transcript.segments]


def _lines(text: str) -> str:
    """A caption's lines; an empty line inside would end it for a reader of SRT or VTT."""
    return re.sub(r"\s*\n\s*", "\n", text.replace("\r", "\n"))


def _clock(seconds: float, separator: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{separator}{milliseconds % 1000:03}"


# name -> (media type, writer)
FORMATS: Final[dict[str, tuple[str, Callable[[Transcript, str], bytes]]]] = {
    "json": ("application/json", _json),
    "srt": ("application/x-subrip; charset=utf-8", _srt),
    "vtt": ("text/vtt; charset=utf-8", _vtt),
    "text": ("text/plain; charset=utf-8", _text),
}
