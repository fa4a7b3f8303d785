"""Parsers for every form in which YouTube delivers captions.

Each turns a body into segments or raises a classified `TranscriptError`; nothing else
comes out, whatever goes in. One segment is one caption line as YouTube cut it: not a
word, not a newline, not a window event. A caption without a readable time is left out; the
others are kept.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Final, Literal
from xml.etree.ElementTree import Element, ParseError

import orjson
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from .model import Segment, TranscriptError
from .text import as_segments, clean, seconds, without_markup

Format = Literal["srv1", "srv3", "json3"]

# Start and duration in seconds, and the text; a time that cannot be read is `None`.
_Row = tuple[float | None, float | None, str]

_BOM: Final = b"\xef\xbb\xbf"
_PROLOGUE = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?", re.IGNORECASE)
_SPACE = re.compile(rb"\s*")
_HTML = re.compile(
    rb"<(?:!doctype\s+html|html|head|body|title|meta|script|style|div|form)\b", re.IGNORECASE
)
# A page that has it is a watch page, whatever words its video's description holds.
_KEY = re.compile(rb'"INNERTUBE_API_KEY":\s*"[a-zA-Z0-9_-]+"')
_CONSENT = re.compile(rb"""action=["']?https://consent\.(?:youtube|google)\.""")
_CAPTCHA = re.compile(rb"""class=["']?(?:[\w-]+ )*g-recaptcha\b|id=["']?captcha-form\b""")
# What stands around the digits of a clock and is not of it: marks of the direction, spaces.
_NO_CLOCK: Final = frozenset({"Cf", "Zs", "Cc"})
_CLOCK_PARTS: Final = re.compile(r"[:.\uff1a\u066b\u2236]")
_LONGEST_CLOCK: Final = 40
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def parse_captions(body: bytes, expected: Format) -> list[Segment]:
    """The segments of a timedtext answer.

    Raises:
        TranscriptError: `empty_body` (also: no caption in it), `html_body`,
            `consent_required` or `ip_blocked` (a page instead of data), `parse_error`
            (damaged, or another format than was asked for).
    """
    check_body(body)
    found = _format_of(body)
    if found != expected:
        raise TranscriptError("parse_error", f"Expected {expected} captions, got {found}.")
    return _segments({"srv1": _srv1, "srv3": _srv3, "json3": _json3}[expected](body))


def check_body(body: bytes) -> None:
    """Refuse a body that is no data at all.

    Raises:
        TranscriptError: `empty_body`, `html_body`, `consent_required`, `ip_blocked`.
    """
    if not body.strip():
        raise TranscriptError("empty_body", "YouTube answered with an empty body.")
    if _is_html(body.removeprefix(_BOM)):
        check_page(body)
        raise TranscriptError("html_body", "YouTube answered with a page instead of data.")


def _is_html(body: bytes) -> bool:
    """Whether it begins like a page; an XML declaration and comments may come first."""
    # Comments are passed over here and not by the pattern: possessive quantifiers, which would
    # keep that linear and small, match wrongly around a group before Python 3.11.5.
    start = _end(_PROLOGUE, body, 0)
    while body.startswith(b"<!--", start):
        end = body.find(b"-->", start + 4)
        if end < 0:
            return False
        start = _end(_SPACE, body, end + 3)
    return _HTML.match(body, start) is not None


def _end(always: re.Pattern[bytes], body: bytes, start: int) -> int:
    """Where the match of a pattern that always matches ends."""
    found = always.match(body, start)
    return found.end() if found else start


def check_page(body: bytes) -> None:
    """Refuse an interstitial page.

    Raises:
        TranscriptError: `consent_required` or `ip_blocked`.
    """
    if has_key(body):
        return
    if _CONSENT.search(body):
        raise TranscriptError("consent_required", "YouTube asks for cookie consent first.")
    if _CAPTCHA.search(body):
        raise TranscriptError("ip_blocked", "YouTube asks this address to solve a captcha.")


def has_key(page: bytes) -> bool:
    """Whether a page holds the key of YouTube's inner API, as watch pages do."""
    return _KEY.search(page) is not None


def load_json(body: bytes) -> Any:
    """JSON of YouTube's, with or without a byte order mark.

    Half of a surrogate pair, left where a text was cut, is read as U+FFFD.

    Raises:
        TranscriptError: `parse_error`.
    """
    body = body.removeprefix(_BOM)
    with suppress(orjson.JSONDecodeError):
        return orjson.loads(body)
    with suppress(ValueError, RecursionError):
        # orjson refuses such halves, the standard library hands them on.
        text = body.decode()
        if "\\ud" in text.lower():
            # Without escapes: pairs become characters, halves stay.
            text = json.dumps(json.loads(text), ensure_ascii=False)
            return orjson.loads(_LONE_SURROGATE.sub("\ufffd", text).encode())
    raise TranscriptError("parse_error", "YouTube's answer is damaged JSON.")


def parse_get_transcript(body: bytes) -> list[Segment]:
    """The segments of a `get_transcript` answer: segment renderers, or the older cues.

    Raises:
        TranscriptError: as `parse_captions`.
    """
    check_body(body)
    return _segments(_get_transcript(load_json(body)))


def _get_transcript(document: Any) -> Iterator[_Row]:
    for key, item in _walk(document, {"transcriptSegmentRenderer", "transcriptCueRenderer"}):
        if key == "transcriptSegmentRenderer":
            start = seconds(item.get("startMs", 0), 1000)
            end = start if item.get("endMs") is None else seconds(item["endMs"], 1000)
            lasts = None
            if start is not None and end is not None:
                lasts = round(max(0.0, end - start), 3)
            yield start, lasts, text_of(item.get("snippet"))
        else:
            start = seconds(item.get("startOffsetMs", 0), 1000)
            yield start, seconds(item.get("durationMs", 0), 1000), text_of(item.get("cue"))


def parse_get_panel(body: bytes) -> list[Segment]:
    """The segments of a `get_panel` answer (the modern transcript panel).

    The panel gives whole seconds and no ends, so a duration is the distance to the next
    start and the last one is 0.

    Raises:
        TranscriptError: as `parse_captions`.
    """
    check_body(body)
    rows: list[tuple[object, str]] = []
    for _, item in _walk(load_json(body), {"transcriptSegmentViewModel"}):
        text = item.get("simpleText")
        if not isinstance(text, str):
            text = text_of(item.get("text") or item.get("snippet"))
        rows.append((item.get("timestamp") or item.get("startTimeText"), text))
    return with_durations(rows)


def with_durations(rows: Iterable[tuple[object, str]]) -> list[Segment]:
    """Segments from a panel's clocks and texts: each lasts until the next begins.

    Raises:
        TranscriptError: `empty_body` where no text is left, `parse_error` where no clock
            can be read.
    """
    segments = _segments((clock_seconds(clock), 0.0, text) for clock, text in rows)
    return [
        Segment(segment.start, following.start - segment.start, segment.text)
        for segment, following in zip(segments, [*segments[1:], segments[-1]], strict=True)
    ]


def clock_seconds(clock: object) -> float | None:
    """`1:02:03`, `34:35` or `4.48` in seconds, in the digits of any script.

    `None` for what is no clock.
    """
    if not isinstance(clock, str) or len(clock) > _LONGEST_CLOCK:
        return None
    marks = "".join(mark for mark in clock if unicodedata.category(mark) not in _NO_CLOCK)
    parts = _CLOCK_PARTS.split(marks)
    if not 2 <= len(parts) <= 3 or not all(part.isdecimal() for part in parts):
        return None
    clocked = 0
    for part in parts:
        clocked = clocked * 60 + int(part)  # reads the digits of every script
    return seconds(clocked)


def _format_of(body: bytes) -> Format | Literal["neither"]:
    head = body.lstrip(_BOM + b" \t\r\n")[:400]
    if head.startswith(b"{"):
        return "json3"
    if b"<transcript" in head:
        return "srv1"
    if b"<timedtext" in head:
        return "srv3"
    return "neither"


def _srv1(body: bytes) -> Iterator[_Row]:
    for element in _xml(body).iterfind("text"):
        # Escaped twice: the XML parser has undone one layer, what is left is HTML.
        text = without_markup(_spoken(element))
        yield seconds(element.get("start")), seconds(element.get("dur", 0)), text


def _srv3(body: bytes) -> Iterator[_Row]:
    for element in _xml(body).iterfind("body/p"):
        start, duration = seconds(element.get("t"), 1000), seconds(element.get("d", 0), 1000)
        yield start, duration, _spoken(element)


def _spoken(element: Element) -> str:
    """The text of an element and of those in it, which say how it looks."""
    for inner in element.iter("br"):
        inner.text = f"\n{inner.text or ''}"
    return "".join(element.itertext())


def _json3(body: bytes) -> Iterator[_Row]:
    document = load_json(body)
    events = document.get("events") if isinstance(document, dict) else None
    if not isinstance(events, list):
        raise TranscriptError("parse_error", "The caption file has no list of events.")
    for event in events:
        parts = event.get("segs") if isinstance(event, dict) else None
        if not isinstance(parts, list):
            continue  # a window or style event
        text = "".join(
            part["utf8"]
            for part in parts
            if isinstance(part, dict) and isinstance(part.get("utf8"), str)
        )
        start, duration = event.get("tStartMs", 0), event.get("dDurationMs", 0)
        yield seconds(start, 1000), seconds(duration, 1000), text


def _segments(rows: Iterable[_Row]) -> list[Segment]:
    """The rows that have a time and a text.

    Raises:
        TranscriptError: there are none: `empty_body`, or `parse_error` where a time was
            what they lacked.
    """
    timed: list[tuple[float, float, str]] = []
    untimed: list[str] = []
    for start, duration, text in rows:
        if start is None or duration is None:
            untimed.append(text)
        else:
            timed.append((start, duration, text))
    if segments := as_segments(timed):
        return segments
    if any(clean(text) for text in untimed):
        raise TranscriptError("parse_error", "No caption has a readable time.")
    raise TranscriptError("empty_body", "The caption file holds no caption.")


def _xml(body: bytes) -> Element:
    try:
        # Some servers put a newline before the declaration, where XML allows none.
        root: Element = fromstring(body.removeprefix(_BOM).lstrip())
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        # LookupError: an encoding that does not exist. No cause kept: it quotes the body.
        raise TranscriptError("parse_error", "The caption file is damaged.") from None
    return root


def object_of(value: object) -> dict[str, Any]:
    """A JSON object, empty where the value is none."""
    return value if isinstance(value, dict) else {}


def text_of(value: object) -> str:
    """The text of YouTube's `{simpleText}` or `{runs: [{text}]}` object."""
    if not isinstance(value, dict):
        return ""
    simple = value.get("simpleText", value.get("content"))
    if isinstance(simple, str):
        return simple
    runs = value.get("runs")
    if not isinstance(runs, list):
        return ""
    return "".join(
        run["text"] for run in runs if isinstance(run, dict) and isinstance(run.get("text"), str)
    )


def _walk(document: Any, keys: set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object under one of `keys`, in document order; a stack, so depth is no limit."""
    stack = [document]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            children = []
            for key, value in node.items():
                if key in keys and isinstance(value, dict):
                    yield key, value
                else:
                    children.append(value)
            stack.extend(reversed(children))
        elif isinstance(node, list):
            stack.extend(reversed(node))
