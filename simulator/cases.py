"""Situations that people reported, as folders: one a video, with all that YouTube answers for it.

``player.json`` is the answer of the player, in the page and over the API; ``track<N>.<format>``
is the body of the caption URL with ``track=<N>``, ``track<N>.<language>.<format>`` the same
with ``tlang``; a ``.hdr`` beside it is JSON with the ``status`` and further ``headers``. A
format that has no file is answered with an empty body.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.model import Playability, Track, Video
from simulator.recordings import Kind, RecordingsError, read_cues

PLAYER = "player.json"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a caption URL answers."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Case:
    """One folder; the video's id is its name."""

    video: Video
    player: dict[str, Any]
    captions: Mapping[str, Answer]

    def caption(self, query: Mapping[str, str], fmt: str) -> Answer:
        """The answer to a caption URL with this query."""
        parts = [f"track{query.get('track', '0')}", query.get("tlang", ""), fmt]
        name = ".".join(part for part in parts if part)
        return self.captions.get(name) or Answer(200, {}, b"")


def load(folder: Path) -> dict[str, Case]:
    """The cases among the folders in this one, by video id. Raises RecordingsError."""
    try:
        return {
            path.name: _case(path) for path in sorted(folder.iterdir()) if (path / PLAYER).is_file()
        }
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise RecordingsError(f"a case in {folder} is damaged: {type(error).__name__}") from error


def _case(folder: Path) -> Case:
    player: dict[str, Any] = json.loads((folder / PLAYER).read_bytes())
    captions = {
        path.name: _answer(path)
        for path in sorted(folder.iterdir())
        if re.fullmatch(r"track\d+(\.[\w-]+)?\.(srv1|srv3|json3)", path.name)
    }
    status = player.get("playabilityStatus", {})
    renderer = player.get("captions", {}).get("playerCaptionsTracklistRenderer", {})
    tracks = tuple(
        _track(entry, captions, number)
        for number, entry in enumerate(renderer.get("captionTracks", []))
    )
    video = Video(
        id=folder.name,
        title=f"Case {folder.name}",
        author="",
        duration_s=int(player.get("videoDetails", {}).get("lengthSeconds", 60)),
        tracks=tracks,
        panel="classic" if tracks else "none",
        playability=Playability(status.get("status", ""), status.get("reason", "")),
        recording=folder.name,
    )
    return Case(video, player, captions)


def _answer(path: Path) -> Answer:
    beside = path.with_name(f"{path.name}.hdr")
    told = json.loads(beside.read_bytes()) if beside.exists() else {}
    return Answer(told.get("status", 200), told.get("headers", {}), path.read_bytes())


def _track(entry: dict[str, Any], captions: Mapping[str, Answer], number: int) -> Track:
    name = entry.get("name", {})
    text = name.get("simpleText") or "".join(run["text"] for run in name.get("runs", []))
    formats: tuple[Kind, ...] = ("json3", "srv1", "srv3")
    written = [(fmt, captions.get(f"track{number}.{fmt}")) for fmt in formats]
    cues = next(
        (read_cues(fmt, answer.body) for fmt, answer in written if answer and answer.body), []
    )
    return Track(
        lang=entry["languageCode"],
        name=text,
        kind="asr" if entry.get("kind") == "asr" else "manual",
        cues=tuple(cues),
        variant=entry.get("trackName", ""),
    )
