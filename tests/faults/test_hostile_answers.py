"""Answers made to keep a worker busy cost no more than harmless ones of their size.

youtube-transcript-api's own caption parser took 43 s for 100,000 `<`, with the interpreter's
lock held: four requests stopped all workers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from html import escape
from typing import Any

import pytest

from simulator.testing import RunningSimulator, running_simulator
from transcript_service.proxies import JobProxy, ProxyPool
from transcript_service.resilience import Deadline
from transcript_service.settings import Settings
from transcript_service.transcripts.model import TranscriptError
from transcript_service.transcripts.stages.base import Job, TranscriptStage
from transcript_service.transcripts.stages.timedtext import TimedtextStage
from transcript_service.transcripts.stages.youtube_api import YouTubeApiStage
from transcript_service.transcripts.wanted import Wanted

SIZE = 1_000_000
# By id: a unit that is repeated up to 1 MB. The first one is the measure of the others.
UNITS = {
    "harmless___": "some words in a row ",
    "openTags___": "<",
    "tagNames___": "<a ",
    "openAngles_": "<<<>",
    "entities___": "&",
    "halfEntity_": "&#",
    "escaped____": "&amp;lt;",
    "spaces_____": " \t",
    "breaks_____": "<br ",
    "arrows_____": "-->",
}
SENTENCES = {
    "harmReason_": "video is there ",
    "botReason__": "robo robo",
    "unavailable": "this video is not available ",
}


def _player(video: str, **playability: Any) -> dict[str, Any]:
    address = f"https://www.youtube.com/api/timedtext?v={video}&track=0&lang=en"
    tracks = [{"languageCode": "en", "baseUrl": address, "name": {"runs": [{"text": "English"}]}}]
    return {
        "playabilityStatus": {"status": "OK", **playability},
        "videoDetails": {"videoId": video, "lengthSeconds": "60"},
        "captions": {"playerCaptionsTracklistRenderer": {"captionTracks": tracks}},
    }


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    folder = tmp_path_factory.mktemp("cases")
    for video, unit in UNITS.items():
        (folder / video).mkdir()
        (folder / video / "player.json").write_text(json.dumps(_player(video)))
        text = (unit * (SIZE // len(unit)))[:SIZE] + " end"
        line = f'<text start="0" dur="1">{escape(text)}</text>'
        (folder / video / "track0.srv1").write_text(f"<transcript>{line}</transcript>")
    for video, unit in SENTENCES.items():
        (folder / video).mkdir()
        said = (unit * (SIZE // len(unit)))[:SIZE]
        refusal = _player(video, status="LOGIN_REQUIRED", reason=said)
        (folder / video / "player.json").write_text(json.dumps(refusal))
    with running_simulator(tmp_path_factory.mktemp("sim"), recordings_folder=folder) as running:
        yield running


def seconds(stage: TranscriptStage, video: str) -> float:
    """Processor time of this thread for one job: the simulator works in another."""
    job = Job(Wanted(video), Deadline(300), JobProxy(ProxyPool([]), "test", None))
    began = time.thread_time()
    try:
        assert stage.fetch(job).segments
    except TranscriptError:
        assert video in SENTENCES
    return time.thread_time() - began


@pytest.mark.parametrize("make", [YouTubeApiStage, TimedtextStage])
@pytest.mark.parametrize("cases", [UNITS, SENTENCES], ids=["captions", "reasons"])
def test_no_answer_costs_much_more_than_a_harmless_one(
    simulator: RunningSimulator,
    make: type[YouTubeApiStage | TimedtextStage],
    cases: dict[str, str],
) -> None:
    to_it = Settings(youtube_resolve_to=simulator.resolve_to, youtube_ca_file=simulator.ca_file)
    stage = make(to_it)
    harmless, *hostile = cases
    seconds(stage, harmless)  # the first of a process imports
    usual = seconds(stage, harmless)
    spent = {video: seconds(stage, video) for video in hostile}
    assert max(spent.values()) < 10 * usual + 0.3, (usual, spent)


def test_the_folder_is_as_large_as_it_says(simulator: RunningSimulator) -> None:
    sizes = [len(case.captions["track0.srv1"].body) for case in simulator.state.cases.values()
             if case.captions]  # fmt: skip
    assert min(sizes) >= SIZE
