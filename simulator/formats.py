"""Caption tracks written in the formats of /api/timedtext: srv1, srv3, json3, vtt and srt."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable
from typing import Any
from xml.sax.saxutils import escape

from simulator.model import Cue, Track

CONTENT_TYPES: dict[str, str] = {
    "srv1": "text/xml; charset=UTF-8",
    "srv3": "text/xml; charset=UTF-8",
    "json3": "application/json; charset=UTF-8",
    "vtt": "text/vtt; charset=UTF-8",
    "srt": "application/x-subrip; charset=UTF-8",
}

_XML_HEAD = '<?xml version="1.0" encoding="utf-8" ?>'


def write(track: Track, fmt: str) -> bytes:
    """The track in one of :data:`CONTENT_TYPES`. Raises KeyError for another format."""
    writers: dict[str, Callable[[Track], str]] = {
        "srv1": srv1,
        "srv3": srv3,
        "json3": json3,
        "vtt": vtt,
        "srt": srt,
    }
    return writers[fmt](track).encode()


def translated(track: Track, lang: str, name: str) -> Track:
    """The same track as a machine translation would look: the text marked with the language."""
    cues = tuple(
        cue if cue.blank else Cue(cue.start_ms, cue.duration_ms, f"[{lang}] {cue.text}")
        for cue in track.cues
    )
    return Track(lang, name, track.kind, cues)


def srv1(track: Track) -> str:
    """``<transcript><text start dur>``, seconds, the text HTML-escaped and then XML-escaped."""
    lines = [
        f'<text start="{_seconds(cue.start_ms)}" dur="{_seconds(cue.duration_ms)}">'
        f"{escape(_as_html(cue))}</text>"
        for cue in track.cues
    ]
    return f"{_XML_HEAD}<transcript>{''.join(lines)}</transcript>"


def _seconds(ms: int) -> str:
    return f"{ms / 1000:.3f}".rstrip("0").rstrip(".")


def _as_html(cue: Cue) -> str:
    if cue.html is not None:
        return cue.html
    return html.escape(cue.text).replace("&#x27;", "&#39;")


def srv3(track: Track) -> str:
    """``<timedtext format="3">``, milliseconds; automatic tracks time every word in an ``<s>``."""
    body: list[str] = []
    if track.kind == "asr":
        body.append('<w t="0" id="1" wp="1" ws="1"/>')
        for cue, following in _with_next(track.cues):
            words = [
                f'<s{_attribute(" t", offset)} ac="{confidence}">{escape(word)}</s>'
                for word, offset, confidence in _timed_words(cue)
            ]
            body.append(f'<p t="{cue.start_ms}" d="{cue.duration_ms}" w="1">{"".join(words)}</p>')
            if following is not None:
                at = following.start_ms - 10
                body.append(f'<p t="{at}" d="{max(cue.end_ms - at, 10)}" w="1" a="1">\n</p>')
        head = (
            '<head><ws id="0"/><ws id="1" mh="2" ju="0" sd="3"/>'
            '<wp id="0"/><wp id="1" ap="6" ah="20" av="100" rc="2" cc="40"/></head>'
        )
    else:
        head = '<head><pen id="1" fc="#E5E5E5"/></head>'
        body = [
            f'<p t="{cue.start_ms}" d="{cue.duration_ms}">{escape(cue.text)}</p>'
            for cue in track.cues
        ]
    return f'{_XML_HEAD}<timedtext format="3">{head}<body>{"".join(body)}</body></timedtext>'


def json3(track: Track) -> str:
    """``{"wireMagic": "pb3", "events": […]}``, milliseconds.

    Automatic tracks start with a window event without ``segs``, time every
    word, and hold an append event of one newline after each line.
    """
    automatic = track.kind == "asr"
    events: list[dict[str, Any]] = []
    if automatic and track.cues:
        last = track.cues[-1].end_ms
        events.append(
            {"tStartMs": 0, "dDurationMs": last, "id": 1, "wpWinPosId": 1, "wsWinStyleId": 1}
        )
    for cue, following in _with_next(track.cues):
        event: dict[str, Any] = {"tStartMs": cue.start_ms, "dDurationMs": cue.duration_ms}
        if not automatic:
            events.append({**event, "segs": [{"utf8": cue.text}]})
            continue
        segs = [
            {"utf8": word, **({"tOffsetMs": offset} if offset else {}), "acAsrConf": confidence}
            for word, offset, confidence in _timed_words(cue)
        ]
        events.append({**event, "wWinId": 1, "segs": segs})
        if following is not None:
            at = following.start_ms - 10
            events.append(
                {
                    "tStartMs": at,
                    "dDurationMs": max(cue.end_ms - at, 10),
                    "wWinId": 1,
                    "aAppend": 1,
                    "segs": [{"utf8": "\n"}],
                }
            )
    style = [{}, {"mhModeHint": 2, "juJustifCode": 0, "sdScrollDir": 3}] if automatic else [{}]
    place = (
        [{}, {"apPoint": 6, "ahHorPos": 20, "avVerPos": 100, "rcRows": 2, "ccCols": 40}]
        if automatic
        else [{}]
    )
    document = {
        "wireMagic": "pb3",
        "pens": [{}],
        "wsWinStyles": style,
        "wpWinPositions": place,
        "events": events,
    }
    return json.dumps(document, ensure_ascii=False, indent=2)


def vtt(track: Track) -> str:
    """WebVTT, as YouTube serves it to players that ask for ``fmt=vtt``."""
    blocks = [
        f"{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n"
        f"{html.escape(cue.text, quote=False)}\n"
        for cue in track.cues
        if not cue.blank
    ]
    kind = "asr" if track.kind == "asr" else "captions"
    return f"WEBVTT\nKind: {kind}\nLanguage: {track.lang}\n\n" + "\n".join(blocks)


def srt(track: Track) -> str:
    """SubRip."""
    shown = [cue for cue in track.cues if not cue.blank]
    return "\n".join(
        f"{i}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n{cue.text}\n"
        for i, cue in enumerate(shown, start=1)
    )


def _clock(ms: int, point: str) -> str:
    seconds, ms = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{ms:03}"


def _attribute(name: str, value: int) -> str:
    return f'{name}="{value}"' if value else ""


def _with_next(cues: Iterable[Cue]) -> Iterable[tuple[Cue, Cue | None]]:
    listed = list(cues)
    return zip(listed, [*listed[1:], None], strict=True)


def _timed_words(cue: Cue) -> list[tuple[str, int, int]]:
    """Each word with its leading space, its offset in ms and the recogniser's confidence of 255.

    A recorded line's words share its first half: it stays on screen while the next is spoken.
    """
    words = cue.text.split(" ")
    pace = max(cue.duration_ms // 2 // max(len(words), 1), 1)
    return [
        (word if i == 0 else f" {word}", i * pace, 180 + (cue.start_ms + i * 37) % 76)
        for i, word in enumerate(words)
    ]
