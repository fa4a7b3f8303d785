"""Caption bodies have YouTube's shapes and hold exactly the expected transcript."""

from __future__ import annotations

import html
import json
import re

import pytest
from defusedxml import ElementTree

from simulator import formats, recordings
from simulator.catalogue import CATALOGUE, by_title
from simulator.model import Cue, Track

TRACKS = [
    pytest.param(track, id=f"{video.title}/{track.lang}/{track.kind}")
    for video in CATALOGUE.values()
    for track in video.tracks
    if len(track.cues) < 100
]
Line = tuple[int, int, str]


def lines_of_srv1(body: bytes) -> list[Line]:
    """The recordings' own rule: unescape once more after the XML parse, strip tags."""
    return [
        (
            round(float(line.attrib["start"]) * 1000),
            round(float(line.attrib["dur"]) * 1000),
            re.sub(r"<[^>]*>", "", html.unescape(line.text or "")),
        )
        for line in ElementTree.fromstring(body)
    ]


def lines_of_srv3(body: bytes) -> list[Line]:
    return [
        (int(p.attrib["t"]), int(p.attrib["d"]), "".join(p.itertext()))
        for p in ElementTree.fromstring(body).iter("p")
        if p.get("a") != "1"
    ]


def lines_of_json3(body: bytes) -> list[Line]:
    return [
        (event["tStartMs"], event["dDurationMs"], "".join(s["utf8"] for s in event["segs"]))
        for event in json.loads(body)["events"]
        if "segs" in event and not event.get("aAppend")
    ]


READERS = {"srv1": lines_of_srv1, "srv3": lines_of_srv3, "json3": lines_of_json3}


@pytest.mark.parametrize("fmt", READERS)
@pytest.mark.parametrize("track", TRACKS)
def test_a_body_read_by_the_recordings_rules_is_the_expected_transcript(
    track: Track, fmt: str
) -> None:
    lines = [line for line in READERS[fmt](formats.write(track, fmt)) if line[2].strip()]
    expected = [(round(s.start * 1000), round(s.duration * 1000), s.text) for s in track.segments()]
    assert lines == expected


def test_srv1_escapes_text_twice_and_keeps_formatting_tags() -> None:
    cue = Cue(60, 3240, "it's 5 > 4", "it&#39;s <i>5 &gt; 4</i>")
    body = formats.srv1(Track("en", "English", "manual", (cue,)))
    assert body == (
        '<?xml version="1.0" encoding="utf-8" ?><transcript><text start="0.06" dur="3.24">'
        "it&amp;#39;s &lt;i&gt;5 &amp;gt; 4&lt;/i&gt;</text></transcript>"
    )


def test_automatic_json3_has_a_window_timed_words_and_newline_events() -> None:
    track = by_title("Counting Stars").tracks[0]
    events = json.loads(formats.json3(track))["events"]
    window, line, newline = events[:3]
    assert "segs" not in window
    assert window["wpWinPosId"] == 1
    assert [seg.get("tOffsetMs", 0) for seg in line["segs"]] == sorted(
        seg.get("tOffsetMs", 0) for seg in line["segs"]
    )
    assert line["segs"][1]["utf8"].startswith(" ")
    assert newline["segs"] == [{"utf8": "\n"}]
    assert newline["aAppend"] == 1
    assert len(events) == 2 * len(track.cues)


def test_automatic_srv3_times_words_within_their_line() -> None:
    body = formats.srv3(by_title("Counting Stars").tracks[0])
    assert '<s ac="' in body
    assert re.search(r'<s t="\d+" ac="\d+"> \w+</s>', body)
    assert 'a="1">\n</p>' in body


def test_subtitle_files_leave_blank_cues_out() -> None:
    track = by_title("Gaps and Pauses").tracks[0]
    for fmt in ("vtt", "srt"):
        assert formats.write(track, fmt).decode().count(" --> ") == len(track.segments())


def test_a_translation_is_marked_with_its_language() -> None:
    track = formats.translated(by_title("One Sentence").tracks[0], "fr", "French")
    assert [cue.text for cue in track.cues] == ["[fr] This is film number 40."]


def test_an_unknown_format_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        formats.write(by_title("One Sentence").tracks[0], "srv9")


@pytest.mark.parametrize("fmt", READERS)
def test_bodies_are_recognised_by_their_content(fmt: str) -> None:
    body = formats.write(by_title("Counting Stars").tracks[0], fmt)
    assert recordings.classify(body) == fmt
