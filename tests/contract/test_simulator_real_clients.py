"""Real clients of YouTube work against the simulator and fail the way they do on YouTube."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from xml.etree.ElementTree import ParseError

import defusedxml
import pytest
import requests
import youtube_transcript_api as yta

from simulator.catalogue import CATALOGUE, by_title, expected_transcript
from simulator.model import Video
from simulator.testing import RunningSimulator, running_simulator

FOLDER = Path(__file__).parents[3] / "shared" / "youtube-recordings"
TRAIN = by_title("The Seven O'Clock Train")


@pytest.fixture(scope="module")
def shared_simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    folder = FOLDER if FOLDER.is_dir() else None
    with running_simulator(
        tmp_path_factory.mktemp("simulator"), recordings_folder=folder
    ) as running:
        yield running


@pytest.fixture
def api(simulator: RunningSimulator) -> Iterator[yta.YouTubeTranscriptApi]:
    with simulator.session() as session:
        yield yta.YouTubeTranscriptApi(http_client=session)


TRACKS = [
    pytest.param(video, track.lang, track.kind, id=f"{video.title}/{track.lang}/{track.kind}")
    for video in CATALOGUE.values()
    if video.playability.ok and video.fault in (None, "consent")
    for track in video.tracks
]


@pytest.mark.parametrize(("video", "lang", "kind"), TRACKS)
def test_youtube_transcript_api_reads_every_track(
    api: yta.YouTubeTranscriptApi, video: Video, lang: str, kind: str
) -> None:
    listed = api.list(video.id)
    find = (
        listed.find_generated_transcript
        if kind == "asr"
        else listed.find_manually_created_transcript
    )
    fetched = find([lang]).fetch()
    assert [(s.start, s.duration, s.text) for s in fetched if s.text.strip()] == [
        (s.start, s.duration, s.text)
        for s in expected_transcript(video.id, lang, "asr" if kind == "asr" else "manual")
    ]


def test_youtube_transcript_api_translates(api: yta.YouTubeTranscriptApi) -> None:
    fetched = api.list(TRAIN.id).find_transcript(["en"]).translate("ja").fetch()
    assert fetched.snippets[0].text == "[ja] This is film number 1."


@pytest.mark.parametrize(
    ("fault", "error", "requests_made"),
    [
        ("recaptcha", yta.IpBlocked, 1),
        ("no_api_key", yta.YouTubeDataUnparsable, 1),
        ("consent_forever", yta.FailedToCreateConsentCookie, 2),
        ("http_429@watch", yta.IpBlocked, 1),
        ("http_429@player", yta.IpBlocked, 2),
        ("http_429@timedtext", yta.IpBlocked, 3),
        ("http_403@timedtext", yta.YouTubeRequestFailed, 3),
        ("http_500@player", yta.YouTubeRequestFailed, 2),
        ("bot_check", yta.RequestBlocked, 2),
        ("po_token", yta.PoTokenRequired, 2),
        ("po_token_xpv", ParseError, 3),
        ("expired_signature", yta.YouTubeRequestFailed, 3),
        ("empty_body@timedtext", ParseError, 3),
        ("html_body@timedtext", ParseError, 3),
        ("truncated_json@timedtext", ParseError, 3),
        ("truncated_json@player", requests.exceptions.JSONDecodeError, 2),
        ("html_body@player", requests.exceptions.JSONDecodeError, 2),
        ("xml_entities", defusedxml.EntitiesForbidden, 3),
        ("no_start", KeyError, 3),
        ("hang@timedtext", requests.exceptions.ReadTimeout, 3),
        ("slow_headers@player:20", requests.exceptions.ReadTimeout, 2),
        ("reset@timedtext", requests.exceptions.RequestException, 3),
    ],
)
def test_youtube_transcript_api_fails_as_on_youtube(
    simulator: RunningSimulator, fault: str, error: type[Exception], requests_made: int
) -> None:
    simulator.set_fault(TRAIN.id, fault)
    patience_s = 2 if error is requests.exceptions.ReadTimeout else 20
    with simulator.session(timeout_s=patience_s) as session, pytest.raises(error) as raised:
        yta.YouTubeTranscriptApi(http_client=session).fetch(TRAIN.id)
    assert raised.type is error or fault.startswith("reset")
    assert len(simulator.requests(video=TRAIN.id)) >= requests_made - 1
    assert simulator.state.log.total <= requests_made


def test_youtube_transcript_api_takes_srv3_for_an_empty_transcript(
    simulator: RunningSimulator, api: yta.YouTubeTranscriptApi
) -> None:
    simulator.set_fault(TRAIN.id, "wrong_format")
    assert len(api.fetch(TRAIN.id)) == 0


@pytest.mark.parametrize(
    ("title", "error"),
    [
        ("Private Diary", yta.VideoUnplayable),
        ("Removed by Its Maker", yta.VideoUnavailable),
        ("For Grown-ups Only", yta.AgeRestricted),
        ("Not in Your Country", yta.VideoUnplayable),
        ("Premiere Tonight", yta.VideoUnplayable),
        ("Captions Switched Off", yta.TranscriptsDisabled),
        ("Der Morgenzug", None),
        ("Brot für das Dorf", yta.NoTranscriptFound),
        ("Are You a Robot", yta.RequestBlocked),
    ],
)
def test_youtube_transcript_api_knows_why_a_video_has_no_transcript(
    api: yta.YouTubeTranscriptApi, title: str, error: type[Exception] | None
) -> None:
    if error is None:
        assert len(api.fetch(by_title(title).id, languages=["de"]))
        return
    with pytest.raises(error) as raised:
        api.fetch(by_title(title).id)
    assert raised.type is error


CLASSES: dict[str, type[Exception] | None] = {
    "ok": None,
    "transcripts_disabled": yta.TranscriptsDisabled,
    "age_restricted": yta.AgeRestricted,
    "request_blocked": yta.RequestBlocked,
    "video_unavailable": yta.VideoUnavailable,
    "consent_required": yta.FailedToCreateConsentCookie,
    "ip_blocked": yta.IpBlocked,
}


@pytest.mark.skipif(not FOLDER.is_dir(), reason="no recordings beside this checkout")
def test_youtube_transcript_api_takes_every_recording_for_what_it_is(
    simulator: RunningSimulator, api: yta.YouTubeTranscriptApi
) -> None:
    expected = json.loads((FOLDER / "expected.json").read_text())
    for file, wanted in expected.items():
        known = wanted.get("video_id")
        video = known or next(v.id for v in simulator.state.videos() if v.recording == file)
        error = CLASSES[wanted.get("must_classify_as", "ok")]
        if error is not None:
            with pytest.raises(error):
                api.list(video)
            continue
        fetched = next(iter(api.list(video))).fetch()
        assert len(fetched) == wanted.get("segments", len(fetched)) > 0


@pytest.mark.skipif(find_spec("yt_dlp") is None, reason="yt-dlp is not installed")
def test_yt_dlp_downloads_captions_and_sound_through_the_proxy(
    simulator: RunningSimulator, tmp_path: Path
) -> None:
    video = by_title("Apple Trees")
    options = (
        "--ignore-config --no-cache-dir --compat-options no-certifi --format bestaudio "
        "--fixup never --write-subs --sub-langs en,ja --sub-format json3 --write-info-json"
    )
    proxy = f"http://127.0.0.1:{simulator.proxy_port}"
    url = f"https://www.youtube.com/watch?v={video.id}"
    command = [*options.split(), "--proxy", proxy, "--output", "%(id)s.%(ext)s", url]
    done = subprocess.run(
        [sys.executable, "-m", "yt_dlp", *command],
        cwd=tmp_path,
        env={**os.environ, "SSL_CERT_FILE": str(simulator.ca_file)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    info = json.loads((tmp_path / f"{video.id}.info.json").read_text())
    assert info["duration"] == video.duration_s
    assert [chapter["title"] for chapter in info["chapters"]] == [c.title for c in video.chapters]
    assert (tmp_path / f"{video.id}.flac").read_bytes()[:4] == b"fLaC"
    for lang in ("en", "ja"):
        events = json.loads((tmp_path / f"{video.id}.{lang}.json3").read_text())["events"]
        assert ["".join(s["utf8"] for s in e["segs"]) for e in events] == [
            segment.text for segment in expected_transcript(video.id, lang)
        ]
    assert {entry["proxy_user"] for entry in simulator.requests()} == {""}
