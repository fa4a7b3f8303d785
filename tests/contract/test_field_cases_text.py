"""Reported situations that are about text alone: files, links, cookies and clocks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.subtitle_readers import Cue, read_srt, read_vtt
from transcript_service.settings import Settings
from transcript_service.transcripts.captions import Format, parse_captions, parse_get_panel
from transcript_service.transcripts.cookies import for_browser, jar_for
from transcript_service.transcripts.formats import FORMATS
from transcript_service.transcripts.languages import choose_track, choose_translation
from transcript_service.transcripts.model import Segment, Transcript, TranscriptError
from transcript_service.transcripts.player import read_player
from transcript_service.transcripts.wanted import parse_video_id

FOLDER = Path(__file__).parents[3] / "shared" / "field-cases"
if not FOLDER.is_dir():
    pytest.skip("no field cases beside this checkout", allow_module_level=True)
TRACKS = sorted(path for path in FOLDER.glob("*/track*.*") if path.suffix in (".srv1", ".json3"))
FILLED = [path for path in TRACKS if path.stat().st_size]


def captions(path: Path) -> list[Segment]:
    fmt: Format = "json3" if path.suffix == ".json3" else "srv1"
    return parse_captions(path.read_bytes(), fmt)


def cues(path: Path) -> list[Cue]:
    """The cues that every reader finds in the SRT and the WebVTT of a track."""
    found = Transcript(path.parent.name, "timedtext", "en", "manual", tuple(captions(path)))
    srt, vtt = (FORMATS[fmt][1](found, "").decode() for fmt in ("srt", "vtt"))
    readings = [*read_srt(srt).values(), *read_vtt(vtt).values()]
    assert all(reading == readings[0] for reading in readings)
    return readings[0]


@pytest.mark.parametrize("path", FILLED, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_every_track_becomes_files_with_visible_cues(path: Path) -> None:
    found = cues(path)
    assert len(found) == len(captions(path))
    assert all(end > start for start, end, _ in found)


@pytest.mark.parametrize("srv1", [path for path in FILLED if path.suffix == ".srv1"])
def test_the_formats_of_a_track_agree(srv1: Path) -> None:
    if (json3 := srv1.with_suffix(".json3")).exists():
        assert captions(srv1) == captions(json3)


def test_styled_captions_are_two_clean_ones() -> None:
    assert [segment.text for segment in captions(FOLDER / "ytsubconv01/track0.srv1")] == [
        "Inside the house",
        "for a day",
    ]


@pytest.mark.parametrize(
    ("case", "times"),
    [
        ("noDuration1", [(1000, 5000), (5000, 9000), (9000, 11_000)]),
        ("rolling_001", [(320, 2400), (2400, 5100), (5100, 9100)]),
        ("arrowText01", [(0, 2000), (3000, 4000)]),
    ],
)
def test_cues_are_shown_when_they_should_be(case: str, times: list[tuple[int, int]]) -> None:
    assert [(start, end) for start, end, _ in cues(FOLDER / case / "track0.srv1")] == times


@pytest.mark.parametrize("wanted", ["zh-TW", "zh-HK", "zh-Hant", "zh_tw"])
def test_traditional_chinese_is_never_simplified(wanted: str) -> None:
    player = read_player((FOLDER / "zhScript_01/player.json").read_bytes(), "zhScript_01")
    assert choose_track(player.tracks, [wanted]).language == "zh-Hant"
    english = choose_track(player.tracks, ["en"])
    assert choose_translation(english, wanted, player.translations) == "zh-Hant"


def pasted() -> list[list[str]]:
    lines = (FOLDER / "urls.txt").read_text().splitlines()
    return [line.split("\t") for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize(("text", "expected"), pasted())
def test_what_a_person_pastes(text: str, expected: str) -> None:
    if not expected.startswith("REFUSED"):
        assert parse_video_id(text) == expected
        return
    with pytest.raises(TranscriptError) as refusal:
        parse_video_id(text)
    assert refusal.value.error_type == "invalid_video_id"
    assert f"That is {expected.partition('(')[2].rstrip(')')}," in refusal.value.detail


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("crlf", {"SAPISID"}),
        ("malformed", {"SAPISID"}),
        ("session0", {"LOGIN_INFO", "SAPISID"}),
    ],
)
def test_the_good_lines_of_a_cookie_file_are_used(file: str, names: set[str]) -> None:
    settings = Settings(cookies_file=FOLDER / "cookies" / f"{file}.txt")
    jar = jar_for(settings, "desktop")
    assert jar is not None
    assert {cookie.name for cookie in jar if not cookie.is_expired()} == names
    assert {cookie["name"] for cookie in for_browser(settings, "desktop") or ()} == names


def test_clocks_with_dots_are_read() -> None:
    panel = parse_get_panel((FOLDER / "panel_dot_clock.json").read_bytes())
    assert [segment.start for segment in panel] == [1.0, 5.0, 3723.0]
