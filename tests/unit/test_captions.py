"""Caption bodies become segments or a classified error; nothing else comes out."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcript_service.telemetry.vocabulary import ERROR_TYPES
from transcript_service.transcripts.captions import (
    Format,
    parse_captions,
    parse_get_panel,
    parse_get_transcript,
)
from transcript_service.transcripts.model import Segment, TranscriptError

SRV1 = (
    b'<?xml version="1.0" encoding="utf-8" ?><transcript>'
    b'<text start="0.5" dur="1.25">it&amp;#39;s &lt;i&gt;here&lt;/i&gt;</text>'
    b'<text start="2" dur="1">\n</text>'
    b'<text start="3">1 &amp;lt; 2 <b>bold</b> end</text>'
    b"</transcript>"
)
SRV3 = (
    b'<?xml version="1.0" encoding="utf-8" ?><timedtext format="3"><head><pen id="0"/></head><body>'
    b'<w t="0" id="1"/><p t="320" d="1700" w="1"><s ac="255">two</s><s t="280"> words</s></p>'
    b'<p t="1750" d="10" w="1" a="1">\n</p><p t="4000" d="500">whole</p></body></timedtext>'
)
JSON3 = orjson.dumps(
    {
        "wireMagic": "pb3",
        "events": [
            {"tStartMs": 0, "dDurationMs": 9000, "id": 1, "wpWinPosId": 1},
            {
                "tStartMs": 320,
                "dDurationMs": 1700,
                "segs": [{"utf8": "two"}, {"utf8": " words", "tOffsetMs": 280}],
            },
            {"tStartMs": 1750, "dDurationMs": 10, "aAppend": 1, "segs": [{"utf8": "\n"}]},
            {"tStartMs": 4000, "dDurationMs": 500, "segs": [{"utf8": "whole 🎬"}]},
        ],
    }
)
TWO = [Segment(0.32, 1.7, "two words"), Segment(4.0, 0.5, "whole")]
GET_TRANSCRIPT = orjson.dumps(
    {
        "actions": [
            {
                "body": {
                    "transcriptSegmentListRenderer": {
                        "initialSegments": [
                            {"transcriptSectionHeaderRenderer": {"startMs": "0", "endMs": "9"}},
                            {
                                "transcriptSegmentRenderer": {
                                    "startMs": "60",
                                    "endMs": "3300",
                                    "snippet": {"runs": [{"text": "one "}, {"text": "line"}]},
                                }
                            },
                        ]
                    }
                }
            }
        ]
    }
)
OLD_CUES = orjson.dumps(
    {
        "cues": [
            {
                "transcriptCueRenderer": {
                    "cue": {"simpleText": "older"},
                    "startOffsetMs": "1000",
                    "durationMs": "500",
                }
            }
        ]
    }
)
GET_PANEL = orjson.dumps(
    {
        "contents": [
            {"transcriptSegmentViewModel": {"timestamp": "34:35", "simpleText": "first"}},
            {"transcriptSegmentViewModel": {"timestamp": "1:00:01", "simpleText": "second"}},
        ]
    }
)


@pytest.mark.parametrize(
    ("fmt", "body", "expected"),
    [
        (
            "srv1",
            SRV1,
            [Segment(0.5, 1.25, "it's here"), Segment(3.0, 0.0, "1 < 2 bold end")],
        ),
        ("srv3", SRV3, TWO),
        ("json3", JSON3, [TWO[0], Segment(4.0, 0.5, "whole 🎬")]),
    ],
)
def test_each_format_gives_one_segment_per_line(
    fmt: Format, body: bytes, expected: list[Segment]
) -> None:
    assert parse_captions(body, fmt) == expected
    assert parse_captions(b"\xef\xbb\xbf" + body, fmt) == expected  # with a byte order mark


def test_panel_answers_give_the_same_kind_of_segments() -> None:
    assert parse_get_transcript(GET_TRANSCRIPT) == [Segment(0.06, 3.24, "one line")]
    assert parse_get_transcript(OLD_CUES) == [Segment(1.0, 0.5, "older")]
    # The modern panel has no ends: a line lasts until the next, the last one is open.
    assert parse_get_panel(GET_PANEL) == [
        Segment(2075.0, 1526.0, "first"),
        Segment(3601.0, 0.0, "second"),
    ]


@pytest.mark.parametrize(
    ("body", "error_type"),
    [
        (b"", "empty_body"),
        (b"  \n", "empty_body"),
        (b"<transcript></transcript>", "empty_body"),
        (b'<transcript><text start="1"> \n </text></transcript>', "empty_body"),
        (b"<!DOCTYPE html><html><body>hello</body></html>", "html_body"),
        (b"\n<HTML lang=en>", "html_body"),
        (b"\n<!-- served by x -->\n<!DOCTYPE html>", "html_body"),
        (b"<?XML version='1.0'?> <!--- a - b --> <!----><html>", "html_body"),
        (b'<html><form action="https://consent.youtube.com/save">', "consent_required"),
        (b'<html><div class="g-recaptcha">', "ip_blocked"),
        (SRV1[:90], "parse_error"),
        (SRV3, "parse_error"),
        (JSON3, "parse_error"),
        (b"WEBVTT\n\n00:01.000 --> 00:02.000\nhi", "parse_error"),
        (b'<transcript><text dur="1">no start</text></transcript>', "parse_error"),
        (b'<transcript><text start="nan">x</text></transcript>', "parse_error"),
        (b'<transcript><text start="1e999">x</text></transcript>', "parse_error"),
        (b'<!DOCTYPE t [<!ENTITY a "b">]><transcript><text start="1">&a;</text></transcript>',
         "parse_error"),
        (b'<?xml version="1.0" encoding="no-such"?><transcript/>', "parse_error"),
        (b"<transcript>" + b"<text>" * 5000, "parse_error"),
    ],
)  # fmt: skip
def test_what_is_no_caption_file_is_classified_and_never_a_transcript(
    body: bytes, error_type: str
) -> None:
    with pytest.raises(TranscriptError) as refusal:
        parse_captions(body, "srv1")
    assert refusal.value.error_type == error_type
    assert "hello" not in str(refusal.value)


def test_raw_json_never_becomes_text() -> None:
    for body in (b'{"unexpected": "shape"}', b"[1, 2]", b'{"events": {}}', b"{" * 100_000):
        with pytest.raises(TranscriptError):
            parse_captions(body, "json3")
        with pytest.raises(TranscriptError):
            parse_get_transcript(body)
        with pytest.raises(TranscriptError):
            parse_get_panel(body)


PARSERS: list[tuple[bytes, Callable[[bytes], list[Segment]]]] = [
    (SRV1, lambda body: parse_captions(body, "srv1")),
    (SRV3, lambda body: parse_captions(body, "srv3")),
    (JSON3, lambda body: parse_captions(body, "json3")),
    (GET_TRANSCRIPT, parse_get_transcript),
    (OLD_CUES, parse_get_transcript),
    (GET_PANEL, parse_get_panel),
]


@given(st.data())
def test_a_damaged_body_is_a_transcript_or_a_classified_error(data: st.DataObject) -> None:
    body, parse = data.draw(st.sampled_from(PARSERS))
    damaged = bytearray(body[: data.draw(st.integers(0, len(body)))])
    for _ in range(data.draw(st.integers(0, 6))):
        if damaged:
            place = data.draw(st.integers(0, len(damaged) - 1))
            damaged[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=6))
    try:
        segments = parse(bytes(damaged))
    except TranscriptError as error:
        assert error.error_type in ERROR_TYPES
    else:
        assert segments
        assert all(segment.text.strip() and segment.start >= 0 for segment in segments)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["events", "segs", "utf8", "tStartMs", "transcriptSegmentRenderer", "snippet",
                     "runs", "text", "startMs", "endMs", "transcriptSegmentViewModel", "timestamp"]
                ),
                inner,
                max_size=5,
            )
        ),
        max_leaves=40,
    )
)  # fmt: skip
def test_any_json_at_all_is_survived(document: object) -> None:
    body = orjson.dumps(document)
    for _, parse in PARSERS[2:]:
        try:
            assert parse(body)
        except TranscriptError as error:
            assert error.error_type in ERROR_TYPES
