"""Secrets do not survive masking, harmless text does, and hostile text costs little."""

from __future__ import annotations

import random
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import canaries
from transcript_service.telemetry import redaction
from transcript_service.telemetry.redaction import (
    MASK,
    MAX_TEXT,
    count_masks,
    is_secret_key,
    redact_mapping,
    redact_text,
    redact_value,
    register_environment,
    register_secrets,
)

HARMLESS = (
    "",
    "The stage timed out after 4.2 s.",
    "transcript_service/transcripts/pipeline.py:88",
    "4bf92f3577b34da6a3ce929d0e0e4736",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "https://www.youtube.com/watch?v=dQw4w9WgXcQ",
    "https://www.youtube.com/api/timedtext?v=dQw4w9WgXcQ&lang=en&fmt=json3",
    "GET /api/transcripts/<path:video>",
    "http://127.0.0.1:4318/v1/traces",
    "listening on 0.0.0.0:5000",
    "connected to [::1]:5000",
    "12:30:45 - 13:00:00",
    "Chrome/131.0.0.0 Safari/537.36",
    "version 1.45.1",
    "/usr/lib/python3.11/site-packages/opentelemetry/instrumentation/flask/__init__.py",
    "ThisIsAQuiteLongCamelCaseClassNameForTestsOnly",
    "dQw4w9WgXcQ",
    "ratio=0.5 attempts=3",
    "2026-11-24T18:50:15.091558Z",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "Keyboard: basic understanding of tokens",
    "token bucket is empty",
    "the key is under the mat",
    "Ein Satz — mit “Anführungszeichen”, 日本語 und 🎬.",
    "application/json; charset=utf-8",
    "up 3 days, 2:01, load average: 0.10, 0.20, 0.30",
)


@pytest.mark.parametrize("form", canaries.FORMS)
def test_a_secret_does_not_survive(form: str) -> None:
    canary = canaries.build(7)
    clean = redact_text(form.format(c=canary))
    assert canaries.PREFIX not in clean
    assert MASK in clean


@pytest.mark.parametrize("form", canaries.FORMS)
def test_a_secret_does_not_survive_in_the_middle_of_a_page_of_text(form: str) -> None:
    text = "line of text\n" * 50 + form.format(c=canaries.build(8)) + "\nmore text" * 50
    assert canaries.PREFIX not in redact_text(text)


@pytest.mark.parametrize("text", ["Ba\u017fic QWxhZGRpbjpvcGVu", "Coo\u212aie: SID=abc; HSID=def"])
def test_letters_that_stand_for_others_hide_no_word(text: str) -> None:
    """A long s and the sign of Kelvin are an s and a k to a pattern that ignores case."""
    assert redact_text(text).endswith(MASK)


@pytest.mark.parametrize("form", canaries.FORMS)
def test_masking_twice_changes_nothing_more(form: str) -> None:
    once = redact_text(form.format(c=canaries.build(9)))
    assert redact_text(once) == once


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_text_stays_as_it_is(text: str) -> None:
    assert redact_text(text) is text or redact_text(text) == text


@pytest.mark.parametrize("key", canaries.KEYS)
def test_a_telling_name_hides_its_value(key: str) -> None:
    assert redact_mapping({key: "x"}) == {key: MASK}
    assert redact_mapping({key: ["x", "y"]}) == {key: MASK}
    assert redact_mapping({key: {"a": "x"}}) == {key: MASK}


@pytest.mark.parametrize(
    "key",
    [
        "video_id",
        "stage",
        "outcome",
        "proxy_used",
        "proxy",
        "context_key",
        "error_type",
        "trace_id",
        "http.route",
        "http.request.method",
        "url.path",
        "service.name",
        "keyboard",
        "monkey",
        "author",
        "tokens_left",
        "attempt",
    ],
)
def test_an_innocent_name_hides_nothing(key: str) -> None:
    assert not is_secret_key(key)


def test_query_attributes_without_their_question_mark_are_masked() -> None:
    fields = {"url.query": "ei=kNaRy1&v=dQw4w9WgXcQ", "http.target": "/x?key=kNaRy2"}
    assert redact_mapping(fields) == {
        "url.query": f"ei={MASK}&v=dQw4w9WgXcQ",
        "http.target": f"/x?key={MASK}",
    }


def test_nothing_inside_lists_and_mappings_is_missed() -> None:
    canary = canaries.build(1)
    value = {
        "a": [{"b": (f"Bearer {canary}", {"password": canary})}],
        "c": {f"https://u:{canary}@h/"},
        "d": f"token={canary}".encode(),
        "e": ValueError(f"cookie: a={canary}"),
    }
    masked = redact_value(value)
    assert canaries.PREFIX not in repr(masked)
    assert masked["d"] == f"token={MASK}"


def test_too_deep_a_value_is_replaced() -> None:
    value: list[object] = ["x"]
    for _ in range(20):
        value = [value]
    assert MASK in repr(redact_value(value))


def test_a_clean_value_is_returned_itself() -> None:
    value = {"a": [1, "two"], "b": None, "c": {"d": 1.5}}
    assert redact_mapping(value) is value


def test_secret_environment_variables_are_masked_word_for_word() -> None:
    register_environment(
        {
            "PROXY_PASSWORD": "plainword-kNaRy41",
            "HTTPS_PROXY": "http://u:kNaRy42xx@h:1",
            "HOME": "/x",
        }
    )
    assert redact_text("it said plainword-kNaRy41 and kNaRy42xx in /x") == (
        f"it said {MASK} and {MASK} in /x"
    )


def test_what_was_looked_through_before_a_secret_was_known_is_not_taken_as_harmless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_through = redaction._redact

    def and_then_it_becomes_known(text: str) -> str:
        found = looked_through(text)
        register_secrets("just in time")
        return found

    monkeypatch.setattr(redaction, "_redact", and_then_it_becomes_known)
    assert redact_text("it came just in time") == "it came just in time"
    monkeypatch.undo()
    assert redact_text("it came just in time") == f"it came {MASK}"


def test_registered_secrets_are_masked_everywhere_but_short_ones_are_not() -> None:
    register_secrets("horse-battery-kNaRy43", "abc")
    assert redact_text("horse-battery-kNaRy43 abc") == f"{MASK} abc"


def test_masks_are_counted() -> None:
    assert count_masks({"a": MASK, "b": [f"x {MASK} {MASK}", 3]}) == 3


def test_a_secret_on_the_edge_of_what_is_looked_at_is_cut_off() -> None:
    for offset in range(0, 400, 7):
        text = "x " * ((MAX_TEXT - offset) // 2) + f"Bearer {canaries.build(3)} " + "y" * 1000
        assert canaries.PREFIX not in redact_text(text)


@given(st.text(max_size=400))
def test_masking_never_raises_and_is_idempotent(text: str) -> None:
    once = redact_text(text)
    assert redact_text(once) == once
    assert len(once) <= len(text) + 40 * (1 + once.count(MASK))


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=50)
        | st.binary(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
        max_leaves=20,
    )
)
def test_any_value_can_be_masked(value: object) -> None:
    redact_value(value)


# name → (piece, times): about a megabyte each
HOSTILE = {
    "many ampersands": ("&a", 500_000),
    "many equals": ("?a==", 250_000),
    "userinfo without end": ("http://a:", 110_000),
    "half a proxy": ("a:b", 333_000),
    "open quotes": ('password="x', 90_000),
    "escaped quotes": ('token=\\"', 125_000),
    "almost JWTs": ("eyJaaaaaaaaaa.", 70_000),
    "dots": ("1.", 500_000),
    "colons": ("a:", 500_000),
    "dashes": ("-----BEGIN ", 90_000),
    "words of keys": ("password ", 110_000),
    "nearly keys": ("_-.", 330_000),
    "percent signs": ("%3", 500_000),
    "headers": ("cookie:", 140_000),
    "one run": ("aA1", 333_333),
    "at signs": ("a@", 500_000),
    "bearers": ("bearer a", 125_000),
    "options": ("--password ", 90_000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_megabyte_of_hostile_text_takes_bounded_time(name: str) -> None:
    piece, times = HOSTILE[name]
    text = piece * times
    started = time.process_time()
    redact_text(text)
    assert time.process_time() - started < 1


def test_a_megabyte_of_random_text_takes_bounded_time() -> None:
    text = "".join(random.Random(1).choices(string.printable, k=1_000_000))
    started = time.process_time()
    redact_text(text)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    "text",
    ["100%25 of 5", "caf\\u00e9 and \\u2026", "a%20b%2Fc", 'Cookie: x\n    File "a.py", line 1'],
)
def test_what_hides_nothing_stays_as_it_is_written(text: str) -> None:
    assert redact_text(text).splitlines()[-1] == text.splitlines()[-1]


@pytest.mark.parametrize(
    "part",
    [
        "hunter2secretvalue",
        "x-key=hunter2%20secret",
        "x-key: hunter2secret==",
        " x-key:hunter2secret x-other=1 ",
        "hunter2 words=x",
        "hunter2/secret=",
    ],
)
def test_no_part_of_a_badly_written_header_variable_is_printed(part: str) -> None:
    register_environment({"OTEL_EXPORTER_OTLP_HEADERS": f"x-first=other%20one,{part}"})
    # As the SDK repeats what it cannot read, and as it sends what it can.
    for said in (part, part.strip(), part.partition("=")[2] or part, "other%20one", "other one"):
        clean = redact_text(f"invalid: {said}")
        assert "hunter2" not in clean
        assert "other%20one" not in clean
        assert "other one" not in clean
