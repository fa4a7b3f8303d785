"""Recordings are told apart by their content, served as they are, and refused in one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from simulator import formats, innertube, pages, panels, recordings
from simulator.catalogue import by_title
from simulator.innertube import Json
from simulator.model import OK, Playability, Track, Video
from simulator.testing import RunningSimulator, running_simulator
from tests.simulator_kit import ANDROID, WATCH, tracks

CLASSIC = by_title("Bread for a Village")
MODERN = by_title("Counting Stars")
SPOKEN = MODERN.tracks[0]
WRITTEN = by_title("One Sentence").tracks[0]


def answer(video: Video, playability: Playability = OK, *, web: bool = False) -> Json:
    return innertube.player(
        video,
        playability=playability,
        web=web,
        caption_url=lambda track: (
            f"https://www.youtube.com/api/timedtext?v={video.id}&signature=OLD.SIGNATURE"
            f"&expire=1700000000&lang={track.lang}" + ("&kind=asr" if track.kind == "asr" else "")
        ),
        audio=[],
    )


def named(video: Video, video_id: str) -> Video:
    return Video(video_id, video.title, video.author, video.duration_s, video.tracks)


OTHER = named(CLASSIC, "otherVideo1")
PAGE_ONLY = named(CLASSIC, "pageOnly_01")
BLOCKED = Playability("LOGIN_REQUIRED", "Sign in to confirm you’re not a bot")

# File names say nothing on purpose.
FILES: dict[str, str] = {
    "a.bin": json.dumps(answer(OTHER)),
    "b": json.dumps(answer(OTHER, BLOCKED)),
    "c.html": pages.watch(PAGE_ONLY, answer(PAGE_ONLY, web=True), mobile=False, hl="en"),
    "d.txt": formats.srv1(SPOKEN),
    "e.txt": formats.json3(WRITTEN),
    "f.txt": formats.srv3(SPOKEN) + "\n",
    "g.json": json.dumps(panels.transcript_panel(CLASSIC, CLASSIC.tracks[0])),
    "h.json": json.dumps(panels.modern_panel(MODERN, SPOKEN)),
    "i.html": pages.consent("https://www.youtube.com/"),
    "j.html": pages.recaptcha(),
    "k.json": '{"segments": 12}',
    "l.md": "# notes",
    "m.xml": '<?xml version="1.0"?><transcript><text start="broken',
}
KINDS = {
    "a.bin": "player", "b": "player", "c.html": "watch", "d.txt": "srv1", "e.txt": "json3",
    "f.txt": "srv3", "g.json": "get_transcript", "h.json": "get_panel", "i.html": "consent",
    "j.html": "recaptcha", "k.json": None, "l.md": None, "m.xml": "srv1",
}  # fmt: skip


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    folder = tmp_path_factory.mktemp("recordings")
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    with running_simulator(
        tmp_path_factory.mktemp("simulator"), recordings_folder=folder
    ) as running:
        yield running


@pytest.fixture
def session(simulator: RunningSimulator) -> Iterator[requests.Session]:
    with simulator.session() as made:
        yield made


def served_as(simulator: RunningSimulator, file: str) -> Video:
    return next(video for video in simulator.state.videos() if video.recording == file)


def player(session: requests.Session, video: Video) -> requests.Response:
    return session.post(
        "https://www.youtube.com/youtubei/v1/player",
        json={"context": ANDROID, "videoId": video.id},
    )


@pytest.mark.parametrize("file", FILES)
def test_a_recording_is_known_by_its_content(file: str) -> None:
    assert recordings.classify(FILES[file].encode()) == KINDS[file]


@pytest.mark.parametrize("file", ["a.bin", "b"])
def test_a_player_answer_is_served_byte_for_byte(
    simulator: RunningSimulator, session: requests.Session, file: str
) -> None:
    assert player(session, served_as(simulator, file)).text == FILES[file]


def test_a_recorded_caption_url_without_its_body_gives_a_made_up_transcript(
    session: requests.Session,
) -> None:
    urls = [track["baseUrl"] for track in tracks(player(session, OTHER))]
    assert "Simulated manual captions, language en." in session.get(urls[0]).text
    assert "Simulated asr captions, language en." in session.get(urls[1]).text


def test_a_watch_page_is_served_as_it_is_and_its_tracks_by_the_player(
    session: requests.Session,
) -> None:
    assert session.get(WATCH + PAGE_ONLY.id).text == FILES["c.html"]
    listed = tracks(player(session, PAGE_ONLY))
    assert [track["name"]["runs"][0]["text"] for track in listed] == [
        "English",
        "English (auto-generated)",
    ]


@pytest.mark.parametrize(
    ("file", "fmt", "track"),
    [("d.txt", "srv1", SPOKEN), ("e.txt", "json3", WRITTEN), ("f.txt", "srv3", SPOKEN)],
)
def test_caption_bodies_are_a_track_in_every_format(
    simulator: RunningSimulator, session: requests.Session, file: str, fmt: str, track: Track
) -> None:
    (listed,) = tracks(player(session, served_as(simulator, file)))
    assert (listed.get("kind", "manual")) == track.kind
    url = listed["baseUrl"].replace("&fmt=srv3", "")
    assert session.get(f"{url}&fmt={fmt}").text == FILES[file]
    for other in ("srv1", "srv3", "json3"):
        body = session.get(f"{url}&fmt={other}").content
        cues = recordings.read_cues(other, body)
        assert [(cue.start_ms, cue.text) for cue in cues] == [
            (cue.start_ms, cue.text) for cue in track.cues
        ]


@pytest.mark.parametrize(
    ("file", "path", "video"),
    [("g.json", "get_transcript", CLASSIC), ("h.json", "get_panel", None)],
)
def test_panel_answers_are_served_for_the_video_they_name_or_an_assigned_one(
    simulator: RunningSimulator,
    session: requests.Session,
    file: str,
    path: str,
    video: Video | None,
) -> None:
    owner = served_as(simulator, file)
    assert video is None or owner.id == video.id
    data = session.get(WATCH + owner.id).text
    found = json.JSONDecoder().raw_decode(data, data.index("ytInitialData = ") + 16)[0]
    command = next(recordings.find_all(found, "continuationEndpoint"))
    given = next(recordings.find_all(command, "params"))
    answer = session.post(
        f"https://www.youtube.com/youtubei/v1/{path}",
        json={
            "context": {"client": {"clientName": "WEB", "hl": "en"}},
            "params": given,
            "panelId": innertube.MODERN_PANEL,
        },
    )
    assert answer.text == FILES[file]


@pytest.mark.parametrize("file", ["i.html", "j.html"])
def test_pages_without_a_video_stand_in_for_its_watch_page(
    simulator: RunningSimulator, session: requests.Session, file: str
) -> None:
    assert session.get(WATCH + served_as(simulator, file).id).text == FILES[file]


def test_a_damaged_body_is_served_all_the_same(
    simulator: RunningSimulator, session: requests.Session
) -> None:
    (listed,) = tracks(player(session, served_as(simulator, "m.xml")))
    url = listed["baseUrl"].replace("&fmt=srv3", "")
    assert session.get(url).text == FILES["m.xml"]


def test_a_folder_that_cannot_be_read_is_said_in_one_line(tmp_path: Path) -> None:
    for folder in (tmp_path / "missing", tmp_path / "file"):
        (tmp_path / "file").touch()
        with pytest.raises(recordings.RecordingsError, match="cannot read the recordings in"):
            recordings.load(folder)
