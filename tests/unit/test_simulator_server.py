"""The site answers as YouTube does."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from simulator import params
from simulator.catalogue import by_title
from simulator.model import Video
from simulator.testing import RunningSimulator
from tests.simulator_kit import BREAD, TRAIN, WATCH, WEB, panel, player, tracks


def script_json(page: str, name: str) -> Any:
    match = re.search(rf"{name}\s*=\s*", page)
    assert match
    return json.JSONDecoder().raw_decode(page, match.end())[0]


def test_names_and_caption_urls_differ_between_app_and_page_as_recorded(
    session: requests.Session,
) -> None:
    app = tracks(player(session, TRAIN))
    page = tracks(player(session, TRAIN, WEB))
    assert app[1]["name"] == {"runs": [{"text": "English (auto-generated)"}]}
    assert page[1]["name"] == {"simpleText": "English (auto-generated)"}
    assert app[1]["baseUrl"].endswith("&kind=asr&lang=en&fmt=srv3")
    assert "exp=" not in app[0]["baseUrl"]
    assert all("&exp=xpe&" in track["baseUrl"] for track in page)


def test_the_watch_page_holds_key_context_player_answer_and_panel_params(
    session: requests.Session,
) -> None:
    page = session.get(WATCH + BREAD.id).text
    assert '"INNERTUBE_API_KEY": "' in page
    answer = script_json(page, "ytInitialPlayerResponse")
    assert answer["videoDetails"]["videoId"] == BREAD.id
    data = script_json(page, "ytInitialData")
    assert params.transcript_params(BREAD.id, "en", "manual") in json.dumps(data)


@pytest.mark.parametrize(
    ("title", "status", "reason"),
    [
        ("Private Diary", "LOGIN_REQUIRED", "This video is private"),
        ("Removed by Its Maker", "ERROR", "This video is unavailable"),
        (
            "For Grown-ups Only",
            "LOGIN_REQUIRED",
            "This video may be inappropriate for some users.",
        ),
        ("Are You a Robot", "LOGIN_REQUIRED", "Sign in to confirm you’re not a bot"),
        ("Premiere Tonight", "LIVE_STREAM_OFFLINE", "This live event will begin in 2 hours."),
    ],
)
def test_a_video_that_cannot_be_played_says_why(
    session: requests.Session, title: str, status: str, reason: str
) -> None:
    answer = player(session, by_title(title))
    assert answer.headers["Content-Type"].startswith("application/json")
    verdict = answer.json()["playabilityStatus"]
    assert (verdict["status"], verdict["reason"]) == (status, reason)
    assert "captions" not in answer.json()


def test_an_unknown_video_is_unavailable(session: requests.Session) -> None:
    gone = Video("AAAAAAAAAAA", "", "", 0)
    assert player(session, gone).json()["playabilityStatus"]["status"] == "ERROR"
    assert session.get(WATCH + gone.id).status_code == 200


@pytest.mark.parametrize(
    ("change", "status", "empty"),
    [
        ({}, 200, False),
        ({"fmt": "json3"}, 200, False),
        ({"fmt": "srv9"}, 400, False),
        ({"lang": "ko"}, 200, True),
        ({"kind": ""}, 200, False),
        ({"tlang": "de"}, 200, False),
        ({"tlang": "xx"}, 400, False),
        ({"signature": "0" * 40}, 403, False),
        ({"expire": "1700000000"}, 403, False),
        ({"v": BREAD.id}, 403, False),
        ({"sparams": "ip"}, 403, False),
    ],
)
def test_timedtext_serves_only_the_urls_it_signed(
    session: requests.Session, change: dict[str, str], status: int, empty: bool
) -> None:
    url = urlsplit(tracks(player(session, TRAIN))[1]["baseUrl"])
    query = {name: values[0] for name, values in parse_qs(url.query).items()} | change
    answer = session.get("https://www.youtube.com/api/timedtext", params=query)
    assert answer.status_code == status
    assert (answer.content == b"") is empty


@pytest.mark.parametrize(
    ("added", "empty"),
    [("", True), ("&pot=token", True), ("&c=WEB", True), ("&pot=token&c=WEB", False)],
)
def test_a_gated_caption_url_is_empty_without_its_token(
    session: requests.Session, added: str, empty: bool
) -> None:
    url = tracks(player(session, TRAIN, WEB))[0]["baseUrl"]
    answer = session.get(url + added)
    assert answer.status_code == 200
    assert (answer.content == b"") is empty


@pytest.mark.parametrize(
    ("title", "path", "status"),
    [
        ("Bread for a Village", "get_transcript", 200),
        ("Bread for a Village", "get_panel", 400),
        ("The Seven O'Clock Train", "get_panel", 200),
        ("The Seven O'Clock Train", "get_transcript", 400),
        ("Maps of Nowhere", "get_panel", 200),
        ("No Transcript Button", "get_panel", 400),
        ("Private Diary", "get_panel", 400),
    ],
)
def test_each_panel_layout_answers_on_its_own_endpoint(
    session: requests.Session, title: str, path: str, status: int
) -> None:
    answer = panel(session, by_title(title), path)
    assert answer.status_code == status
    if status == 400:
        assert answer.json()["error"]["status"] == "FAILED_PRECONDITION"


def test_panels_hold_every_line_and_the_modern_one_speaks_the_pages_language(
    session: requests.Session,
) -> None:
    classic = panel(session, BREAD, "get_transcript").text
    assert classic.count('"transcriptSegmentRenderer"') == 30
    chaptered = panel(session, by_title("The Clock Mender"), "get_transcript").text
    assert chaptered.count('"transcriptSectionHeaderRenderer"') == 2
    assert panel(session, TRAIN, "get_panel").text.count('"transcriptSegmentViewModel"') == 24
    assert "Film Nummer 1" in panel(session, TRAIN, "get_panel", hl="de").text


def test_consent_is_asked_once_and_then_remembered(
    simulator: RunningSimulator, session: requests.Session
) -> None:
    simulator.set_fault(TRAIN.id, "consent")
    form = session.get(WATCH + TRAIN.id)
    assert urlsplit(form.url).hostname == "consent.youtube.com"
    assert 'action="https://consent.youtube.com/s"' in form.text
    hidden = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form.text))
    page = session.post("https://consent.youtube.com/s", data=hidden)
    assert page.url == WATCH + TRAIN.id
    assert "INNERTUBE_API_KEY" in page.text
    assert session.cookies.get("CONSENT") == f"YES+{hidden['v']}"


def test_consent_never_leads_away_from_youtube(session: requests.Session) -> None:
    answer = session.post(
        "https://consent.youtube.com/s",
        data={"continue": "https://example.com/"},
        allow_redirects=False,
    )
    assert answer.headers["Location"] == "https://www.youtube.com/"


def test_a_phone_is_sent_to_the_mobile_page(session: requests.Session) -> None:
    phone = {"User-Agent": "Mozilla/5.0 (Linux; Android 14) Chrome/131 Mobile Safari/537.36"}
    page = session.get(WATCH + TRAIN.id, headers=phone)
    assert urlsplit(page.url).hostname == "m.youtube.com"
    assert "<ytm-app" in page.text


def test_the_log_names_what_was_asked_and_how_long_it_took(
    simulator: RunningSimulator, session: requests.Session
) -> None:
    player(session, TRAIN)
    (entry,) = simulator.requests(endpoint="player")
    assert (entry["video"], entry["client"], entry["status"]) == (TRAIN.id, "ANDROID", 200)
    assert entry["proxy_user"] is None
    assert 0 < entry["latency_s"] < 5


def test_no_other_host_name_is_answered_for(simulator: RunningSimulator) -> None:
    answer = requests.get(
        f"https://127.0.0.1:{simulator.port}/generate_204",
        headers={"Host": "www.example.com"},
        verify=str(simulator.ca_file),
        timeout=10,
    )
    assert answer.status_code == 421


def test_sound_is_served_by_range_and_only_with_a_good_url(session: requests.Session) -> None:
    answer = player(session, by_title("One Sentence")).json()
    (sound,) = answer["streamingData"]["adaptiveFormats"]
    whole = session.get(sound["url"])
    assert len(whole.content) == int(sound["contentLength"])
    part = session.get(sound["url"], headers={"Range": "bytes=100-199"})
    assert part.status_code == 206
    assert part.content == whole.content[100:200]
    assert session.get(sound["url"] + "&range=100-199").content == part.content
    assert session.get(sound["url"], headers={"Range": "bytes=99999999-"}).status_code == 416
    expired = re.sub(r"expire=\d+", "expire=1700000000", sound["url"])
    assert session.get(expired).status_code == 403
