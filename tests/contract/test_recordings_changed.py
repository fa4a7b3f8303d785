"""Recordings that are not quite the known ones: other order, other languages, less, more.

YouTube changes its answers all the time; what a client relies on must be no more than the
recordings' MANIFEST says. Every change here leaves the meaning as it is (or changes it in a
way that is stated), so the result must be what it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from html import escape
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator import recordings
from simulator.testing import RunningSimulator, running_simulator
from tests.contract.test_recordings import (
    EXPECTED,
    FOLDER,
    PAGES,
    PLAYERS,
    TRANSCRIPTS,
    player_of,
)
from transcript_service.proxies import JobProxy, ProxyPool
from transcript_service.resilience import Deadline
from transcript_service.settings import Settings
from transcript_service.telemetry.vocabulary import ERROR_TYPES
from transcript_service.transcripts.captions import parse_captions, parse_get_transcript
from transcript_service.transcripts.model import Segment, Track, TranscriptError
from transcript_service.transcripts.player import check_watch_page
from transcript_service.transcripts.stages.base import Job
from transcript_service.transcripts.stages.timedtext import TimedtextStage
from transcript_service.transcripts.stages.youtube_api import YouTubeApiStage
from transcript_service.transcripts.wanted import Wanted

JSON3 = next(name for name in TRANSCRIPTS if name.endswith(".json"))
SRV1 = next(name for name in TRANSCRIPTS if name.endswith(".xml"))
# All that a reader of these answers may need; everything else may be missing.
NEEDED = {
    "events", "segs", "utf8", "tStartMs", "dDurationMs", "playabilityStatus", "status", "reason",
    "captions", "playerCaptionsTracklistRenderer", "captionTracks", "baseUrl", "languageCode",
    "kind", "name", "runs", "text", "simpleText", "desktopLegacyAgeGateReason", "videoDetails",
    "videoId", "isTranslatable",
}  # fmt: skip


def body_of(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def rebuilt(node: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """The same JSON with every object changed."""
    if isinstance(node, dict):
        return change({key: rebuilt(value, change) for key, value in node.items()})
    if isinstance(node, list):
        return [rebuilt(item, change) for item in node]
    return node


def _backwards(node: dict[str, Any]) -> dict[str, Any]:
    return dict(reversed(node.items()))


def _more(node: dict[str, Any]) -> dict[str, Any]:
    new = {"text": "no caption", "transcriptNote": None, "segs2": [{"utf8": "no caption"}], "n": 1}
    return {"newField": new, **node, "x2027": [new, 0.5, True]}


def _less(node: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key in NEEDED}


def _json(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[bytes], bytes]:
    return lambda body: orjson.dumps(rebuilt(orjson.loads(body), change))


SAME_JSON: dict[str, Callable[[bytes], bytes]] = {
    "keys backwards": _json(_backwards),
    "unknown fields": _json(_more),
    "optional fields missing": _json(_less),
    "a byte order mark": lambda body: b"\xef\xbb\xbf" + body,
    "space around it": lambda body: b"\r\n\t " + body + b"\n\n",
    "escaped and indented": lambda body: json.dumps(json.loads(body), indent=3).encode(),
}


def read_player(body: bytes) -> list[Track]:
    return list(player_of(body).captions())


def reading(parse: Callable[[bytes], list[Any]], body: bytes) -> list[Any] | str:
    """What is read, or the class of the refusal."""
    try:
        return parse(body)
    except TranscriptError as error:
        return error.error_type


@pytest.mark.parametrize("change", SAME_JSON)
@pytest.mark.parametrize("name", [*PLAYERS, JSON3])
def test_what_an_answer_does_not_mean_by_may_change(name: str, change: str) -> None:
    def parse(body: bytes) -> list[Segment] | list[Track]:
        return parse_captions(body, "json3") if name == JSON3 else read_player(body)

    before = reading(parse, body_of(name))
    assert reading(parse, SAME_JSON[change](body_of(name))) == before


LINES = parse_captions(body_of(JSON3), "json3")
# The same words at the same time are one caption, however often they are listed.
AT_ONCE = list(dict.fromkeys(Segment(0.0, line.duration, line.text) for line in LINES))


def events(*more: dict[str, Any], change: Callable[[dict[str, Any]], Any] = lambda e: e) -> bytes:
    """The recorded events, changed one by one, with others between them."""
    document = json.loads(body_of(JSON3))
    document["events"] = [item for e in document["events"] for item in (*more, change(dict(e)))]
    return orjson.dumps(document)


def spoken(text: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda event: {**event, "segs": [{"utf8": text}]}


def without(key: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda event: {k: v for k, v in event.items() if k != key}


@pytest.mark.parametrize(
    "more",
    [
        {"tStartMs": 0, "dDurationMs": 9000, "id": 1, "wpWinPosId": 1, "wsWinStyleId": 1},
        {"tStartMs": 5, "dDurationMs": 10, "wWinId": 1, "aAppend": 1, "segs": [{"utf8": "\n"}]},
        {"tStartMs": 5, "segs": []},
        {"tStartMs": 5, "segs": [{"utf8": " "}, {"utf8": "\n\t\u00a0"}]},
        {"tStartMs": 5, "segs": [{"pPenId": 1}, {}]},
        {"tStartMs": 5, "segs": None},
        {"pPenId": 1},
        {},
    ],
)
def test_events_that_say_nothing_are_no_segments(more: dict[str, Any]) -> None:
    assert parse_captions(events(more), "json3") == LINES


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda e: {**e, "dDurationMs": 0}, [Segment(s.start, 0.0, s.text) for s in LINES]),
        (without("dDurationMs"), [Segment(s.start, 0.0, s.text) for s in LINES]),
        (without("tStartMs"), AT_ONCE),
        (lambda e: {**e, "tStartMs": -40}, AT_ONCE),
        (lambda e: {**e, "tStartMs": str(e["tStartMs"])}, LINES),
        # An append event that says something is a line like any other.
        (lambda e: {**e, "aAppend": 1}, LINES),
        # Word by word, as automatic captions come.
        (
            lambda e: {
                **e,
                "segs": [
                    {"utf8": word, "tOffsetMs": 10 * n, "acAsrConf": 200}
                    for n, word in enumerate(re.split(r"(?<=\s)", e["segs"][0]["utf8"]))
                ],
            },
            LINES,
        ),
        *(
            (spoken(text), [Segment(s.start, s.duration, text) for s in LINES])
            for text in (
                "مرحبا بالعالم",
                "\u200fשלום\u200f",
                "ご視聴ありがとう\nございました",
                "👩‍👩‍👧 e\u0301",
                "&amp; &#39; <i>as written</i>",  # json3 is escaped once, by JSON
                "x" * 100_000,
            )
        ),
        (spoken("cut \ud83d".encode("utf-16", "surrogatepass").decode("utf-16", "replace")),
         [Segment(s.start, s.duration, "cut \ufffd") for s in LINES]),
    ],
)  # fmt: skip
def test_unusual_events_are_read_by_the_rule(
    change: Callable[[dict[str, Any]], Any], expected: list[Segment]
) -> None:
    assert parse_captions(events(change=change), "json3") == expected


def test_half_a_character_where_a_text_was_cut_costs_that_character_only() -> None:
    body = body_of(JSON3).replace(LINES[0].text[:2].encode(), b"\\uD83D \\ud83d\\ude00 ", 1)
    read = parse_captions(body, "json3")
    assert read[1:] == LINES[1:]
    assert read[0].text.startswith("\ufffd 😀 ")
    orjson.dumps(read[0].text)  # can be answered
    assert read_player(
        body_of("yta-player-GJLlxj_dtq8.json").replace(b'"Chinese"', b'"Chin\\udc00"', 1)
        if "yta-player-GJLlxj_dtq8.json" in EXPECTED
        else pytest.skip("that recording is not there")
    )[0].name.startswith("Chin\ufffd")


XML_LINES = parse_captions(body_of(SRV1), "srv1")


def srv1(change: Callable[[str, str], str]) -> bytes:
    """The recorded file, each element changed by its attributes and its escaped text."""
    text = body_of(SRV1).decode()
    return re.sub(r"<text([^>]*)>(.*?)</text>", lambda m: change(m[1], m[2]), text).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda attrs, text: f"<text{attrs}>\n</text><text{attrs}/><text{attrs}>{text}</text>",
        lambda attrs, text: f'<text p="1" x:y="2"{attrs}>{text}</text>'.replace("x:y", "new"),
        lambda attrs, text: f"<!-- a comment --><text{attrs}>{text}</text>\n",
        lambda attrs, text: f"<text{attrs}><font color='#fff'>{text}</font></text>",
        lambda attrs, text: f"<text{attrs}>&lt;font color=&quot;#E5E5E5&quot;&gt;{text}"
        "&lt;/font&gt;&lt;br/&gt;</text>",
        lambda attrs, text: f"<text{attrs}>" + "".join(
            f"&#{ord(c)};" if c.isalpha() and n % 2 else c
            for n, c in enumerate(re.sub(r"&amp;#39;", "'", text))
        ) + "</text>" if "&" not in re.sub(r"&amp;#39;", "", text)
        else f"<text{attrs}>{text}</text>",
        lambda attrs, text: f"<text {' '.join(reversed(attrs.split()))}>{text}</text>"
        if attrs.count(" ") == 2 else f"<text{attrs}>{text}</text>",
    ],
)  # fmt: skip
def test_other_ways_to_write_the_same_xml(change: Callable[[str, str], str]) -> None:
    body = srv1(change)
    assert body != body_of(SRV1)
    assert parse_captions(body, "srv1") == XML_LINES


@pytest.mark.parametrize(
    ("inside", "text"),
    [
        ("it&amp;#39;s &amp;quot;so&amp;quot;", 'it\'s "so"'),
        ("&lt;i&gt;leaning&lt;/i&gt;", "leaning"),
        ("&amp;lt;i&amp;gt;said&amp;lt;/i&amp;gt;", "<i>said</i>"),
        ("1 &amp;lt; 2, I &amp;lt;3 it", "1 < 2, I <3 it"),
        ("<![CDATA[Salt & Pepper]]>", "Salt & Pepper"),
        ("مرحبا &amp;amp; أهلا", "مرحبا & أهلا"),
        ("two\nlines", "two\nlines"),
        (escape("🎬 &amp; более"), "🎬 & более"),
    ],
)
def test_what_stands_in_an_element_is_read_once_more(inside: str, text: str) -> None:
    body = srv1(lambda attrs, _: f"<text{attrs}>{inside}</text>")
    expected = [Segment(line.start, line.duration, text) for line in XML_LINES]
    assert parse_captions(body, "srv1") == expected
    no_duration = re.sub(rb' dur="[^"]*"', b"", body)
    assert {line.duration for line in parse_captions(no_duration, "srv1")} == {0.0}


def test_panel_rows_without_what_is_zero() -> None:
    rows = [
        {"snippet": {"runs": [{"text": "one"}]}, "endMs": "900"},
        {"startMs": "900", "endMs": "400", "snippet": {"runs": [{"text": "a "}, {"text": "b"}]}},
        {"startMs": "1000", "snippet": {"simpleText": "three"}},
    ]
    body = orjson.dumps({"actions": [{"transcriptSegmentRenderer": row} for row in rows]})
    assert parse_get_transcript(body) == [
        Segment(0.0, 0.9, "one"), Segment(0.9, 0.0, "a b"), Segment(1.0, 0.0, "three"),
    ]  # fmt: skip


BLOCKED = [n for n in PLAYERS if EXPECTED[n]["must_classify_as"] == "request_blocked"]
AGED = [n for n in PLAYERS if EXPECTED[n]["must_classify_as"] == "age_restricted"]


@pytest.mark.parametrize(
    "reason",
    [
        "Melde dich an, um zu bestätigen, dass du kein Bot bist",
        "Inicia sesión para confirmar que no eres un bot",
        "Connectez-vous pour confirmer que vous n'êtes pas un robot",
        "Войдите в аккаунт, чтобы подтвердить, что вы не бот",
        "ロボットではないことを確認するためにログインしてください",
        "请登录以确认你不是机器人",
        "سجِّل الدخول للتأكّد من أنّك لست برنامج روبوت",
    ],
)
@pytest.mark.parametrize("name", BLOCKED)
def test_a_bot_check_is_one_in_every_language(name: str, reason: str) -> None:
    answer = json.loads(body_of(name))
    status = answer["playabilityStatus"]
    status["reason"] = reason
    assert reading(read_player, orjson.dumps(answer)) == "request_blocked"  # by its link
    status["errorScreen"] = {}
    assert reading(read_player, orjson.dumps(answer)) == "request_blocked"  # by its words
    # Said of the video's owner, the word is none.
    gone = {"status": "ERROR", "reason": "Removed: a claim of Bot & Robot Inc."}
    answer["playabilityStatus"] = gone
    assert reading(read_player, orjson.dumps(answer)) == "video_unavailable"


@pytest.mark.parametrize("name", [*BLOCKED, *AGED])
@pytest.mark.parametrize("missing", ["reason", "errorScreen", "contextParams", "videoDetails"])
def test_a_refusal_keeps_its_class_with_a_part_of_its_reasons(name: str, missing: str) -> None:
    answer = json.loads(body_of(name))
    answer["playabilityStatus"].pop(missing, None)
    answer.pop(missing, None)
    assert reading(read_player, orjson.dumps(answer)) == EXPECTED[name]["must_classify_as"]


def _page(name: str) -> Callable[[bytes], list[None]]:
    def parse(body: bytes) -> list[None]:
        check_watch_page(body)
        return []

    return parse


@pytest.mark.parametrize(
    "change",
    [
        lambda body: b"\n<!-- served by x -->\n" + body,
        lambda body: body.replace(b'lang="de"', b'lang="ar" dir="rtl"'),
        lambda body: body.replace(b'class="g-recaptcha"', b"class='box g-recaptcha'"),
        lambda body: body.replace(b'action="https://consent.youtube.com/s"',
                                  b"action='https://consent.youtube.com/save'"),
        lambda body: body.replace(b"<form", b'<form id="f1" novalidate'),
        lambda body: body + b"<!--" + b" " * 3_000_000 + b"-->",
        lambda body: body.replace(b'"INNERTUBE_API_KEY":', b'"INNERTUBE_API_KEY" : ')
        if b"INNERTUBE" not in body else body,
        # A film about captchas and consent: words in its description are only words.
        lambda body: body.replace(
            b"</body>",
            b"""<p>class="g-recaptcha" action="https://consent.youtube.com/s"</p></body>""")
        if b'"INNERTUBE_API_KEY"' in body else body,
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_known_by_its_meaning(name: str, change: Callable[[bytes], bytes]) -> None:
    wanted = EXPECTED[name]["must_classify_as"]
    found = reading(_page(name), change(body_of(name)))
    assert found == ([] if wanted == "ok" else wanted)
    # In place of data it is refused for what it is, never read.
    in_place = reading(lambda body: parse_captions(body, "srv1"), change(body_of(name)))
    assert in_place == ("html_body" if wanted == "ok" else wanted)


@pytest.mark.parametrize("name", [*PLAYERS, *TRANSCRIPTS])
@settings(suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_half_a_recording_is_refused_or_read_and_never_taken_for_an_answer(
    name: str, data: st.DataObject
) -> None:
    whole = body_of(name)
    body = whole[: data.draw(st.integers(0, len(whole) - 1))]
    if name in PLAYERS:
        found = reading(read_player, body)
    else:
        found = reading(lambda b: parse_captions(b, "json3" if name == JSON3 else "srv1"), body)
    if body.strip() != whole.strip():
        assert found in ("parse_error", "empty_body")


@pytest.mark.parametrize("name", PLAYERS)
@settings(suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_strange_player_answer_is_classified_and_can_be_served(
    name: str, data: st.DataObject
) -> None:
    answer = json.loads(body_of(name))
    node: Any = answer
    path = ["playabilityStatus", "captions", "videoDetails", "streamingData"]
    key = data.draw(st.sampled_from([k for k in path if k in answer]))
    while isinstance(node[key], dict) and node[key] and data.draw(st.booleans()):
        node = node[key]
        key = data.draw(st.sampled_from(sorted(node)))
    node[key] = data.draw(st.sampled_from([None, [], {}, "", 7, True, "text", [None], {"a": 1}]))
    body = orjson.dumps(answer)
    found = reading(read_player, body)
    if isinstance(found, str):
        assert found in ERROR_TYPES
        if EXPECTED[name]["must_classify_as"] == "request_blocked":
            assert found != "transcripts_disabled"
    kind = recordings.classify(body)
    if kind is not None:
        recordings._add(recordings.Recordings(), recordings.Recording(kind, "strange", body))


# Through the simulator's recordings folder and the stages, as `name -> (body, its lines)`.
SERVED: dict[str, tuple[bytes, list[Segment]]] = {
    "events": (
        events({"tStartMs": 0, "id": 1}, {"aAppend": 1, "segs": [{"utf8": "\n"}]}),
        LINES,
    ),
    "rtl": (
        events(change=spoken("\u200fשלום עולם")),
        [Segment(s.start, s.duration, "\u200fשלום עולם") for s in LINES],
    ),
    "marked": (b"\xef\xbb\xbf" + body_of(SRV1), XML_LINES),
    "tags": (
        srv1(lambda attrs, text: f"<text{attrs}>&lt;b&gt;{text}&lt;/b&gt;</text>"),
        XML_LINES,
    ),
    "strange consent": (
        b"<!doctype html><html><form action='https://consent.google.de/save'></form></html>",
        [],
    ),
    "instant": (
        re.sub(rb' dur="[^"]*"', b"", body_of(SRV1)),
        [Segment(s.start, 0.0, s.text) for s in XML_LINES],
    ),
}


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    folder = tmp_path_factory.mktemp("recordings")
    for name, (body, _) in SERVED.items():
        (folder / name).write_bytes(body)
    (folder / "strange").write_text('{"playabilityStatus": 7, "captions": [1], "videoDetails": 2}')
    with running_simulator(tmp_path_factory.mktemp("sim"), recordings_folder=folder) as running:
        yield running


@pytest.mark.parametrize("stage", [YouTubeApiStage, TimedtextStage])
@pytest.mark.parametrize("name", SERVED)
def test_the_stages_deliver_changed_recordings(
    simulator: RunningSimulator, name: str, stage: type[YouTubeApiStage] | type[TimedtextStage]
) -> None:
    video = next(v.id for v in simulator.state.videos() if v.recording == name)
    to_it = Settings(youtube_resolve_to=simulator.resolve_to, youtube_ca_file=simulator.ca_file)
    job = Job(Wanted(video), Deadline(60), JobProxy(ProxyPool([]), "test", None))
    wanted = SERVED[name][1]
    if not wanted and stage is YouTubeApiStage:
        assert reading(lambda _: list(stage(to_it).fetch(job).segments), b"") == "consent_required"
        return
    fetched = stage(to_it).fetch(job).segments
    wanted = wanted or list(fetched)
    assert [" ".join(s.text.split()) for s in fetched] == [" ".join(s.text.split()) for s in wanted]
    for got, line in zip(fetched, wanted, strict=True):
        assert got.start == pytest.approx(line.start, abs=0.0011)
        assert got.duration == pytest.approx(line.duration, abs=0.0011)


def test_a_page_of_comments_is_read_in_no_time() -> None:
    assert reading(_page(""), b"<!-- -->" * 50_000) == "html_body"
    body = b"<!-- -->" * 50_000 + b"<transcript/>"
    assert reading(lambda data: parse_captions(data, "srv1"), body) == "parse_error"


def test_a_strange_recording_keeps_no_other_from_being_served(simulator: RunningSimulator) -> None:
    assert {video.recording for video in simulator.state.videos()} >= {"strange", *SERVED}
