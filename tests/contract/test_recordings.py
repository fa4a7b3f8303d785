"""Recorded answers of YouTube, served by the simulator, through every stage they fit.

The rules are those of the recordings' MANIFEST; nothing here knows a file by name, so
more recordings of the same kinds are tested by laying them into the folder.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from simulator.recordings import player_response_of
from simulator.testing import RunningSimulator
from tests import recorded
from transcript_service.proxies import JobProxy, ProxyPool
from transcript_service.resilience import Deadline
from transcript_service.settings import Settings
from transcript_service.transcripts.captions import parse_captions
from transcript_service.transcripts.model import Segment, TranscriptError
from transcript_service.transcripts.panel import transcript_params
from transcript_service.transcripts.player import (
    Player,
    check_watch_page,
    read_player,
)
from transcript_service.transcripts.stages.base import Job, TranscriptStage
from transcript_service.transcripts.stages.timedtext import TimedtextStage
from transcript_service.transcripts.stages.youtube_api import YouTubeApiStage
from transcript_service.transcripts.wanted import Wanted

FOLDER = Path(__file__).parents[3] / "shared" / "youtube-recordings"
if not FOLDER.is_dir():
    pytest.skip("no recordings beside this checkout", allow_module_level=True)
EXPECTED: dict[str, dict[str, Any]] = json.loads((FOLDER / "expected.json").read_text())
TRANSCRIPTS = [name for name, wanted in EXPECTED.items() if "segments" in wanted]
PLAYERS = [n for n, w in EXPECTED.items() if "must_classify_as" in w and n.endswith(".json")]
PAGES = [n for n, w in EXPECTED.items() if "must_classify_as" in w and n.endswith(".html")]
DIRECT = JobProxy(ProxyPool([]), "test", None)
STAGES: list[type[YouTubeApiStage] | type[TimedtextStage]] = [YouTubeApiStage, TimedtextStage]


simulator = recorded.simulator_serving(FOLDER)
settings = recorded.settings


def served_as(simulator: RunningSimulator, name: str) -> str:
    if known := EXPECTED[name].get("video_id"):  # several recordings may be of one video
        return str(known)
    return next(video.id for video in simulator.state.videos() if video.recording == name)


def player_of(body: bytes) -> Player:
    """A recorded answer, asked for by the id that it names."""
    try:
        named = json.loads(body)["videoDetails"]["videoId"]
    except (ValueError, LookupError, TypeError):
        named = ""
    return read_player(body, named)


def fetch(
    stage: TranscriptStage, video: str, languages: tuple[str, ...] = ()
) -> tuple[Segment, ...]:
    return stage.fetch(Job(Wanted(video, languages), Deadline(20), DIRECT)).segments


def assert_equals(segments: list[Segment] | tuple[Segment, ...], wanted: dict[str, Any]) -> None:
    texts = [" ".join(segment.text.split()) for segment in segments]
    assert len(segments) == wanted["segments"]
    for segment, text, end in [(segments[0], texts[0], "first"), (segments[-1], texts[-1], "last")]:
        assert {"start": segment.start, "duration": segment.duration, "text": text} == wanted[end]
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    assert digest == wanted["sha256_of_texts_joined_by_newline"]


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_a_recorded_body_parses_to_the_expected_transcript(name: str) -> None:
    body = (FOLDER / name).read_bytes()
    assert_equals(
        parse_captions(body, "json3" if name.endswith(".json") else "srv1"), EXPECTED[name]
    )


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_a_stage_delivers_the_recorded_transcript(
    name: str,
    stage: type[YouTubeApiStage] | type[TimedtextStage],
    simulator: RunningSimulator,
    settings: Settings,
) -> None:
    assert_equals(fetch(stage(settings), served_as(simulator, name)), EXPECTED[name])


@pytest.mark.parametrize("name", PLAYERS)
def test_a_recorded_player_answer_is_classified_and_its_tracks_are_listed(name: str) -> None:
    wanted = EXPECTED[name]
    try:
        tracks = player_of((FOLDER / name).read_bytes()).captions()
    except TranscriptError as error:
        assert (error.error_type, []) == (wanted["must_classify_as"], wanted["tracks"])
    else:
        assert wanted["must_classify_as"] == "ok"
        assert [(t.language, t.kind, t.name, t.po_token_required) for t in tracks] == [
            (t["lang"], t["kind"], t["name"], t["po_token_gated"]) for t in wanted["tracks"]
        ]


@pytest.mark.parametrize("name", PLAYERS)
def test_the_languages_that_a_recorded_answer_translates_into_are_read(name: str) -> None:
    wanted = EXPECTED[name]
    if wanted["must_classify_as"] in ("ok", "transcripts_disabled"):
        offered = player_of((FOLDER / name).read_bytes()).translations
        assert len(set(offered)) == wanted["translation_languages"]


@pytest.mark.parametrize("name", [n for n in PAGES if "tracks_in_page" in EXPECTED[n]])
def test_a_recorded_watch_page_lists_its_tracks_and_takes_our_panel_request(name: str) -> None:
    wanted = EXPECTED[name]
    page = (FOLDER / name).read_text(encoding="utf-8")
    tracks = player_of(orjson.dumps(player_response_of(page))).captions()
    assert [(t.language, t.kind, t.name, t.po_token_required) for t in tracks] == [
        (t["lang"], t["kind"], t["name"], t["po_token_gated"]) for t in wanted["tracks_in_page"]
    ]
    # The page's own request for its first choice of track is the one that we would make.
    made = {transcript_params(wanted["video_id"], track) for track in tracks}
    assert wanted["get_transcript_params"] in made


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", PLAYERS)
def test_a_stage_that_meets_a_recorded_player_answer_reports_its_class(
    name: str,
    stage: type[YouTubeApiStage] | type[TimedtextStage],
    simulator: RunningSimulator,
    settings: Settings,
) -> None:
    wanted = EXPECTED[name]["must_classify_as"]
    try:
        segments = fetch(stage(settings), served_as(simulator, name))
    except TranscriptError as error:
        assert error.error_type == wanted
    else:
        assert wanted == "ok"
        assert segments


@pytest.mark.parametrize("name", PAGES)
def test_a_recorded_page_is_classified(name: str) -> None:
    wanted = EXPECTED[name]["must_classify_as"]
    try:
        check_watch_page((FOLDER / name).read_bytes())
    except TranscriptError as error:
        assert error.error_type == wanted
    else:
        assert wanted == "ok"


@pytest.mark.parametrize("name", PAGES)
def test_the_library_stage_reports_the_class_of_a_recorded_page(
    name: str, simulator: RunningSimulator, settings: Settings
) -> None:
    wanted = EXPECTED[name]["must_classify_as"]
    try:
        segments = fetch(YouTubeApiStage(settings), served_as(simulator, name))
    except TranscriptError as error:
        assert error.error_type == wanted
    else:
        assert wanted == "ok"
        assert segments
