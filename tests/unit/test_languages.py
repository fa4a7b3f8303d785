"""Which track a caller gets, and what cannot be a language."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcript_service.transcripts.languages import (
    choose_track,
    choose_translation,
    ranked,
    same_language,
)
from transcript_service.transcripts.model import Kind, Track, TranscriptError
from transcript_service.transcripts.wanted import parse_wanted

VIDEO = "dQw4w9WgXcQ"

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
        (["en"], [], "en-GB", "manual"),  # whatever the region
        (["en-US"], [], "en-GB", "manual"),
        (["EN-gb"], [], "en-GB", "manual"),
        (["xx", "de"], [], "de", "asr"),
        (["en-US", "de"], [], "en-GB", "manual"),  # the most wanted language first
        (["xx"], ["fr"], "fr", "manual"),
    ],
)
def test_the_chosen_track(
    wanted: list[str], fallbacks: list[str], language: str, kind: Kind
) -> None:
    track = choose_track(TRACKS, wanted, fallbacks)
    assert (track.language, track.kind) == (language, kind)


@pytest.mark.parametrize(
    ("wanted", "listed", "chosen"),
    [
        ("zh-TW", "zh-Hans zh-Hant", "zh-Hant"),
        ("zh-HK", "zh-CN zh-TW", "zh-TW"),
        ("zh-HK", "zh-TW zh-HK", "zh-HK"),
        ("zh-TW", "zh zh-Hans zh-CN", None),  # never Simplified
        ("zh-CN", "zh-Hant zh", "zh"),
        ("cmn", "zh-Hant zh-Hans", "zh-Hans"),
        ("zh", "en zh-Hant", "zh-Hant"),  # no script was said
        ("he", "iw", "iw"),
        ("iw", "he", "he"),
        ("id", "in", "in"),
        ("in", "id", "id"),
        ("nb", "nn no", "no"),
        ("no", "da nb", "nb"),
        ("nn", "no", None),
        ("fil", "tl", "tl"),
        ("tl", "fil", "fil"),
        ("bs", "hr", None),
        ("gsw", "de", None),
        ("sr-Latn", "sr", "sr"),  # read by the same people
        ("es-MX", "es es-ES es-419", "es-419"),
        ("en-AU", "en-US en-GB", "en-GB"),
        ("en", "en-nP7-2PuUl7o", "en-nP7-2PuUl7o"),
        ("en-nP7-2PuUl7o", "en en-nP7-2PuUl7o", "en-nP7-2PuUl7o"),
        ("yue", "zh-yue", "zh-yue"),
        ("xx", "xx-Latn", "xx-Latn"),
        ("und", "en", None),
    ],
)
def test_languages_meet_by_script_region_and_every_code_they_ever_had(
    wanted: str, listed: str, chosen: str | None
) -> None:
    codes = listed.split()
    assert [codes[index] for index in ranked(codes, wanted)[:1]] == ([chosen] if chosen else [])
    for fold in (str.upper, lambda tag: tag.replace("-", "_")):
        same = [codes[index] for index in ranked(codes, fold(wanted))[:1]]
        assert same == ([chosen] if chosen else [])


def test_a_manual_track_of_the_language_goes_before_an_automatic_one() -> None:
    tracks = [Track("en", "asr", "English (auto-generated)"), Track("en-US", "manual", "US")]
    assert choose_track(tracks, ["en"]).name == "US"


FILM = [
    Track("en", "manual", "English - Dialogue"),
    Track("en", "manual", "English - Live chat"),
    Track("fr", "manual", "French"),
]


@pytest.mark.parametrize(
    ("wanted", "name", "chosen"),
    [
        (["en"], None, "English - Dialogue"),  # YouTube's order
        (["en"], "English - Live chat", "English - Live chat"),
        (["en"], "live chat", "English - Live chat"),
        (["de"], "French", "French"),
    ],
)
def test_of_two_tracks_of_a_language_the_first_or_the_named_one_is_taken(
    wanted: list[str], name: str | None, chosen: str
) -> None:
    assert choose_track(FILM, wanted, name=name, accept_any=True).name == chosen


def test_a_name_that_no_track_has_is_an_answer_that_lists_the_names() -> None:
    with pytest.raises(TranscriptError, match="no track of that name") as refusal:
        choose_track(FILM, ["en"], name="Commentary", accept_any=True)
    assert refusal.value.error_type == "language_unavailable"
    assert refusal.value.available == tuple(FILM)


@pytest.mark.parametrize("text", ["", "  ", "a\nb", "a\x00", "x" * 201])
def test_what_is_no_name_of_a_track_is_refused(text: str) -> None:
    with pytest.raises(TranscriptError) as refusal:
        parse_wanted(VIDEO, track=text)
    assert refusal.value.error_type == "invalid_parameter"


@pytest.mark.parametrize("name", ["Español – España", "زیرنویس\u200cها", "👩\u200d🏫 notes"])
def test_a_name_is_taken_in_any_script(name: str) -> None:
    assert parse_wanted(VIDEO, track=f" {name} ").track == name


@given(st.text(max_size=60), st.text(max_size=60) | st.from_regex(r"[a-z]{2,3}(-[A-Za-z0-9]+)*"))
def test_any_two_texts_can_be_compared(wanted: str, have: str) -> None:
    assert same_language(wanted, wanted)
    same_language(have, wanted)


def test_a_missing_language_is_an_answer_that_lists_what_there_is() -> None:
    with pytest.raises(TranscriptError) as refusal:
        choose_track(TRACKS, ["ja"])
    assert refusal.value.error_type == "language_unavailable"
    assert refusal.value.outcome == "no_captions"
    assert refusal.value.available == tuple(TRACKS)


def test_whoever_names_no_language_gets_what_there_is() -> None:
    assert choose_track(TRACKS, ["ja"], accept_any=True).language == "en-GB"


def test_languages_are_parsed_in_order_and_once() -> None:
    assert parse_wanted(VIDEO, lang="en, de,en,zh-Hans,es-419,en-nP7-2PuUl7o").languages == (
        "en", "de", "zh-Hans", "es-419", "en-nP7-2PuUl7o",
    )  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "e", "english", "en,", "e n", "en;de", "ｅｎ", "../", "a" * 99,
                                  ",".join(f"a{chr(97 + i)}" for i in range(11))])  # fmt: skip
def test_nonsense_is_no_language(text: str) -> None:
    with pytest.raises(TranscriptError) as refusal:
        parse_wanted(VIDEO, lang=text)
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
        (Track("zh-Hant", "manual", "Chinese"), "zh-TW", None),
        (ENGLISH, "zh-TW", "zh-Hant"),
        (ENGLISH, "zh-HK", "zh-Hant"),
        (ENGLISH, "he", "iw"),
        (ENGLISH, "nb", "no"),
        (Track("no", "manual", "Norwegian"), "nb", None),
        (Track("pt-PT", "manual", "Portuguese"), "pt-BR", None),  # its own words
        (Track("de", "manual", "German"), "de", None),
    ],
)
def test_a_translation_is_asked_for_where_it_is_one(
    track: Track, wanted: str | None, translation: str | None
) -> None:
    offered = ["pt-BR", "zh-Hans", "zh-Hant", "de", "en", "iw", "no"]
    assert choose_translation(track, wanted, offered) == translation


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
        parse_wanted(VIDEO, translate=text)
    assert refusal.value.error_type == "invalid_parameter"
