"""What every way to a transcript does to the words and times it is given, in one place.

So the same captions come out as the same segments, whichever format they came in. All of
it is linear in the length of the text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from html import unescape
from html.entities import html5
from typing import Final

from .model import Segment

# The longest video there is lasts 25 days.
LATEST_S: Final = 1e7
# Tags of captions' markup (HTML, SubRip, WebVTT); any other `<word>` was said.
_TAG: Final = re.compile(
    r"</?(?:[bius]|br|c|del|em|font|ins|lang|mark|p|r[bpt]|ruby|small|span|strong|su[bp]|tt|v)"
    r"(?:[\s./][^<>]*)?>",
    re.IGNORECASE,
)
_ENTITY: Final = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
# Space with a zero-width character in it: styled captions pad their lines with both.
_INVISIBLE: Final = "\u200b\u2060\ufeff"
_PADDING: Final = re.compile(f"[ {_INVISIBLE}]+")
# Characters that show nothing, not even a space: a line of them alone is a blank line. Within
# a line those that join letters or turn the direction of writing have a meaning and stay.
_UNSEEN: Final = (
    _INVISIBLE
    + "\u200c\u200d\u200e\u200f\u061c\u2061\u2062\u2063\u2064\u180e\xad"
    + ("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
)
_BLANK: Final = re.compile(rf"[\s{_UNSEEN}]*")
_CONTROL: Final = re.compile("[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f]")


def clean(text: str) -> str:
    """A caption's text: its lines without padding, none of them blank; empty if nothing is seen.

    Zero-width padding and control characters are left out, every kind of line end is `\\n`.
    """
    if text.isascii() and text.isprintable():
        return text.strip()
    text = _PADDING.sub(_spaces, _CONTROL.sub("", text))
    return "\n".join(line.strip() for line in text.splitlines() if not _BLANK.fullmatch(line))


def _spaces(run: re.Match[str]) -> str:
    padding = run[0]
    if padding.isspace():
        return padding  # nothing invisible in it
    return " " if " " in padding else ""


def without_markup(text: str) -> str:
    """The words of an HTML text: first the tags are taken out, then the entities read."""
    if "<" in text:
        text = _TAG.sub(lambda tag: "\n" if tag[0][1:3].lower() == "br" else "", text)
    return _ENTITY.sub(_character, text) if "&" in text else text


def _character(entity: re.Match[str]) -> str:
    # HTML reads `&notable;` as `¬able;`, which nobody means who writes captions.
    return unescape(entity[0]) if entity[0][1] == "#" else html5.get(entity[0][1:], entity[0])


def seconds(value: object, unit: float = 1.0) -> float | None:
    """A time in seconds, `None` for what is none; one before the beginning is the beginning."""
    found = number(value)
    return found / unit if found is not None and found / unit < LATEST_S else None


def number(value: object) -> float | None:
    """A finite number that is at least 0, from a number or a text; `None` for what is none."""
    if not isinstance(value, int | float | str) or isinstance(value, bool):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return max(0.0, found) if math.isfinite(found) else None


def as_segments(rows: Iterable[tuple[float, float, str]]) -> list[Segment]:
    """Segments from (start, duration, text), in order, without blank ones and repetitions.

    The layers of a styled caption (its outline, its shadow) are the same text at the same time.
    """
    segments = {
        Segment(start, duration, cleaned): None
        for start, duration, text in rows
        if (cleaned := clean(text))
    }
    return sorted(segments, key=lambda segment: segment.start)
