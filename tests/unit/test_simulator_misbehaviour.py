"""Each fault looks to a client as its name says."""

from __future__ import annotations

import re
import time

import pytest
import requests

from simulator.testing import RunningSimulator
from tests.simulator_kit import ANDROID, TRAIN, WATCH, captions, panel, player, tracks


@pytest.mark.parametrize(
    ("fault", "status", "body"),
    [
        ("http_403", 403, "permission"),
        ("http_404", 404, "not found"),
        ("http_429", 429, "automated queries"),
        ("http_500", 500, "Internal server error"),
        ("http_502", 502, "temporary"),
        ("http_503", 503, "unavailable"),
        ("empty_body", 200, "^$"),
        ("tiny_body", 200, '^{\\s+"wireMagic": "pb'),
        ("html_body", 200, "<!DOCTYPE html>"),
        ("truncated_json", 200, '^{\\s+"wireMagic"'),
        ("wrong_format", 200, "<transcript>"),
    ],
)
def test_a_fault_shows_as_what_it_is_called(
    simulator: RunningSimulator, session: requests.Session, fault: str, status: int, body: str
) -> None:
    simulator.set_fault(TRAIN.id, f"{fault}@timedtext")
    answer = captions(session)
    assert answer.status_code == status
    assert re.search(body, answer.text)
    if fault in ("tiny_body", "truncated_json"):
        with pytest.raises(requests.exceptions.JSONDecodeError):
            answer.json()
    assert simulator.requests(endpoint="timedtext")[-1]["faults"] == [fault]


def test_rate_limiting_says_when_to_come_back(
    simulator: RunningSimulator, session: requests.Session
) -> None:
    simulator.set_fault(TRAIN.id, "http_429@player:7")
    assert player(session, TRAIN).headers["Retry-After"] == "7"


@pytest.mark.parametrize(
    ("fault", "path", "shows"),
    [
        ("recaptcha", "watch", 'class="g-recaptcha"'),
        ("no_api_key", "watch", "ytInitialPlayerResponse"),
        ("consent_inline", "watch", 'action="https://consent.youtube.com/s"'),
        ("consent_forever", "watch", 'action="https://consent.youtube.com/s"'),
        ("consent_dialog", "watch", '"consentDialog": true'),
        ("endless_script", "watch", '"endlessScript": true'),
    ],
)
def test_a_fault_of_the_watch_page(
    simulator: RunningSimulator, session: requests.Session, fault: str, path: str, shows: str
) -> None:
    simulator.set_fault(TRAIN.id, fault)
    page = session.get(WATCH + TRAIN.id).text
    assert shows in page
    hidden = fault not in ("consent_dialog", "endless_script")
    assert ('"INNERTUBE_API_KEY"' not in page) is hidden
    session.cookies.set("CONSENT", "YES+cb", domain=".youtube.com")
    stays = fault != "consent_inline"
    assert (shows in session.get(WATCH + TRAIN.id).text) is stays


@pytest.mark.parametrize(
    ("fault", "shows"), [("po_token", "&exp=xpe&"), ("po_token_xpv", "&exp=xpv&")]
)
def test_app_caption_urls_can_be_gated_too(
    simulator: RunningSimulator, session: requests.Session, fault: str, shows: str
) -> None:
    simulator.set_fault(TRAIN.id, fault)
    assert shows in tracks(player(session, TRAIN))[0]["baseUrl"]
    assert captions(session).content == b""


def test_urls_can_be_handed_out_expired(
    simulator: RunningSimulator, session: requests.Session
) -> None:
    simulator.set_fault(TRAIN.id, "expired_signature")
    answer = captions(session)
    assert answer.status_code == 403
    assert "expired" in answer.text


@pytest.mark.parametrize(
    ("fault", "shows"), [("no_start", b"<text dur="), ("xml_entities", b"<!ENTITY ")]
)
def test_broken_xml(
    simulator: RunningSimulator, session: requests.Session, fault: str, shows: bytes
) -> None:
    simulator.set_fault(TRAIN.id, fault)
    assert shows in captions(session, "srv1").content


def test_a_label_can_lie(simulator: RunningSimulator, session: requests.Session) -> None:
    simulator.set_fault(TRAIN.id, "wrong_type@player")
    answer = player(session, TRAIN)
    assert answer.headers["Content-Type"] == "text/plain"
    assert answer.json()["videoDetails"]["videoId"] == TRAIN.id


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("reset", (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)),
        ("hang", requests.ReadTimeout),
    ],
)
def test_a_broken_connection_has_no_status(
    simulator: RunningSimulator, fault: str, error: type[Exception] | tuple[type[Exception], ...]
) -> None:
    simulator.set_fault(TRAIN.id, f"{fault}@player")
    with simulator.session(timeout_s=2) as session, pytest.raises(error):
        player(session, TRAIN)
    with simulator.session() as patient:
        deadline = time.monotonic() + 10
        while not (seen := simulator.requests(endpoint="player")):
            assert time.monotonic() < deadline
        assert seen[0]["status"] is None
        simulator.set_fault(TRAIN.id)
        assert player(patient, TRAIN).ok


@pytest.mark.parametrize("fault", ["slow_headers", "slow_body"])
def test_slow_answers_arrive_whole(
    simulator: RunningSimulator, session: requests.Session, fault: str
) -> None:
    simulator.set_fault(TRAIN.id, f"{fault}@player:0.4")
    started = time.monotonic()
    with session.post(
        "https://www.youtube.com/youtubei/v1/player",
        json={"context": ANDROID, "videoId": TRAIN.id},
        stream=True,
    ) as answer:
        headers_after = time.monotonic() - started
        assert answer.json()["videoDetails"]["videoId"] == TRAIN.id
    assert time.monotonic() - started >= 0.4
    assert (headers_after >= 0.4) is (fault == "slow_headers")


def test_a_panel_answer_of_unknown_shape_and_a_refused_panel(
    simulator: RunningSimulator, session: requests.Session
) -> None:
    simulator.set_fault(TRAIN.id, "unknown_shape")
    rows = panel(session, TRAIN, "get_panel").json()["payload"]["rows"]
    assert len(rows) == 24
    simulator.set_fault(TRAIN.id, "http_400")
    assert panel(session, TRAIN, "get_panel").status_code == 400
