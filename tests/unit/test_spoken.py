"""What speech servers answer: repaired where that is safe, refused with a reason elsewhere."""

from __future__ import annotations

import json
import wave
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import HttpUrl

from tests.speech_server import speech_server
from transcript_service.resilience import Deadline
from transcript_service.settings import Settings
from transcript_service.transcripts.model import TranscriptError
from transcript_service.transcripts.speech import (
    EndpointEngine,
    read_verbose_json,
    whisper_language,
)

SOUND_S = 12.0


def said(start: Any, end: Any, text: Any) -> dict[str, Any]:
    return {"start": start, "end": end, "text": text}


TWO = [(0.5, 1.5, "hello"), (3.0, 1.0, "again")]


def heard(answer: Any, sound_s: float = SOUND_S) -> list[tuple[float, float, str]]:
    spoken = read_verbose_json(json.dumps(answer).encode(), "en", sound_s)
    return [(s.start, s.duration, s.text) for s in spoken.segments]


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ([said(0.5, 2, " hello "), said(3, 4, "again")], TWO),
        ([said("0.5", "2", "hello"), said("3", "4", "again")], TWO),
        ([said(500_000_000, 2 * 10**9, "hello"), said(3 * 10**9, 4 * 10**9, "again")], TWO),
        ([said(3, 4, "again"), said(0.5, 2, "hello")], TWO),  # unsorted
        ([said(0.5, 2, "hello"), said(3, 4, "again"), said(3, 4, "again")], TWO),
        (
            [said(0.5, 2, "hello"), said(2, 3, None), said(2, 3, " \u200b"), said(3, 4, "again")],
            TWO,
        ),
        ([said(0.5, 2, "hello"), said(None, None, ""), said(3, 4, "again")], TWO),
        ([said(0.5, 2, "hello"), 7, None, said(3, 4, "again")], TWO),
        ([said(0.5, None, "a"), said(3, None, "b")], [(0.5, 2.5, "a"), (3.0, 9.0, "b")]),
        ([said(0.5, float("nan"), "a"), said(3, 4, "b")], [(0.5, 2.5, "a"), (3.0, 1.0, "b")]),
        ([said(3, 1, "a"), said(5, 6, "b")], [(3.0, 2.0, "a"), (5.0, 1.0, "b")]),
        ([said(-1, 2, "a")], [(0.0, 2.0, "a")]),
        ([said(11, 30, "a")], [(11.0, 1.0, "a")]),  # the last window is filled with silence
        ([], []),
    ],
)
def test_segments_are_put_right(segments: Any, expected: list[tuple[float, float, str]]) -> None:
    assert heard({"segments": segments}) == expected


def test_numbers_that_are_none_do_no_harm_where_nobody_needs_them() -> None:
    body = b'{"segments": [{"start": 0.5, "end": 2, "text": "hello", "avg_logprob": NaN}]}'
    assert [s.text for s in read_verbose_json(body, None, SOUND_S).segments] == ["hello"]


def test_a_short_text_without_segments_was_said_in_the_whole_sound() -> None:
    assert heard({"text": " hello "}) == [(0.0, SOUND_S, "hello")]
    assert heard({"text": "hello", "segments": []}) == [(0.0, SOUND_S, "hello")]
    assert heard({"text": " "}) == []


@pytest.mark.parametrize(
    ("answer", "sound_s", "reason"),
    [
        ({"text": "an hour of words"}, 3600.0, "a text without times"),
        ({"segments": [said(None, 2, "a")]}, SOUND_S, "segments without times"),
        ({"segments": [said(float("nan"), 2, "a")]}, SOUND_S, "segments without times"),
        ({"segments": [said({}, 2, "a")]}, SOUND_S, "segments without times"),
        ({"segments": [said(0, 2, "a"), said(500, 4200, "b")]}, SOUND_S, "after the end"),
        ({"segments": [said(10**13, 10**13, "b")]}, SOUND_S, "after the end"),
        ([1, 2], SOUND_S, "no object"),
        (None, SOUND_S, "no object"),
    ],
)
def test_what_cannot_be_put_right_is_refused_with_the_reason(
    answer: Any, sound_s: float, reason: str
) -> None:
    with pytest.raises(TranscriptError, match=reason) as refusal:
        heard(answer, sound_s)
    assert refusal.value.error_type == "asr_unavailable"


@pytest.mark.parametrize("body", [b"", b"words", b'{"segments": [', b"[" * 100_000, b"\xff"])
def test_a_damaged_answer_is_refused(body: bytes) -> None:
    with pytest.raises(TranscriptError, match="is damaged"):
        read_verbose_json(body, None, SOUND_S)


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("english", "en"),
        ("German", "de"),
        ("haitian creole", "ht"),
        ("de", "de"),
        ("pt-BR", "pt"),
        ("iw", "he"),
        ("castilian", "es"),
        ("xx", "xx"),
        ("klingon", "fr"),
        (None, "fr"),
        (7, "fr"),
        ("", "fr"),
        ("e\nn", "fr"),
    ],
)
def test_the_language_is_a_code_whatever_the_server_calls_it(language: Any, code: str) -> None:
    body = json.dumps({"language": language, "segments": []}).encode()
    assert read_verbose_json(body, "fr", SOUND_S).language == code


@pytest.mark.parametrize(
    ("tag", "code"),
    [("en-GB", "en"), ("zh-TW", "zh"), ("nb", "no"), ("fil", "tl"), ("iw", "he"), ("in", "id"),
     ("jv", "jw"), ("tlh", None), ("nonsense", None)],
)  # fmt: skip
def test_whisper_is_asked_in_its_own_codes(tag: str, code: str | None) -> None:
    assert whisper_language(tag) == code


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["segments", "text", "start", "end", "language"]), inner, max_size=5
            )
        ),
        max_leaves=30,
    )
)
def test_whatever_is_answered_stays_within_the_sound_or_is_refused(answer: Any) -> None:
    try:
        spoken = read_verbose_json(json.dumps(answer).encode(), None, SOUND_S)
    except TranscriptError as error:
        assert error.error_type == "asr_unavailable"
        return
    starts = [segment.start for segment in spoken.segments]
    assert starts == sorted(starts)
    assert all(0 <= s.start <= SOUND_S + 30 and 0 <= s.duration <= SOUND_S for s in spoken.segments)


@pytest.mark.parametrize(
    "unread", [(400, b"{}"), (415, b""), (200, b'{"error": "failed to read"}')]
)
def test_a_server_that_reads_only_wav_gets_wav(unread: tuple[int, bytes]) -> None:
    with speech_server() as server:
        server.reads, server.unread = ".wav", unread
        server.body = json.dumps({"segments": [said(0, 1, "hello")]}).encode()
        engine = EndpointEngine(Settings(asr_endpoint=HttpUrl(server.url)))
        spoken = engine.recognise(iter([bytes(64_000)]), "nb", Deadline(20))
        assert [segment.text for segment in spoken.segments] == ["hello"]
        assert server.seen["language"] == b"no"
        with wave.open(BytesIO(server.seen["file"])) as sound:
            assert (sound.getframerate(), sound.getnframes()) == (16_000, 32_000)
        server.reads = ".mp3"
        with pytest.raises(TranscriptError, match="The speech endpoint") as refusal:
            engine.recognise(iter([bytes(6400)]), None, Deadline(20))
        assert refusal.value.error_type == "asr_unavailable"
