"""Transcripts over HTTP: the real service in a process of its own, the simulator as YouTube."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulator.catalogue import by_title, expected_transcript
from simulator.testing import RunningSimulator, running_simulator
from tests.live import wait_for
from tests.service_process import Service, service

TRAIN = by_title("The Seven O'Clock Train").id


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    with running_simulator(tmp_path_factory.mktemp("simulator")) as running:
        yield running


@pytest.fixture(autouse=True)
def _healthy(simulator: RunningSimulator) -> None:
    simulator.reset()


@pytest.fixture(scope="module")
def shared(
    simulator: RunningSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("service"), simulator, {}) as running:
        yield running


def texts(document: dict[str, Any]) -> list[str]:
    return [segment["text"] for segment in document["segments"]]


def asked_for(simulator: RunningSimulator, endpoint: str) -> int:
    return len(simulator.requests(endpoint=endpoint))


def test_a_translation_says_what_was_chosen_what_it_was_and_what_there_is(
    shared: Service, simulator: RunningSimulator
) -> None:
    answer = shared.get(f"/api/transcripts/{TRAIN}?lang=en&translate=ja")
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert (document["language"], document["translated_from"]) == ("ja", "en")
    assert (document["kind"], document["cached"]) == ("manual", False)
    assert {"language": "en", "kind": "manual", "name": "English"} in document["available"]
    said = expected_transcript(TRAIN, "en", "manual")
    assert texts(document) == [f"[ja] {segment.text}" for segment in said]
    assert [s["start"] for s in document["segments"]] == [segment.start for segment in said]

    # Kept under its own key: neither the original nor another translation comes from it.
    fetched = asked_for(simulator, "timedtext")
    again = shared.get(f"/api/transcripts/{TRAIN}?lang=en&translate=ja").json()
    assert (again["cached"], again["translated_from"], texts(again)) == (
        True, "en", texts(document),
    )  # fmt: skip
    assert asked_for(simulator, "timedtext") == fetched
    original = shared.get(f"/api/transcripts/{TRAIN}?lang=en").json()
    assert (original["cached"], original["language"], original["translated_from"]) == (
        False, "en", None,
    )  # fmt: skip
    french = shared.get(f"/api/transcripts/{TRAIN}?lang=en&translate=fr").json()
    assert (french["cached"], french["language"]) == (False, "fr")

    text = shared.get(f"/api/transcripts/{TRAIN}?lang=en&translate=ja&format=vtt").text
    assert "Language: ja" in text
    assert f"[ja] {said[0].text}" in text


def test_the_second_stage_translates_as_the_first_does(
    shared: Service, simulator: RunningSimulator
) -> None:
    simulator.set_fault(TRAIN, "http_403@watch")
    document = shared.get(f"/api/transcripts/{TRAIN}?lang=en&translate=de").json()
    assert (document["source"], document["language"], document["translated_from"]) == (
        "timedtext", "de", "en",
    )  # fmt: skip
    assert texts(document)[0].startswith("[de] ")


def test_captions_in_the_wanted_language_are_not_translated(shared: Service) -> None:
    document = shared.get(f"/api/transcripts/{TRAIN}?lang=en&translate=en").json()
    assert (document["language"], document["translated_from"]) == ("en", None)
    assert texts(document) == [s.text for s in expected_transcript(TRAIN, "en", "manual")]


def test_a_stage_that_cannot_translate_gives_no_untranslated_answer(
    shared: Service, simulator: RunningSimulator
) -> None:
    simulator.set_fault(TRAIN, "bot_check")
    answer = shared.get(f"/api/transcripts/{TRAIN}?lang=en&translate=sv")
    assert answer.status_code == 503
    problem = answer.json()
    assert problem["code"] == "request_blocked"
    assert [attempt["stage"] for attempt in problem["attempts"]] == ["youtube_api", "timedtext"]


def test_a_language_that_youtube_does_not_offer_is_said_with_what_there_is(
    shared: Service,
) -> None:
    answer = shared.get(f"/api/transcripts/{TRAIN}?lang=en&translate=tlh")
    assert answer.status_code == 404
    assert answer.json()["code"] == "language_unavailable"
    assert {"language": "en", "kind": "manual", "name": "English"} in answer.json()["available"]


@pytest.mark.parametrize(
    "query",
    [
        "translate=",
        "translate=klingon",
        "translate=de,fr",
        "translate=d",
        "translate=de&translate=de",
        "translate=de&translate=fr",
        "translate=%00de",
        "translate=../../etc/passwd",
        "translate=" + "de" * 500,
    ],
)
def test_nonsense_is_a_problem_and_reaches_nobody(
    shared: Service, simulator: RunningSimulator, query: str
) -> None:
    answer = shared.get(f"/api/transcripts/{TRAIN}?lang=en&{query}")
    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "invalid_parameter"
    assert simulator.requests() == []


def test_a_translation_can_be_asked_for_and_fetched_later(shared: Service) -> None:
    accepted = shared.get(
        f"/api/transcripts/{TRAIN}?lang=en&translate=pt", headers={"Prefer": "respond-async"}
    )
    assert accepted.status_code == 202
    assert (accepted.json()["languages"], accepted.json()["translate"]) == (["en"], "pt")
    location = accepted.headers["Location"]
    done = wait_for(
        "the job's end",
        lambda: d if (d := shared.get(location).json())["finished_at"] else None,
    )
    assert done["state"] == "succeeded", done
    assert (done["result"]["language"], done["result"]["translated_from"]) == ("pt-BR", "en")
    assert texts(done["result"])[0].startswith("[pt-BR] ")
    # What the job fetched is kept for whoever asks next.
    assert shared.get(f"/api/transcripts/{TRAIN}?lang=en&translate=pt").json()["cached"]


def command(simulator: RunningSimulator, folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run `transcript-service fetch`: exit code, stdout, stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "transcript_service.cli", "fetch", *arguments],
        env={
            "PATH": os.environ["PATH"],
            "YOUTUBE_RESOLVE_TO": simulator.resolve_to,
            "YOUTUBE_CA_FILE": str(simulator.ca_file),
            "STATE_DIR": str(folder),
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_command_translates_too(simulator: RunningSimulator, tmp_path: Path) -> None:
    code, out, err = command(simulator, tmp_path, TRAIN, "--lang", "en", "--translate", "de")
    assert code == 0, err
    assert out.splitlines()[0] == "[de] This is film number 1."
    code, out, err = command(simulator, tmp_path, TRAIN, "--translate", "klingon")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "translate takes one language code" in err
