"""Which track a caller gets, and what cannot be a language."""

from __future__ import annotations

import pytest

from transcript_service.transcripts.languages import (
    choose_track,
    choose_translation,
    parse_languages,
    parse_translation,
)
from transcript_service.transcripts.model import Kind, Track, TranscriptError

TRACKS = [
    Track("de", "asr", "German (auto)"),
    Track("en-GB", "manual", "English (UK)"),
    Track("en", "asr", "English (auto)"),
    Track("fr", "asr", "French (auto)"),
    Track("fr", "manual", "French"),
]


@pytest.mark.parametrize(
    ("wanted", "fallbacks", "language", "kind"),
    [
        (["fr"], [], "fr", "manual"),  # people before machines
        (["en"], [], "en", "asr"),  # exact before related
        (["en-US"], [], "en-GB", "manual"),  # related, people first
        (["EN-gb"], [], "en-GB", "manual"),
        (["xx", "de"], [], "de", "asr"),
        (["en-US", "de"], [], "de", "asr"),  # every exact match before any related one
        (["xx"], ["fr"], "fr", "manual"),
    ],
)
def test_the_chosen_track(
    wanted: list[str], fallbacks: list[str], language: str, kind: Kind
) -> None:
    track = choose_track(TRACKS, wanted, fallbacks)
    assert (track.language, track.kind) == (language, kind)


def test_a_missing_language_is_an_answer_that_lists_what_there_is() -> None:
    with pytest.raises(TranscriptError) as refusal:
        choose_track(TRACKS, ["ja"])
    assert refusal.value.error_type == "language_unavailable"
    assert refusal.value.outcome == "no_captions"
    assert refusal.value.available == tuple(TRACKS)


def test_whoever_names_no_language_gets_what_there_is() -> None:
    assert choose_track(TRACKS, ["ja"], accept_any=True).language == "en-GB"


def test_languages_are_parsed_in_order_and_once() -> None:
    assert parse_languages("en, de,en,zh-Hans,es-419,en-nP7-2PuUl7o") == (
        "en", "de", "zh-Hans", "es-419", "en-nP7-2PuUl7o",
    )  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "e", "english", "en,", "e n", "en;de", "ｅｎ", "../", "a" * 99,
                                  ",".join(f"a{chr(97 + i)}" for i in range(11))])  # fmt: skip
def test_nonsense_is_no_language(text: str) -> None:
    with pytest.raises(TranscriptError) as refusal:
        parse_languages(text)
    assert refusal.value.error_type == "invalid_parameter"


ENGLISH = Track("en", "manual", "English", is_translatable=True)


@pytest.mark.parametrize(
    ("track", "wanted", "translation"),
    [
        (ENGLISH, None, None),
        (ENGLISH, "de", "de"),
        (ENGLISH, "ZH_hans", "zh-Hans"),  # as YouTube writes it
        (ENGLISH, "pt", "pt-BR"),  # the nearest there is
        (ENGLISH, "EN", None),  # its own words
        (Track("en-GB", "manual", "English (UK)"), "en", None),
        (Track("zh-Hant", "manual", "Chinese", is_translatable=True), "zh-Hans", "zh-Hans"),
        (Track("de", "manual", "German"), "de", None),
    ],
)
def test_a_translation_is_asked_for_where_it_is_one(
    track: Track, wanted: str | None, translation: str | None
) -> None:
    assert choose_translation(track, wanted, ["pt-BR", "zh-Hans", "de", "en"]) == translation


@pytest.mark.parametrize(
    ("track", "wanted"), [(ENGLISH, "ja"), (Track("en", "manual", "English"), "de")]
)
def test_a_translation_that_is_not_offered_is_an_answer(track: Track, wanted: str) -> None:
    with pytest.raises(TranscriptError) as refusal:
        choose_translation(track, wanted, ["de"])
    assert refusal.value.error_type == "language_unavailable"


@pytest.mark.parametrize("text", ["", " ", "klingon", "de,fr", "d", "de;fr", "../de"])
def test_what_is_no_language_is_refused(text: str) -> None:
    with pytest.raises(TranscriptError) as refusal:
        parse_translation(text)
    assert refusal.value.error_type == "invalid_parameter"
