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
    clock_seconds,
    parse_captions,
    parse_get_panel,
    parse_get_transcript,
    with_durations,
)
from transcript_service.transcripts.model import Segment, TranscriptError
from transcript_service.transcripts.text import clean

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
    ("end", "lasts"), [({"endMs": "560"}, 0.5), ({"endMs": "20"}, 0.0), ({}, 0.0)]
)
def test_a_line_of_a_panel_lasts_until_its_end_and_never_less_than_nothing(
    end: dict[str, str], lasts: float
) -> None:
    line = {"startMs": "60", **end, "snippet": {"simpleText": "line"}}
    body = orjson.dumps({"transcriptSegmentRenderer": line})
    assert parse_get_transcript(body) == [Segment(0.06, lasts, "line")]


def test_an_event_without_times_is_at_the_beginning_and_has_no_length() -> None:
    body = orjson.dumps({"events": [{"segs": [{"utf8": "line"}]}]})
    assert parse_captions(body, "json3") == [Segment(0.0, 0.0, "line")]


def test_half_of_a_surrogate_pair_costs_that_character_only() -> None:
    body = JSON3.replace(b"two", b"\\uD83D \\ud83d\\ude00")
    read = parse_captions(body, "json3")
    assert [segment.text for segment in read] == ["\ufffd 😀 words", "whole 🎬"]


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
        (b"<!-- without an end <html>", "parse_error"),
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


@pytest.mark.parametrize(
    ("clock", "start"),
    [
        ("0:05", 5), ("34:35", 2075), ("1:02:03", 3723), ("100:00:00", 360_000),
        ("4.48", 288), ("1.02.03", 3723), (" 4:48 ", 288), ("4\uff1a48", 288),
        ("۴:۴۸", 288), ("۱:۰۲:۰۳", 3723), ("٤:٤٨", 288), ("४:४८", 288), ("\u200f۴:۴۸\u200e", 288),
        ("", None), ("48", None), ("1:2:3:4", None), ("a:b", None), ("4:-8", None), ("4:²", None),
        ("1e3:00", None), (None, None), (4.48, None), ("9" * 30 + ":00", None), ("1:" * 5000, None),
    ],
)  # fmt: skip
def test_clocks_are_read_in_any_notation_and_script(clock: object, start: float | None) -> None:
    assert clock_seconds(clock) == start


@pytest.mark.parametrize(
    ("fmt", "good", "bad"),
    [
        ("srv1", '<text start="1" dur="2">kept</text>', '<text start="3" dur="">lost</text>'),
        ("srv1", '<text start="1" dur="2">kept</text>', '<text dur="1">lost</text>'),
        ("srv1", '<text start="1" dur="2">kept</text>', '<text start="1e9">lost</text>'),
        ("srv3", '<p t="1000" d="2000">kept</p>', '<p t="3000" d="">lost</p>'),
        ("srv3", '<p t="1000" d="2000">kept</p>', '<p t="x" d="1">lost</p>'),
    ],
)
@pytest.mark.parametrize("before", ["", "\n", " \r\n", "\ufeff", "\ufeff\n"])
def test_a_cue_that_cannot_be_placed_is_lost_and_not_its_file(
    fmt: Format, good: str, bad: str, before: str
) -> None:
    whole = {
        "srv1": "<transcript>{}</transcript>",
        "srv3": '<timedtext format="3"><body>{}</body></timedtext>',
    }[fmt]
    body = before + '<?xml version="1.0" encoding="utf-8" ?>' + whole.format(bad + good + bad)
    assert parse_captions(body.encode(), fmt) == [Segment(1.0, 2.0, "kept")]


def test_a_line_of_a_panel_without_a_clock_is_lost_and_not_the_panel() -> None:
    rows = [("0:01", "one"), ("?", "lost"), ("0:03", "two"), (None, "lost")]
    assert with_durations(rows) == [Segment(1.0, 2.0, "one"), Segment(3.0, 0.0, "two")]
    with pytest.raises(TranscriptError) as refusal:
        with_durations([("?", "lost")])
    assert refusal.value.error_type == "parse_error"


@pytest.mark.parametrize(
    ("inner", "text"),
    [
        # in XML: what it says
        ("one&lt;br&gt;two", "one\ntwo"),
        ("one&lt;br /&gt;two", "one\ntwo"),
        ("one&lt;BR&gt; two", "one\ntwo"),
        ("one<br/>two", "one\ntwo"),
        ("&lt;font color=&quot;#FFF&quot;&gt;a&lt;/font&gt;b", "ab"),
        ("&lt;c.yellow&gt;a&lt;/c&gt;&lt;v Ann&gt;b", "ab"),
        ("List&amp;lt;String&amp;gt;", "List<String>"),
        ("&amp;lt;br&amp;gt; breaks", "<br> breaks"),
        ("a &lt;bold&gt; move", "a <bold> move"),  # no tag of any caption
        ("1 &lt; 2 and 3 &gt; 2", "1 < 2 and 3 > 2"),
        ("&amp;amp;nbsp; is a space", "&nbsp; is a space"),
        ("a&amp;nbsp;b", "a\xa0b"),
        ("R&amp;D at AT&amp;T", "R&D at AT&T"),
        ("no &amp;notanentity; here", "no &notanentity; here"),
        ("&amp;#39;&amp;#x27;&amp;apos;", "'''"),
        ("&amp;#" + "9" * 5000 + ";", "&#" + "9" * 5000 + ";"),
    ],
)
def test_markup_goes_before_entities_are_read(inner: str, text: str) -> None:
    body = f'<transcript><text start="1" dur="2">{inner}</text></transcript>'.encode()
    assert parse_captions(body, "srv1") == [Segment(1.0, 2.0, text)]


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("\u200b\u200b \u200bInside the house\u200b \u200b", "Inside the house"),
        ("in\u200bside \u200b \u200bthe", "inside the"),
        ("\u200b", ""), ("\u200e\u200f \u2060\n\ufeff", ""),
        ("\u200fשלום\u200f", "\u200fשלום\u200f"),  # what turns the direction stays
        ("می\u200cخواهم", "می\u200cخواهم"),  # and what parts letters
        ("👩\u200d👧", "👩\u200d👧"),
        ("two  spaces", "two  spaces"),
        (" a \n\n \u200b \n b ", "a\nb"),
        ("\x1b[31mred\x07", "[31mred"),
    ],
)  # fmt: skip
def test_a_text_keeps_what_is_seen(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


def test_layers_of_one_caption_are_one_and_captions_come_in_order() -> None:
    layers = [(3000, "b"), (0, "a"), (0, "\u200ba\u200b"), (0, "a "), (3000, "b"), (0, "c")]
    events = [
        {"tStartMs": start, "dDurationMs": 1800, "segs": [{"utf8": text}]} for start, text in layers
    ]
    body = orjson.dumps({"events": events})
    assert [(s.start, s.text) for s in parse_captions(body, "json3")] == [
        (0.0, "a"), (0.0, "c"), (3.0, "b"),
    ]  # fmt: skip


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
