"""SRT and WebVTT of everything there is, in five public readers, and the same words everywhere.

The last test goes the whole way: any captions, written as YouTube writes them in each of its
formats, read by each parser, written in each of ours, read by each reader.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator import formats as youtube
from simulator import panels
from simulator.catalogue import CATALOGUE
from tests.subtitle_readers import Cue, NodeReaders, Reading, node_readers, read_srt, read_vtt
from transcript_service.transcripts.captions import (
    Format,
    parse_captions,
    parse_get_panel,
    parse_get_transcript,
)
from transcript_service.transcripts.formats import FORMATS
from transcript_service.transcripts.model import Segment, Transcript
from transcript_service.transcripts.text import clean

_LAST_NUMBER = re.compile(r"(?:\n *\d+ *)+\Z")
RECORDINGS = Path(__file__).parents[3] / "shared" / "youtube-recordings"


@pytest.fixture(scope="module")
def node() -> Iterator[NodeReaders]:
    with node_readers() as readers:
        yield readers


def transcript(segments: list[Segment], language: str = "en") -> Transcript:
    return Transcript("a-B_9cD3eFg", "timedtext", language, "manual", tuple(segments))


def written(segments: list[Segment], fmt: str, language: str = "en") -> str:
    return FORMATS[fmt][1](transcript(segments, language), "").decode()


def words(text: str) -> str:
    """A text as it can be compared: a line that looks like a timing has other signs in files."""
    return " ".join(text.replace("-->", "\u2192").replace(":", "\u2236").split())


def assert_read_by_all(segments: list[Segment], node: NodeReaders | None) -> None:
    """Every reader finds every caption, visible, in order, one after the other."""
    vtt, srt = written(segments, "vtt"), written(segments, "srt")
    readings: list[Reading] = [read_srt(srt), read_vtt(vtt)]
    if node is not None:
        readings.append(node.read(vtt))
    ordered = sorted(segments, key=lambda segment: round(segment.start * 1000))
    for reading in readings:
        for reader, cues in reading.items():
            # pysubs2 takes numbers at the end of a text for the next cue's.
            end = _LAST_NUMBER if reader == "pysubs2" else re.compile(r"\Z")
            assert [(start, words(end.sub("", text))) for start, _, text in cues] == [
                (round(segment.start * 1000), words(end.sub("", segment.text)))
                for segment in ordered
            ], reader
            assert_shown_one_after_the_other(cues)


def assert_shown_one_after_the_other(cues: list[Cue]) -> None:
    assert all(end > start for start, end, _ in cues)
    starts = sorted({start for start, _, _ in cues})
    following = dict(pairwise(starts))
    assert all(end <= following.get(start, end) for start, end, _ in cues)


SIMULATED = [(video, track) for video in CATALOGUE.values() for track in video.tracks]


@pytest.mark.parametrize("fmt", ["srv1", "srv3", "json3"])
def test_a_simulated_track_is_the_same_in_every_format(fmt: Format) -> None:
    for video, track in SIMULATED:
        panel = json.dumps(panels.transcript_panel(video, track)).encode()
        assert parse_captions(youtube.write(track, fmt), fmt) == parse_get_transcript(panel)


def test_every_simulated_track_is_read_by_all_readers(node: NodeReaders) -> None:
    for video, track in SIMULATED:
        assert_read_by_all(parse_captions(youtube.write(track, "srv1"), "srv1"), node)
        panel = json.dumps(panels.modern_panel(video, track)).encode()
        assert_read_by_all(parse_get_panel(panel), None)


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="no recordings beside this checkout")
def test_every_recorded_transcript_is_read_by_all_readers(node: NodeReaders) -> None:
    for path in RECORDINGS.iterdir():
        if "srv1" in path.name or "json3" in path.name:
            fmt: Format = "srv1" if "srv1" in path.name else "json3"
            assert_read_by_all(parse_captions(path.read_bytes(), fmt), node)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2\n00:00:01,000 --> 00:00:09,000\ninjected", None),
        ("00:00:01,000 --> 00:00:09,000", None),
        ("at 00:00:01.000 and at 00:00:02.000", None),
        ("00:01.000 --> 00:02.000 line:0", None),
        ("1984\n00:00:07,000 she said", None),
        ("1984\n--> north", None),
        ("-3.5\n1:2:3 go", None),
        ("NOTE\nSTYLE\nWEBVTT", None),
        ("a\n\n\nb\r\n\r\nc\x0b\x0cd", "a\nb\nc\nd"),
        ("a\u2028\u2029\x85b", "a\nb"),
        ("a\x00b\x1bc\x7f", "abc"),
        ("<i>&amp;</i> &nbsp; --> &lt;", None),
        ("\ufeffWEBVTT", "WEBVTT"),
    ],
)
def test_no_text_ends_its_cue_or_begins_another(
    node: NodeReaders, text: str, shown: str | None
) -> None:
    body = json.dumps(
        {"events": [{"tStartMs": 0, "segs": [{"utf8": text}]},
                    {"tStartMs": 3000, "dDurationMs": 10, "segs": [{"utf8": "next"}]}]}
    ).encode()  # fmt: skip
    segments = parse_captions(body, "json3")
    assert [segment.text for segment in segments] == [text if shown is None else shown, "next"]
    assert_read_by_all(segments, node)


@pytest.mark.parametrize(
    "language", ["en\n\n00:00.000 --> 00:09.000\nhi", "en --> de", "en\rX: y", "", "e" * 99]
)
def test_no_language_injects_a_line(node: NodeReaders, language: str) -> None:
    file = written([Segment(1.0, 1.0, "hi")], "vtt", language)
    assert file == "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\nhi\n"
    assert node.read(file)["w3c"] == [(1000, 2000, "hi")]


@pytest.mark.parametrize(
    ("times", "shown"),
    [
        ([(1, 0), (5, 0), (9, 2)], [(1, 5), (5, 9), (9, 11)]),  # no lengths
        ([(1, 0), (600, 0)], [(1, 6), (600, 605)]),  # nor for ten minutes
        ([(0.32, 4.5), (2.4, 4.8), (5.1, 4)], [(0.32, 2.4), (2.4, 5.1), (5.1, 9.1)]),  # rolling
        ([(5, 1), (1, 2)], [(1, 3), (5, 6)]),  # in order
        ([(1, 3), (1, 2), (2, 1)], [(1, 2), (1, 2), (2, 3)]),  # two at once
        ([(1, 0.0004), (1.0004, 1)], [(1, 6), (1, 2)]),
    ],
)
def test_each_cue_is_visible_in_order_and_cut_where_the_next_begins(
    node: NodeReaders, times: list[tuple[float, float]], shown: list[tuple[float, float]]
) -> None:
    segments = [Segment(start, length, f"n{n}") for n, (start, length) in enumerate(times)]
    expected = [(round(start * 1000), round(end * 1000)) for start, end in shown]
    for cues in (*read_srt(written(segments, "srt")).values(),
                 *node.read(written(segments, "vtt")).values()):  # fmt: skip
        assert [(start, end) for start, end, _ in cues] == expected


@dataclass(frozen=True)
class Styled:
    """A run of a caption: its words, and how they look."""

    text: str
    tag: str = ""


@dataclass(frozen=True)
class Caption:
    """A caption as YouTube's editor keeps it."""

    start_ms: int
    duration_ms: int
    runs: tuple[Styled, ...]
    layers: int = 1

    @property
    def text(self) -> str:
        return "".join(run.text for run in self.runs)


def as_srv1(captions: list[Caption]) -> bytes:
    def marked_up(run: Styled) -> str:
        text = html.escape(run.text).replace("\n", "<br>" if run.tag else "\n")
        return f"<{run.tag} color='x'>{text}</{run.tag}>" if run.tag else text

    cues = "".join(
        f'<text start="{c.start_ms / 1000}" dur="{c.duration_ms / 1000}">'
        f"{escape(''.join(map(marked_up, c.runs)))}</text>"
        for c in captions for _ in range(c.layers)
    )  # fmt: skip
    return f'\n<?xml version="1.0" encoding="utf-8" ?><transcript>{cues}</transcript>'.encode()


def as_srv3(captions: list[Caption]) -> bytes:
    def marked_up(run: Styled) -> str:
        text = escape(run.text)
        return f"<s p='1'>{text.replace(chr(10), '<br/>')}</s>" if run.tag else text

    cues = "".join(
        f'<p t="{c.start_ms}" d="{c.duration_ms}">{"".join(map(marked_up, c.runs))}</p>'
        for c in captions for _ in range(c.layers)
    )  # fmt: skip
    return (
        f'<timedtext format="3"><head><pen id="1"/></head><body>{cues}</body></timedtext>'.encode()
    )


def as_json3(captions: list[Caption]) -> bytes:
    events = [
        {"tStartMs": c.start_ms, "dDurationMs": c.duration_ms,
         "segs": [{"utf8": run.text} for run in c.runs]}
        for c in captions for _ in range(c.layers)
    ]  # fmt: skip
    return json.dumps({"events": [{"tStartMs": 0, "id": 1}, *events]}).encode()


def as_get_transcript(captions: list[Caption]) -> bytes:
    return json.dumps(
        [
            {"transcriptSegmentRenderer": {
                "startMs": str(c.start_ms), "endMs": str(c.start_ms + c.duration_ms),
                "snippet": {"runs": [{"text": run.text} for run in c.runs]}}}
            for c in captions for _ in range(c.layers)
        ]
    ).encode()  # fmt: skip


def as_get_panel(captions: list[Caption]) -> bytes:
    return json.dumps(
        [
            {"transcriptSegmentViewModel": {
                "timestamp": f"{c.start_ms // 60_000}:{c.start_ms // 1000 % 60:02}",
                "simpleText": c.text}}
            for c in captions for _ in range(c.layers)
        ]
    ).encode()  # fmt: skip


# Whatever XML can carry, and more often what has a meaning in one of the formats.
_CHARACTERS = st.characters(
    exclude_categories=["Cs"], exclude_characters="\ufffe\uffff" + "".join(map(chr, range(32)))
) | st.sampled_from("<>&;#/\n\n  \t:,.-012\u200b\u200d\u2028\xa0\x85")
_WORDS = st.text(_CHARACTERS, max_size=12) | st.sampled_from(
    ["List<String>", "<div>", "</i>", "<br>", "&nbsp;", "&amp;lt;", "-->", "\n1\n",
     "00:00:01,000 --> 00:00:02.000", "\n\nNOTE x", "{\\an8}", "WEBVTT"]
)  # fmt: skip
_RUNS = st.builds(Styled, _WORDS, st.sampled_from(["", "", "i", "b", "font"]))
_CAPTIONS = st.lists(
    st.builds(
        Caption,
        st.integers(0, 7_200_000),
        st.integers(0, 20_000),
        st.lists(_RUNS, min_size=1, max_size=4).map(tuple),
        st.integers(1, 3),
    ),
    min_size=1, max_size=6, unique_by=lambda caption: caption.start_ms // 1000,
).filter(lambda captions: any(clean(caption.text) for caption in captions))  # fmt: skip


@given(_CAPTIONS)
def test_any_captions_are_the_same_words_by_every_way(
    node: NodeReaders, captions: list[Caption]
) -> None:
    segments = [
        Segment(c.start_ms / 1000, c.duration_ms / 1000, text)
        for c in sorted(captions, key=lambda caption: caption.start_ms)
        if (text := clean(c.text))
    ]
    assert parse_captions(as_srv1(captions), "srv1") == segments
    assert parse_captions(as_srv3(captions), "srv3") == segments
    assert parse_captions(as_json3(captions), "json3") == segments
    assert parse_get_transcript(as_get_transcript(captions)) == segments
    panel = parse_get_panel(as_get_panel(captions))
    assert [(s.start, s.text) for s in panel] == [(s.start // 1, s.text) for s in segments]
    lines = written(segments, "text").splitlines()
    assert lines == [" ".join(segment.text.split()) for segment in segments]
    assert json.loads(written(segments, "json"))["segments"] == [
        {"start": s.start, "duration": s.duration, "text": s.text} for s in segments
    ]
    assert_read_by_all(segments, node)
