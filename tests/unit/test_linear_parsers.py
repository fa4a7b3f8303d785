"""No text from outside takes longer than its size allows: a megabyte of anything, everywhere.

A parser's CPU time for a hostile text is compared with its own for a harmless one of the same
size. Quadratic ones are hundreds of times over the bound: `<[^>]*>` takes minutes for `<<<<…`.
In `make test` the texts have a quarter of that size, a sixteenth of the time of such a parser.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from transcript_service.settings import Settings, SettingsError
from transcript_service.transcripts.captions import (
    check_page,
    clock_seconds,
    parse_captions,
    parse_get_panel,
    parse_get_transcript,
)
from transcript_service.transcripts.cookies import jar_for
from transcript_service.transcripts.formats import FORMATS
from transcript_service.transcripts.http import parse_retry_after
from transcript_service.transcripts.languages import (
    choose_track,
    same_language,
)
from transcript_service.transcripts.model import Segment, Track, Transcript, TranscriptError
from transcript_service.transcripts.player import check_watch_page, read_player
from transcript_service.transcripts.speech import read_verbose_json, whisper_language
from transcript_service.transcripts.text import clean, without_markup
from transcript_service.transcripts.wanted import parse_video_id, parse_wanted

pytestmark = pytest.mark.hypothesis  # whole megabytes in `make test-all`
SIZE = min(1_000_000, settings().max_examples * 2500)
# How many times the harmless text's CPU time, and what a busy machine adds.
FACTOR, SLACK_S = 20.0, 3 * SIZE / 1_000_000

HARMLESS = "words that somebody said in a film, one after the other. "
HOSTILE = [
    "<", "<a", "</", "<b ", "<br", "<i>", "&", "&#", "&#1", "&amp;", " ", "\n", " \n", "\t", "\r",
    " \u200b", "\u2028", "\x00", "-->", "00:00:00,000 --> ", "1:", "1\n", "9", '"', "\\", "[", "{",
    '{"a":', "<!--", "-->x<!--", "<?xml ", "<text>", "<p>", "<br/>", "<transcript>",
    '"INNERTUBE_API_KEY": ', 'class="a ', "class=a-", 'id="', "action=", "<html", "%2f",
    "https://youtu.be/", "?continue=/", "&v=", "a-", "zh-", "a,", ";", "bot", "é", "界",
    "#HttpOnly_",
]  # fmt: skip
# One beginning, and then a megabyte that may belong to it.
BEGUN = [
    ("<", " "),
    ("<a", "b"),
    ("&#", "1"),
    ("&", "a"),
    ("1:1", "1"),
    ("1:1", " "),
    ("class=", "a "),
]
# XML carries no control characters.
_XML = {code: None for code in range(32) if code not in (9, 10, 13)}


def xml(text: str) -> str:
    return text.translate(_XML)


def escaped(text: str) -> str:
    return xml(text).replace("&", "&amp;").replace("<", "&lt;")


def encoded(text: str) -> bytes:
    return text.encode()


def player(text: str) -> bytes:
    track = {"languageCode": "en", "baseUrl": text, "name": {"runs": [{"text": "a"}]}}
    return json.dumps(
        {
            "playabilityStatus": {"status": "OK"},
            "videoDetails": {"videoId": ID},
            "captions": {"playerCaptionsTracklistRenderer": {"captionTracks": [track]}},
        }
    ).encode()


def refusal(status: str) -> Callable[[str], bytes]:
    return lambda text: json.dumps(
        {"playabilityStatus": {"status": status, "reason": text}, "videoDetails": {"videoId": ID}}
    ).encode()


def files(text: str) -> object:
    found = Transcript(ID, "asr", text, "speech", (Segment(0.0, 1.0, text),))
    return [write(found, "") for _, write in FORMATS.values()]


ID = "a-B_9cD3eFg"
# name -> (what is made of the text, which is not measured; what reads it)
PARSERS: dict[str, tuple[Callable[[str], Any], Callable[[Any], Any]]] = {
    "srv1": (
        lambda text: f'<transcript><text start="0">{escaped(text)}</text></transcript>'.encode(),
        lambda body: parse_captions(body, "srv1"),
    ),
    "srv1 markup": (
        lambda text: f'<transcript><text start="0">{xml(text)}'.encode(),
        lambda body: parse_captions(body, "srv1"),
    ),
    "srv1 attribute": (
        lambda text: f'<transcript><text start="{escaped(text)}">a</text></transcript>'.encode(),
        lambda body: parse_captions(body, "srv1"),
    ),
    "srv3": (
        lambda text: f'<timedtext><body><p t="0">{escaped(text)}</p></body></timedtext>'.encode(),
        lambda body: parse_captions(body, "srv3"),
    ),
    "json3": (
        lambda text: json.dumps({"events": [{"segs": [{"utf8": text}]}]}).encode(),
        lambda body: parse_captions(body, "json3"),
    ),
    "a body of any kind": (encoded, lambda body: parse_captions(body, "json3")),
    "get_transcript": (
        lambda text: json.dumps(
            {"transcriptSegmentRenderer": {"snippet": {"runs": [{"text": text}]}}}
        ).encode(),
        parse_get_transcript,
    ),
    "get_panel": (
        lambda text: json.dumps(
            {"transcriptSegmentViewModel": {"timestamp": "1:02", "simpleText": text}}
        ).encode(),
        parse_get_panel,
    ),
    "a clock": (str, clock_seconds),
    "a page": (encoded, check_page),
    "a watch page": (encoded, check_watch_page),
    "a player that plays": (player, lambda body: read_player(body, ID)),
    "a player that does not": (refusal("ERROR"), lambda body: read_player(body, ID)),
    "a player with a login": (refusal("LOGIN_REQUIRED"), lambda body: read_player(body, ID)),
    "a video": (str, parse_video_id),
    "languages": (str, lambda text: parse_wanted(ID, lang=text)),
    "a translation": (str, lambda text: parse_wanted(ID, translate=text)),
    "a track's name": (str, lambda text: parse_wanted(ID, track=text)),
    "a track": (str, lambda text: choose_track([Track(text, "manual", text)], [text], name=text)),
    "two languages": (str, lambda text: (same_language(text, "en"), same_language("en", text))),
    "whisper's language": (str, whisper_language),
    "what was heard": (
        lambda text: json.dumps({"language": text, "text": text}).encode(),
        lambda body: read_verbose_json(body, "en", 9.0),
    ),
    "a speech server's answer": (encoded, lambda body: read_verbose_json(body, "en", 9.0)),
    "a text": (str, clean),
    "markup": (str, without_markup),
    "files": (str, files),
    "Retry-After": (str, parse_retry_after),
}


def cpu_s(read: Callable[[Any], Any], made: Any) -> float:
    started = time.process_time()
    with suppress(TranscriptError, SettingsError):
        read(made)
    return time.process_time() - started


def of_size(pattern: str) -> str:
    return (pattern * (SIZE // len(pattern) + 1))[:SIZE]


def hostile() -> Iterator[tuple[str, str]]:
    for pattern in HOSTILE:
        yield pattern, of_size(pattern)
    for beginning, more in BEGUN:
        yield beginning + more, beginning + of_size(more)


def slow(make: Callable[[str], Any], read: Callable[[Any], Any]) -> dict[str, float]:
    """The hostile texts that take too long, and the seconds."""
    bound = FACTOR * cpu_s(read, make(of_size(HARMLESS))) + SLACK_S
    found = {}
    for pattern, text in hostile():
        made = make(text)
        # Beside others the same work takes more CPU time as well: what is slow is so every time.
        times = [cpu_s(read, made)]
        while times[-1] > bound and len(times) < 3:
            times.append(cpu_s(read, made))
        if times[-1] > bound:
            found[pattern] = min(times)
    return found


@pytest.mark.parametrize("name", PARSERS)
def test_a_megabyte_of_anything_takes_no_longer_than_one_of_words(name: str) -> None:
    make, read = PARSERS[name]
    assert slow(make, read) == {}


def test_a_cookie_file_of_anything_is_read_as_fast(tmp_path: Path) -> None:
    def make(text: str) -> Path:
        path = tmp_path / f"{hash(text)}.txt"
        path.write_text(text)
        return path

    assert slow(make, lambda path: jar_for(Settings(cookies_file=path), "desktop")) == {}


def test_a_quadratic_expression_is_over_the_bound() -> None:
    tag, sixth = re.compile("<[^>]*>"), SIZE // 6
    took = cpu_s(lambda text: tag.sub("", text), of_size("<")[:sixth])
    words = cpu_s(lambda text: tag.sub("", text), of_size(HARMLESS))
    # The whole takes it six times six times as long; six are enough on a machine of any speed.
    assert 6 * took > FACTOR * words + SLACK_S
