"""A player answer or a redirect that leads elsewhere is not followed: not by any stage.

Each attack is a case of the simulator's (see `simulator/cases.py`): a video whose player
answer or caption URL names an address inside our network, plain http, or a host that only
looks like YouTube's. Somebody listens there.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import HttpUrl

from simulator.catalogue import by_title
from simulator.testing import RunningSimulator, running_simulator
from tests.speech_server import speech_server
from transcript_service.proxies import JobProxy, Proxy, ProxyPool
from transcript_service.resilience import Deadline
from transcript_service.settings import Settings
from transcript_service.transcripts.audio import download_with_yt_dlp
from transcript_service.transcripts.http import YouTubeSession, is_youtubes
from transcript_service.transcripts.model import TranscriptError
from transcript_service.transcripts.stages.asr import AsrStage
from transcript_service.transcripts.stages.base import Job, TranscriptStage
from transcript_service.transcripts.stages.timedtext import TimedtextStage
from transcript_service.transcripts.stages.youtube_api import YouTubeApiStage
from transcript_service.transcripts.wanted import Wanted

DIRECT = JobProxy(ProxyPool([]), "test", None)


class Listener:
    """Counts who comes."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.visits = 0
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            try:
                visitor, _ = self._server.accept()
            except OSError:
                return
            self.visits += 1
            visitor.close()

    def close(self) -> None:
        self._server.close()


LISTENER = Listener()
INSIDE = f"127.0.0.1:{LISTENER.port}"
ADDRESSES = {
    "loopback": f"http://{INSIDE}/api/timedtext?v=ID",
    "insideTls": f"https://{INSIDE}/api/timedtext?v=ID",
    "metadata": "http://169.254.169.254/latest/meta-data?v=ID",
    "plainHttp": "http://www.youtube.com/api/timedtext?v=ID",
    "otherPort": f"https://www.youtube.com:{LISTENER.port}/api/timedtext?v=ID",
    "userinfo": f"https://www.youtube.com@{INSIDE}/api/timedtext?v=ID",
    "lookalike": "https://www.youtube.com.example.net/api/timedtext?v=ID",
    "suffix": "https://notyoutube.com/api/timedtext?v=ID",
    "file": "file:///etc/passwd?v=ID",
}


def _case(folder: Path, name: str, caption: str, audio: str, redirect: str = "") -> None:
    video = name.ljust(11, "_")
    (folder / video).mkdir()
    track = {
        "languageCode": "en",
        "baseUrl": caption.replace("ID", video),
        "name": {"runs": [{"text": "English"}]},
    }
    player = {
        "playabilityStatus": {"status": "OK"},
        "videoDetails": {"videoId": video, "title": name, "lengthSeconds": "5"},
        "streamingData": {
            "adaptiveFormats": [
                {"itag": 140, "url": audio, "mimeType": 'audio/mp4; codecs="mp4a.40.2"',
                 "bitrate": 9}
            ]
        },
        "captions": {
            "playerCaptionsTracklistRenderer": {
                "captionTracks": [track]
            }
        },
    }  # fmt: skip
    (folder / video / "player.json").write_text(json.dumps(player))
    if redirect:
        for fmt in ("json3", "srv1", "srv3"):
            (folder / video / f"track0.{fmt}").write_bytes(b"")
            told = {"status": 302, "headers": {"Location": redirect.replace("ID", video)}}
            (folder / video / f"track0.{fmt}.hdr").write_text(json.dumps(told))


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    folder = tmp_path_factory.mktemp("cases")
    home = "https://www.youtube.com/api/timedtext?v=ID&lang=en"
    for name, address in ADDRESSES.items():
        _case(folder, name, caption=address, audio=address)
        _case(folder, f"{name[:8]}R", caption=home, audio=address, redirect=address)
    with running_simulator(tmp_path_factory.mktemp("sim"), recordings_folder=folder) as running:
        yield running


@pytest.fixture
def settings(simulator: RunningSimulator) -> Iterator[Settings]:
    simulator.reset()
    with speech_server() as speech:
        yield Settings(
            youtube_resolve_to=simulator.resolve_to,
            youtube_ca_file=simulator.ca_file,
            asr_audio_sources=("player",),
            asr_endpoint=HttpUrl(speech.url),
        )


@pytest.fixture(autouse=True)
def _nobody_came() -> Iterator[None]:
    before = LISTENER.visits
    yield
    assert LISTENER.visits == before


def assert_refused(stage: TranscriptStage, video: str, simulator: RunningSimulator) -> None:
    with pytest.raises(TranscriptError, match="leads away") as refusal:
        stage.fetch(Job(Wanted(video.ljust(11, "_")), Deadline(60), DIRECT))
    assert refusal.value.error_type == "parse_error"
    hosts = {entry["host"].rpartition(":")[0] or entry["host"] for entry in simulator.requests()}
    assert hosts <= {"www.youtube.com"}


@pytest.mark.parametrize("make", [YouTubeApiStage, TimedtextStage])
@pytest.mark.parametrize("name", ADDRESSES)
def test_captions_elsewhere_are_not_fetched(
    make: type[YouTubeApiStage | TimedtextStage],
    name: str,
    settings: Settings,
    simulator: RunningSimulator,
) -> None:
    assert_refused(make(settings), name, simulator)
    assert_refused(make(settings), f"{name[:8]}R", simulator)


@pytest.mark.parametrize("name", ADDRESSES)
def test_sound_elsewhere_is_not_fetched(
    name: str, settings: Settings, simulator: RunningSimulator
) -> None:
    assert_refused(AsrStage(settings), name, simulator)


@pytest.mark.parametrize("proxied", [False, True])
@pytest.mark.parametrize("name", ["loopback", "insideTls", "plainHttp", "lookalike"])
def test_yt_dlp_fetches_no_sound_elsewhere(
    name: str, proxied: bool, settings: Settings, simulator: RunningSimulator
) -> None:
    simulator.set_proxy_users({"alice": {"password": "pass"}})
    proxy = Proxy(f"http://127.0.0.1:{simulator.proxy_port}", "alice", "pass") if proxied else None
    with pytest.raises(TranscriptError) as refusal:
        download_with_yt_dlp(settings, name.ljust(11, "_"), Deadline(120), proxy)
    assert refusal.value.error_type == "asr_unavailable"
    asked = [entry for entry in simulator.requests() if not entry["path"].startswith("/_sim")]
    assert {entry["endpoint"] for entry in asked} >= {"player"}, "it did not get that far"
    assert all(entry["host"].split(":")[0].endswith("youtube.com") for entry in asked)
    targets = {connect["target"] for connect in simulator.connects()}
    assert all(target.endswith(".youtube.com:443") for target in targets)
    assert bool(targets) is proxied


@pytest.mark.parametrize("way", ["player", "yt_dlp"])
def test_a_body_that_unpacks_to_more_than_is_allowed_ends_the_download(
    way: Any, settings: Settings, simulator: RunningSimulator
) -> None:
    video = by_title("One Sentence").id
    simulator.set_fault(video, "bomb@audio")
    bounded = settings.model_copy(update={"asr_max_audio_mb": 5, "asr_audio_sources": (way,)})
    with pytest.raises(TranscriptError) as refusal:
        AsrStage(bounded).fetch(Job(Wanted(video), Deadline(60), DIRECT))
    assert refusal.value.error_type == {"player": "parse_error", "yt_dlp": "asr_unavailable"}[way]
    assert simulator.requests(endpoint="audio")[0]["faults"] == ["bomb"]


@pytest.mark.parametrize(
    ("url", "ours"),
    [
        ("https://www.youtube.com/watch?v=x", True),
        ("https://youtube.com/", True),
        ("https://rr3---sn-4g5e6nzz.googlevideo.com/videoplayback", True),
        ("https://www.youtube.com:443/", True),
        ("https://consent.youtube.com/m", True),
        ("https://www.google.com/sorry/index", True),
        ("http://www.youtube.com/", False),
        ("https://www.youtube.com:8443/", False),
        ("https://youtube.com.example.net/", False),
        ("https://evilyoutube.com/", False),
        ("https://user@www.youtube.com/", False),
        ("https://sites.google.com/", False),
        ("https://[::1]/", False),
        ("https://[oops/", False),
        ("//www.youtube.com/", False),
        ("", False),
    ],
)
def test_which_addresses_are_youtubes(url: str, ours: bool) -> None:
    assert is_youtubes(url) is ours


def test_a_library_that_is_handed_the_session_is_bound_too(settings: Settings) -> None:
    with YouTubeSession(settings, Deadline(10)) as session:
        for url in (f"http://{INSIDE}/", f"https://{INSIDE}/"):
            with pytest.raises(TranscriptError, match="leads away"):
                session.get(url)


def test_a_login_goes_to_its_own_domain_only_and_never_to_plain_http(
    simulator: RunningSimulator, settings: Settings, tmp_path: Path
) -> None:
    cookies = tmp_path / "cookies.txt"
    rows = [
        ".youtube.com\tTRUE\t/\tTRUE\t4102444800\tLOGIN_INFO\tvalue-of-the-login",
        "accounts.youtube.com\tFALSE\t/\tFALSE\t4102444800\tONLY_THERE\tvalue-of-another",
        ".google.com\tTRUE\t/\tFALSE\t4102444800\tSID\tvalue-of-google",
        ".youtube.com\tTRUE\t/watch\tTRUE\t4102444800\tON_PAGES\tvalue-of-pages",
    ]
    cookies.write_text("\n".join(["# Netscape HTTP Cookie File", *rows, ""]))
    with_login = settings.model_copy(update={"cookies_file": cookies})
    sent: dict[str, Any] = {}
    with YouTubeSession(with_login, Deadline(20)) as session:
        session.get("https://www.youtube.com/generate_204")
        session.get("https://www.youtube.com/watch?v=" + by_title("One Sentence").id)
        session.get("https://rr1---sn-simulated.googlevideo.com/generate_204")
        with pytest.raises(TranscriptError, match="leads away"):
            session.get("http://www.youtube.com/generate_204")
    for entry in simulator.requests():
        sent[f"{entry['host'].split(':')[0]}{entry['path'].split('?')[0]}"] = set(entry["cookies"])
    assert sent == {
        "www.youtube.com/generate_204": {"LOGIN_INFO"},
        "www.youtube.com/watch": {"LOGIN_INFO", "ON_PAGES"},
        "rr1---sn-simulated.googlevideo.com/generate_204": set(),
    }


def test_a_login_that_may_travel_openly_does_not(settings: Settings, tmp_path: Path) -> None:
    cookies = tmp_path / "cookies.txt"
    row = ".youtube.com\tTRUE\t/\tFALSE\t4102444800\tLOGIN_INFO\tvalue-of-the-login"
    cookies.write_text(f"# Netscape HTTP Cookie File\n{row}\n")
    with_login = settings.model_copy(update={"cookies_file": cookies})
    with YouTubeSession(with_login, Deadline(20)) as session:
        assert session.cookies.get("LOGIN_INFO")
        with pytest.raises(TranscriptError, match="leads away"):
            session.get("http://www.youtube.com/generate_204")
