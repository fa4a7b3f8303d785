"""A transcript as JSON, SubRip, WebVTT or plain text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final

import orjson

from ..problem import TraceId
from .model import Segment, Transcript

_LANGUAGE: Final = re.compile(r"[A-Za-z0-9-]{1,40}")
# How long a cue is shown of which only the start is known, where none follows sooner.
_UNKNOWN_MS: Final = 5000
# A line that can be the number of a cue.
_NUMBER: Final = re.compile(r"-?\d+\.?\d*")
# A time as readers of SRT and WebVTT look for it, in any line and between any words.
_STAMP: Final = re.compile(r"\d[:,.：，．。]\d{1,6}[:,.：，．。]\d")


@dataclass(frozen=True)
class TranscriptDocument(Transcript):
    """A transcript and the trace of the request that got it."""

    trace_id: TraceId = field(kw_only=True)


def as_document(transcript: Transcript, trace_id: str) -> dict[str, Any]:
    """The JSON document of a transcript (`TranscriptDocument`); times in seconds."""
    return {**transcript.as_dict(), "trace_id": trace_id}


def _json(transcript: Transcript, trace_id: str) -> bytes:
    return orjson.dumps(as_document(transcript, trace_id))


def _srt(transcript: Transcript, trace_id: str) -> bytes:
    blocks = [
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n"
        for number, (start, end, text) in enumerate(_cues(transcript.segments), start=1)
    ]
    return "\n".join(blocks).encode()


def _vtt(transcript: Transcript, trace_id: str) -> bytes:
    # https://www.w3.org/TR/webvtt1/: an empty line follows the signature, so the language is a
    # comment; text holds neither an unescaped < or & nor the arrow of a cue's timing.
    blocks = ["WEBVTT\n"]
    if _LANGUAGE.fullmatch(transcript.language):
        blocks.append(f"NOTE Language: {transcript.language}\n")
    for start, end, text in _cues(transcript.segments):
        escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        blocks.append(f"{_clock(start, '.')} --> {_clock(end, '.')}\n{escaped}\n")
    return "\n".join(blocks).encode()


def _text(transcript: Transcript, trace_id: str) -> bytes:
    return "".join(f"{' '.join(s.text.split())}\n" for s in transcript.segments).encode()


def _cues(segments: Sequence[Segment]) -> list[tuple[int, int, str]]:
    """(start, end, text) of every cue in milliseconds, in order, each of which can be seen.

    A cue ends where the next later one begins: YouTube's rolling captions overlap, players
    would stack them.
    """
    timed = sorted(
        (
            (round(segment.start * 1000), round(segment.duration * 1000), text)
            for segment in segments
            if (text := _without_timing(_lines(segment.text)))
        ),
        key=itemgetter(0),
    )
    cues: list[tuple[int, int, str]] = []
    following = later = math.inf  # the start of the next cue, and of the next that is later
    for start, duration, text in reversed(timed):
        if start < following:
            later = following
        following = start
        cues.append((start, int(min(start + (duration or _UNKNOWN_MS), later)), text))
    return cues[::-1]


def _lines(text: str) -> str:
    """A caption's lines; an empty line inside would end it for a reader of SRT or VTT."""
    return "\n".join(stripped for line in text.splitlines() if (stripped := line.strip()))


def _without_timing(text: str) -> str:
    """A cue's text with no line in it that a reader takes for the next cue's timing.

    SRT has no escaping, and some readers look for two times in a line whatever is between
    them, so such a line gets signs that look the same.
    """
    if "-->" not in text and not _STAMP.search(text):
        return text
    lines = text.split("\n")
    for index, line in enumerate(lines):
        above = lines[index - 1] if index else ""
        is_number = above.isdigit() or _NUMBER.fullmatch(above)
        if is_number or len(_STAMP.findall(line)) > 1:
            lines[index] = line.replace("-->", "\u2192").replace(":", "\u2236")
    return "\n".join(lines)


def _clock(milliseconds: int, separator: str) -> str:
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
