"""What the simulator knows while it runs, shared by its handlers, its proxy and the control API."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from simulator import cases, params, recordings
from simulator.captionurls import CaptionUrls
from simulator.cases import Case
from simulator.catalogue import CATALOGUE
from simulator.faults import Fault, FaultPlan, Strike
from simulator.innertube import WEB_CLIENTS
from simulator.model import Video
from simulator.recordings import Recordings
from simulator.requestlog import RequestLog

PATHS: dict[str, str] = {
    "/watch": "watch",
    "/youtubei/v1/player": "player",
    "/api/timedtext": "timedtext",
    "/youtubei/v1/get_transcript": "get_transcript",
    "/youtubei/v1/get_panel": "get_panel",
    "/videoplayback": "audio",
    "/generate_204": "generate_204",
}


@dataclass(slots=True)
class ProxyUser:
    """Someone the CONNECT proxy lets in."""

    password: str
    fault: str | None = None
    """One of :data:`simulator.proxy.FAULTS`; None for a proxy that works."""
    seconds: float = 3.0


@dataclass(slots=True)
class State:
    """One simulator. ``exits`` maps the local port of a proxied connection to the proxy's user."""

    plan: FaultPlan = field(default_factory=FaultPlan)
    recordings: Recordings = field(default_factory=Recordings)
    cases: dict[str, Case] = field(default_factory=dict)
    log: RequestLog = field(default_factory=RequestLog)
    clock: Callable[[], float] = time.time
    urls: CaptionUrls = field(default_factory=lambda: CaptionUrls(secrets.token_bytes(16)))
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    exits: dict[int, str] = field(default_factory=dict)
    proxy_users: dict[str, ProxyUser] = field(default_factory=dict)
    proxy_log: list[dict[str, Any]] = field(default_factory=list)

    def serve(self, folder: Path) -> None:
        """Answer with a folder's recordings and cases too. Raises RecordingsError."""
        self.recordings = recordings.load(folder)
        self.cases = cases.load(folder)

    def video(self, video: str) -> Video | None:
        if case := self.cases.get(video):
            return case.video
        return self.recordings.videos.get(video) or CATALOGUE.get(video)

    def videos(self) -> list[Video]:
        reported = [case.video for case in self.cases.values()]
        return [*CATALOGUE.values(), *self.recordings.videos.values(), *reported]


STATE: web.AppKey[State] = web.AppKey("state", State)


@dataclass(slots=True)
class Call:
    """A request, understood: what it is for and what happens to it."""

    endpoint: str
    video: str
    client: str
    body: Mapping[str, Any]
    proxy_user: str | None
    strike: Strike

    @property
    def web(self) -> bool:
        """Whether the caller says it is one of YouTube's web pages."""
        return self.client in WEB_CLIENTS


CALL = web.RequestKey("call", Call)


async def understand(request: web.Request, state: State) -> Call:
    """What this request asks for; also rolls the dice for its faults."""
    endpoint = PATHS.get(request.path, "other")
    body = await _json_body(request)
    client_info = _mapping(_mapping(body.get("context")).get("client"))
    client = client_info.get("clientName")
    video = _video_of(endpoint, request, body)
    peer = request.transport.get_extra_info("peername") if request.transport else None
    proxy_user = state.exits.get(peer[1]) if peer else None
    known = state.video(video)
    defaults = [Fault.parse(known.fault)] if known is not None and known.fault else []
    strike = (
        state.plan.strike(endpoint, video, proxy_user=proxy_user, defaults=defaults)
        if endpoint != "other"
        else Strike()
    )
    return Call(
        endpoint=endpoint,
        video=video,
        client=client if isinstance(client, str) else request.headers.get("User-Agent", "")[:80],
        body=body,
        proxy_user=proxy_user,
        strike=strike,
    )


async def _json_body(request: web.Request) -> Mapping[str, Any]:
    if request.method != "POST" or not request.path.startswith("/youtubei/"):
        return {}
    try:
        return _mapping(json.loads(await request.read()))
    except ValueError:
        return {}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _video_of(endpoint: str, request: web.Request, body: Mapping[str, Any]) -> str:
    given = body.get("params")
    text = given if isinstance(given, str) else ""
    video: object = request.query.get("v", "")
    if endpoint == "player":
        video = body.get("videoId")
    elif endpoint == "get_transcript":
        video = (params.read_transcript_params(text) or ("",))[0]
    elif endpoint == "get_panel":
        video = params.read_panel_params(text)
    elif endpoint == "audio":
        video = request.query.get("id", "").removeprefix("o-")
    return video if isinstance(video, str) else ""
