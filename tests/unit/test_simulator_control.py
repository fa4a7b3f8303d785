"""The control API does what it is asked or says why not."""

from __future__ import annotations

import json

import pytest
import requests

from simulator.catalogue import by_title
from simulator.testing import RunningSimulator
from tests.simulator_kit import TRAIN, player


def control(simulator: RunningSimulator, method: str, path: str, body: object) -> requests.Response:
    return requests.request(
        method,
        f"https://127.0.0.1:{simulator.port}/_sim/{path}",
        data=body if isinstance(body, str) else json.dumps(body),
        verify=str(simulator.ca_file),
        timeout=10,
    )


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", f"videos/{TRAIN.id}/fault", "http_429", 400),  # text, but not JSON
        ("PUT", f"videos/{TRAIN.id}/fault", '"http_429"', 200),
        ("PUT", f"videos/{TRAIN.id}/fault", "null", 200),
        ("PUT", f"videos/{TRAIN.id}/fault", {"name": "http_499"}, 400),
        ("PUT", "videos/nothing/fault", "null", 404),
        ("GET", "videos/nothing/transcript", "", 404),
        ("GET", f"videos/{TRAIN.id}/transcript?lang=ko", "", 404),
        ("PUT", "faults", {"seed": "x"}, 400),
        ("PUT", "faults", {"faults": ["reset=2"]}, 400),
        ("PUT", "proxy", {"users": {"a": {"fault": "bad"}}}, 400),
        ("GET", "requests?last=0", "", 400),
        ("DELETE", "faults", "", 204),
    ],
)
def test_control_requests_are_done_or_refused_with_a_reason(
    simulator: RunningSimulator, method: str, path: str, body: object, status: int
) -> None:
    answer = control(simulator, method, path, body)
    assert answer.status_code == status
    if status >= 400:
        assert answer.json()["error"]


def test_the_catalogue_and_expected_transcripts_are_published(simulator: RunningSimulator) -> None:
    videos = control(simulator, "GET", "videos", "").json()["videos"]
    train = next(video for video in videos if video["id"] == TRAIN.id)
    assert train["languages"] == ["de", "en", "es", "fr"]
    path = f"videos/{TRAIN.id}/transcript?lang=en&kind=asr"
    segments = control(simulator, "GET", path, "").json()["segments"]
    assert segments[0] == {"start": 0.4, "duration": 7.737, "text": "this is film number 1"}


def test_removing_a_videos_faults_brings_its_own_back(
    simulator: RunningSimulator, session: requests.Session
) -> None:
    robot = by_title("Are You a Robot")
    simulator.set_fault(robot.id)
    assert player(session, robot).json()["playabilityStatus"]["status"] == "OK"
    control(simulator, "DELETE", f"videos/{robot.id}/fault", "")
    assert player(session, robot).json()["playabilityStatus"]["status"] == "LOGIN_REQUIRED"
