"""Parsers for every form in which YouTube delivers captions.

Each turns a body into segments or raises a classified `TranscriptError`; nothing else
comes out, whatever goes in. One segment is one caption line as YouTube cut it: not a
word, not a newline, not a window event.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from html import unescape
from typing import Any, Literal
from xml.etree.ElementTree import Element, ParseError

import orjson
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from .model import Segment, TranscriptError

Format = Literal["srv1", "srv3", "json3"]

# An opening or closing tag inside a caption's text; "1 < 2" and "I <3 it" are not tags.
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_PROLOGUE = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?", re.IGNORECASE)
_SPACE = re.compile(rb"\s*")
_HTML = re.compile(
    rb"<(?:!doctype\s+html|html|head|body|title|meta|script|style|div|form)\b", re.IGNORECASE
)
# A page that has it is a watch page, whatever words its video's description holds.
_KEY = re.compile(rb'"INNERTUBE_API_KEY":\s*"[a-zA-Z0-9_-]+"')
_CONSENT = re.compile(rb"""action=["']?https://consent\.(?:youtube|google)\.""")
_CAPTCHA = re.compile(rb"""class=["']?(?:[\w-]+ )*g-recaptcha\b|id=["']?captcha-form\b""")
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
    segments = {"srv1": _srv1, "srv3": _srv3, "json3": _json3}[expected](body)
    return _not_empty(segments)


def check_body(body: bytes) -> None:
    """Refuse a body that is no data at all.

    Raises:
        TranscriptError: `empty_body`, `html_body`, `consent_required`, `ip_blocked`.
    """
    if not body.strip():
        raise TranscriptError("empty_body", "YouTube answered with an empty body.")
    if _is_html(body.removeprefix(b"\xef\xbb\xbf")):
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
    body = body.removeprefix(b"\xef\xbb\xbf")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        # orjson refuses such halves, the standard library hands them on.
        text = body.decode()
        if "\\ud" in text.lower():
            return orjson.loads(_LONE_SURROGATE.sub("\ufffd", _rewritten(text)).encode())
    except (ValueError, RecursionError):
        pass
    raise TranscriptError("parse_error", "YouTube's answer is damaged JSON.") from None


def _rewritten(text: str) -> str:
    """The same JSON without escapes; pairs become characters, halves stay."""
    return json.dumps(json.loads(text), ensure_ascii=False)


def parse_get_transcript(body: bytes) -> list[Segment]:
    """The segments of a `get_transcript` answer: segment renderers, or the older cues.

    Raises:
        TranscriptError: as `parse_captions`.
    """
    check_body(body)
    segments: list[Segment] = []
    for key, item in _walk(load_json(body), {"transcriptSegmentRenderer", "transcriptCueRenderer"}):
        if key == "transcriptSegmentRenderer":
            start = _number(item.get("startMs", 0))
            end = _number(item.get("endMs", start))
            text = _text(item.get("snippet"))
        else:
            start = _number(item.get("startOffsetMs", 0))
            end = start + _number(item.get("durationMs", 0))
            text = _text(item.get("cue"))
        _append(segments, start / 1000, max(0.0, end - start) / 1000, text)
    return _not_empty(segments)


def parse_get_panel(body: bytes) -> list[Segment]:
    """The segments of a `get_panel` answer (the modern transcript panel).

    The panel gives whole seconds and no ends, so a duration is the distance to the next
    start and the last one is 0.

    Raises:
        TranscriptError: as `parse_captions`.
    """
    check_body(body)
    starts: list[tuple[float, str]] = []
    for _, item in _walk(load_json(body), {"transcriptSegmentViewModel"}):
        text = item.get("simpleText")
        if not isinstance(text, str):
            text = _text(item.get("text") or item.get("snippet"))
        starts.append((clock_seconds(item.get("timestamp")), text))
    return with_durations(starts)


def with_durations(starts: list[tuple[float, str]]) -> list[Segment]:
    """Segments from starts (seconds) alone: each lasts until the next.

    Raises:
        TranscriptError: `empty_body` where no text is left.
    """
    segments: list[Segment] = []
    for index, (start, text) in enumerate(starts):
        end = starts[index + 1][0] if index + 1 < len(starts) else start
        _append(segments, start, max(0.0, end - start), text)
    return _not_empty(segments)


def clock_seconds(clock: object) -> float:
    """`1:02:03` or `34:35` in seconds.

    Raises:
        TranscriptError: `parse_error`.
    """
    parts = clock.strip().split(":") if isinstance(clock, str) else []
    if not 2 <= len(parts) <= 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise TranscriptError("parse_error", "A caption has no readable time.")
    seconds = 0
    for part in parts:
        seconds = seconds * 60 + int(part[:6])
    return float(seconds)


def _format_of(body: bytes) -> Format | Literal["neither"]:
    head = body.lstrip(b"\xef\xbb\xbf \t\r\n")[:400]
    if head.startswith(b"{"):
        return "json3"
    if b"<transcript" in head:
        return "srv1"
    if b"<timedtext" in head:
        return "srv3"
    return "neither"


def _srv1(body: bytes) -> list[Segment]:
    segments: list[Segment] = []
    for element in _xml(body).iter("text"):
        # The text is escaped twice: the XML parser undoes one layer.
        text = _TAG.sub("", unescape("".join(element.itertext())))
        _append(segments, _number(element.get("start")), _number(element.get("dur", 0)), text)
    return segments


def _srv3(body: bytes) -> list[Segment]:
    segments: list[Segment] = []
    for element in _xml(body).iter("p"):
        text = _TAG.sub("", unescape("".join(element.itertext())))
        if text.strip():
            start, duration = _number(element.get("t")), _number(element.get("d", 0))
            _append(segments, start / 1000, duration / 1000, text)
    return segments


def _json3(body: bytes) -> list[Segment]:
    document = load_json(body)
    events = document.get("events") if isinstance(document, dict) else None
    if not isinstance(events, list):
        raise TranscriptError("parse_error", "The caption file has no list of events.")
    segments: list[Segment] = []
    for event in events:
        parts = event.get("segs") if isinstance(event, dict) else None
        if not isinstance(parts, list):
            continue  # a window or style event
        text = "".join(
            part["utf8"]
            for part in parts
            if isinstance(part, dict) and isinstance(part.get("utf8"), str)
        )
        if text.strip():  # an append event holds only a newline
            start, duration = (
                _number(event.get("tStartMs", 0)),
                _number(event.get("dDurationMs", 0)),
            )
            _append(segments, start / 1000, duration / 1000, text)
    return segments


def _append(segments: list[Segment], start: float, duration: float, text: str) -> None:
    if text := text.strip():
        segments.append(Segment(start, duration, text))


def _not_empty(segments: list[Segment]) -> list[Segment]:
    if not segments:
        raise TranscriptError("empty_body", "The caption file holds no caption.")
    return segments


def _number(value: object) -> float:
    """A time; one before the beginning is the beginning."""
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return max(0.0, number)
    raise TranscriptError("parse_error", "A caption has no readable time.")


def _xml(body: bytes) -> Element:
    try:
        root: Element = fromstring(body)
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        # LookupError: an encoding that does not exist. No cause kept: it quotes the body.
        raise TranscriptError("parse_error", "The caption file is damaged.") from None
    return root


def _text(value: object) -> str:
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
