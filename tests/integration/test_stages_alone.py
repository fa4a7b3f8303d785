"""Each stage by itself, and the last one after all others, through the service's HTTP API."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from simulator.catalogue import by_title, expected_speech, expected_transcript
from simulator.testing import RunningSimulator, running_simulator
from tests.needed import needed, require_chromium
from tests.service_process import service
from transcript_service.telemetry.vocabulary import STAGES, Stage

# A short one with manual captions; the classic panel has them to the millisecond.
READ = by_title("La barca pequeña")
SPOKEN = by_title("Rain at the Window")
NEVER_WRITTEN = by_title("Captions Switched Off")
SHORT = by_title("One Sentence")
PASSWORD = "p+w/d@1:x"
needs_flite = pytest.mark.usefixtures("flite")


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    with running_simulator(tmp_path_factory.mktemp("simulator")) as running:
        yield running


@pytest.fixture
def flite() -> None:
    """For tests that need spoken words."""
    needed("flite")


@pytest.fixture(autouse=True)
def _healthy(simulator: RunningSimulator) -> Iterator[None]:
    simulator.reset()
    yield
    simulator.set_proxy_users({})


def only(*stages: Stage) -> dict[str, str]:
    """The environment with these stages on and all others off."""
    if "youtubei" in stages:
        require_chromium(None)
    switches = {f"ENABLE_{stage.upper()}": str(int(stage in stages)) for stage in STAGES}
    # A browser may have to be started first, and a machine be busy with something else.
    # A busy machine needs more than fifteen seconds to start Chromium.
    patience = {"JOB_DEADLINE_S": "200", "BROWSER_ACQUIRE_TIMEOUT_S": "60"}
    return {**switches, **patience, "GRACEFUL_TIMEOUT_S": "5"}


def words(texts: list[str]) -> list[str]:
    return re.findall(r"[a-z']+", " ".join(texts).lower())


def share_understood(said: list[str], heard: list[str]) -> float:
    """The share of the spoken words that were heard, in their order."""
    matcher = difflib.SequenceMatcher(None, said, heard, autojunk=False)
    return sum(block.size for block in matcher.get_matching_blocks()) / len(said)


def assert_heard(document: dict[str, Any], video_id: str) -> None:
    spoken = expected_speech(video_id)
    said = words([line.text for line in spoken])
    heard = words([segment["text"] for segment in document["segments"]])
    assert share_understood(said, heard) > 0.6, f"said {said}, heard {heard}"
    # Chance does not do it: the very same words in another order are not the same.
    for seed in range(20):
        shuffled = Random(seed).sample(heard, len(heard))
        assert share_understood(said, shuffled) < 0.45
    starts = [line.start for line in spoken]
    for segment in document["segments"]:
        assert segment["duration"] > 0
        assert min(abs(segment["start"] - start) for start in starts) < 1.0


@pytest.mark.parametrize("stage", ["youtube_api", "timedtext", "youtubei"])
def test_a_reading_stage_alone_delivers_every_line_at_its_time(
    simulator: RunningSimulator, tmp_path: Path, stage: Stage
) -> None:
    with service(tmp_path, simulator, only(stage)) as running:
        answer = running.get(f"/api/transcripts/{READ.id}?lang=es")
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert (document["source"], document["language"], document["kind"]) == (stage, "es", "manual")
    assert [(a["stage"], a["outcome"]) for a in document["attempts"]] == [(stage, "success")]
    wanted = expected_transcript(READ.id, "es", "manual")
    assert [" ".join(s["text"].split()) for s in document["segments"]] == [
        " ".join(s.text.split()) for s in wanted
    ]
    for got, expected in zip(document["segments"], wanted, strict=True):
        assert got["start"] == pytest.approx(expected.start, abs=0.001)
        assert got["duration"] == pytest.approx(expected.duration, abs=0.001)


@needs_flite
def test_the_hearing_stage_alone_delivers_the_words_at_their_times(
    simulator: RunningSimulator, tmp_path: Path
) -> None:
    with service(tmp_path, simulator, only("asr")) as running:
        answer = running.get(f"/api/transcripts/{NEVER_WRITTEN.id}")
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert (document["source"], document["language"], document["kind"]) == ("asr", "en", "speech")
    assert_heard(document, NEVER_WRITTEN.id)


@needs_flite
def test_with_the_first_three_blocked_the_words_are_heard(
    simulator: RunningSimulator, tmp_path: Path
) -> None:
    simulator.set_fault(SPOKEN.id, "http_429@watch:60", "http_429@timedtext:60")
    with service(tmp_path, simulator, only(*STAGES)) as running:
        answer = running.get(f"/api/transcripts/{SPOKEN.id}?lang=en")
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert [(a["stage"], a["outcome"]) for a in document["attempts"]] == [
        ("youtube_api", "blocked"), ("timedtext", "blocked"), ("youtubei", "blocked"),
        ("asr", "success"),
    ]  # fmt: skip
    assert_heard(document, SPOKEN.id)


@needs_flite
def test_yt_dlp_fetches_the_sound_where_it_is_to_do_so(
    simulator: RunningSimulator, tmp_path: Path
) -> None:
    environ = {
        **only("asr"),
        "ASR_AUDIO_SOURCES": '["yt_dlp"]',
        # Of whoever started the service, and no business of a request's.
        "https_proxy": "http://127.0.0.1:1",
        "ALL_PROXY": "http://127.0.0.1:1",
    }
    with service(tmp_path, simulator, environ) as running:
        answer = running.get(f"/api/transcripts/{NEVER_WRITTEN.id}")
    assert answer.status_code == 200, answer.text
    assert_heard(answer.json(), NEVER_WRITTEN.id)
    # The watch page is yt-dlp's: the stage itself asks the player alone.
    assert {"watch", "audio"} <= {entry["endpoint"] for entry in simulator.requests()}
    assert {entry["proxy_user"] for entry in simulator.requests()} == {None}


@needs_flite
def test_requests_chromium_and_yt_dlp_leave_by_the_same_proxy_as_the_same_user(
    simulator: RunningSimulator, tmp_path: Path
) -> None:
    simulator.set_proxy_users({"alice": {"password": PASSWORD}})
    # Damaged answers: none of them is a reason to change the proxy.
    simulator.set_fault(SHORT.id, "empty_body@timedtext", "empty_body@get_panel")
    environ = {
        **only(*STAGES),
        "ASR_AUDIO_SOURCES": '["yt_dlp"]',
        "ENFORCE_PROXY_ALL": "1",
        "PROXY_LIST": f"http://alice:{PASSWORD}@127.0.0.1:{simulator.proxy_port}",
        "PROXY_SESSION_TEMPLATE": "{username}-sessid-{session}",
    }
    with service(tmp_path, simulator, environ) as running:
        answer = running.get(f"/api/transcripts/{SHORT.id}?lang=en")
        log = running.process.log()
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert [(a["stage"], a["outcome"], a["proxy_used"]) for a in document["attempts"]] == [
        ("youtube_api", "error", True), ("timedtext", "error", True), ("youtubei", "error", True),
        ("asr", "success", True),
    ]  # fmt: skip

    asked = simulator.requests(video=SHORT.id)
    # Captions are asked for by requests, the panel by Chromium, the sound by yt-dlp alone.
    assert {"timedtext", "get_panel", "audio"} <= {entry["endpoint"] for entry in asked}
    (user,) = {entry["proxy_user"] for entry in simulator.requests()}
    assert re.fullmatch(r"alice-sessid-[0-9a-f]+", user)
    # By the proxy's own account: nobody else, and nobody twice under another name. Chromium
    # asks without credentials first and is told to give them.
    connects = simulator.connects()
    assert {entry["user"] for entry in connects if entry["status"] == 200} == {user}
    assert {entry["user"] for entry in connects} <= {user, ""}
    assert PASSWORD not in log
    assert user not in log
