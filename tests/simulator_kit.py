"""What the simulator's own tests ask it for, as a client would."""

from __future__ import annotations

from typing import Any

import requests

from simulator import innertube, params
from simulator.catalogue import by_title
from simulator.model import Video

TRAIN = by_title("The Seven O'Clock Train")
BREAD = by_title("Bread for a Village")
ANDROID = {"client": {"clientName": "ANDROID", "clientVersion": "20.10.38"}}
WEB = {"client": {"clientName": "WEB", "clientVersion": "2.2026", "hl": "en"}}
WATCH = "https://www.youtube.com/watch?v="


def player(
    session: requests.Session, video: Video, context: dict[str, Any] = ANDROID
) -> requests.Response:
    return session.post(
        "https://www.youtube.com/youtubei/v1/player?key=k",
        json={"context": context, "videoId": video.id},
    )


def tracks(answer: requests.Response) -> list[dict[str, Any]]:
    captions = answer.json()["captions"]["playerCaptionsTracklistRenderer"]
    found: list[dict[str, Any]] = captions["captionTracks"]
    return found


def panel(session: requests.Session, video: Video, path: str, hl: str = "en") -> requests.Response:
    body = {
        "get_transcript": {"params": params.transcript_params(video.id, "en", "manual")},
        "get_panel": {
            "panelId": innertube.MODERN_PANEL,
            "params": params.panel_params(video.id),
        },
    }[path]
    context = {"client": {**WEB["client"], "hl": hl}}
    return session.post(
        f"https://www.youtube.com/youtubei/v1/{path}?prettyPrint=false",
        json={"context": context, **body},
    )


def captions(session: requests.Session, fmt: str = "json3") -> requests.Response:
    url = tracks(player(session, TRAIN))[0]["baseUrl"].replace("fmt=srv3", f"fmt={fmt}")
    return session.get(url)
