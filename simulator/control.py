"""The control API under /_sim/: catalogue, fault switches, request log, users of the proxy."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from aiohttp import web

from simulator import proxy
from simulator.faults import ENDPOINTS, KINDS, Fault, FaultError
from simulator.model import Video
from simulator.state import STATE, ProxyUser, State


def control_routes() -> list[web.RouteDef]:
    return [
        web.get("/_sim/videos", videos),
        web.get("/_sim/videos/{video}/transcript", transcript),
        web.get("/_sim/videos/{video}/fault", get_video_fault),
        web.put("/_sim/videos/{video}/fault", put_video_fault),
        web.delete("/_sim/videos/{video}/fault", delete_video_fault),
        web.get("/_sim/faults", get_faults),
        web.put("/_sim/faults", put_faults),
        web.delete("/_sim/faults", delete_faults),
        web.get("/_sim/requests", requests),
        web.delete("/_sim/requests", delete_requests),
        web.get("/_sim/proxy", get_proxy),
        web.put("/_sim/proxy", put_proxy),
        web.delete("/_sim/proxy", delete_proxy),
        web.delete("/_sim/", reset),
    ]


def _json(value: object, status: int = 200) -> web.Response:
    text = json.dumps(value, ensure_ascii=False, indent=2) + "\n"
    return web.Response(text=text, status=status, content_type="application/json")


def _refuse(message: str, status: int = 400) -> web.HTTPException:
    text = json.dumps({"error": message}) + "\n"
    if status == 404:
        return web.HTTPNotFound(text=text, content_type="application/json")
    return web.HTTPBadRequest(text=text, content_type="application/json")


async def _given(request: web.Request) -> Any:
    text = await request.text()
    try:
        return json.loads(text) if text.strip() else None
    except ValueError as error:
        raise _refuse(f"the body is not JSON: {error}") from error


def _fault(value: object) -> Fault:
    try:
        return Fault.from_json(value)
    except FaultError as error:
        raise _refuse(str(error)) from error


def _faults(value: object) -> list[Fault]:
    items = value if isinstance(value, list) else [] if value in (None, {}, "") else [value]
    return [_fault(item) for item in items]


def _video(request: web.Request) -> Video:
    video = request.app[STATE].video(request.match_info["video"])
    if video is None:
        raise _refuse("no such video; /_sim/videos lists them", 404)
    return video


async def videos(request: web.Request) -> web.Response:
    """Every video with its tracks, duration in seconds, panel layout and faults."""
    state = request.app[STATE]
    return _json({"videos": [_describe(state, video) for video in state.videos()]})


def _describe(state: State, video: Video) -> dict[str, Any]:
    bodies = [kind for (owner, kind) in state.recordings.bodies if owner == video.id]
    return {
        "id": video.id,
        "title": video.title,
        "duration_s": video.duration_s,
        "languages": sorted({track.lang for track in video.tracks}),
        "tracks": [
            {
                "lang": track.lang,
                "kind": track.kind,
                "name": track.name,
                "segments": sum(not cue.blank for cue in track.cues),
            }
            for track in video.tracks
        ],
        "chapters": len(video.chapters),
        "panel": video.panel,
        "playability": video.playability.status,
        "live": video.live,
        "default_fault": video.fault,
        "faults": [fault.to_json() for fault in state.plan.by_video.get(video.id, [])],
        "recording": video.recording,
        "recorded": bodies,
    }


async def transcript(request: web.Request) -> web.Response:
    """The transcript a client must deliver: ``?lang=en&kind=manual``; times in seconds."""
    kind = "asr" if request.query.get("kind") == "asr" else "manual"
    track = _video(request).track(
        request.query.get("lang", "en"), "asr" if kind == "asr" else "manual"
    )
    if track is None:
        raise _refuse("no such track", 404)
    return _json({"segments": [asdict(segment) for segment in track.segments()]})


async def get_video_fault(request: web.Request) -> web.Response:
    faults = request.app[STATE].plan.by_video.get(_video(request).id, [])
    return _json([fault.to_json() for fault in faults])


async def put_video_fault(request: web.Request) -> web.Response:
    """Replace the video's faults, the default one too: a fault, a list of them, null for none."""
    plan, video = request.app[STATE].plan, _video(request)
    plan.by_video[video.id] = _faults(await _given(request))
    return _json([fault.to_json() for fault in plan.by_video[video.id]])


async def delete_video_fault(request: web.Request) -> web.Response:
    """Back to the video's default fault, if it has one."""
    request.app[STATE].plan.by_video.pop(_video(request).id, None)
    return web.Response(status=204)


async def get_faults(request: web.Request) -> web.Response:
    plan = request.app[STATE].plan
    return _json(
        {
            "seed": plan.seed,
            "faults": [fault.to_json() for fault in plan.everywhere],
            "endpoints": ENDPOINTS,
            "known": {kind.name: kind.summary for kind in KINDS.values()},
        }
    )


async def put_faults(request: web.Request) -> web.Response:
    """``{"seed": 7, "faults": [{"name": "reset", "ratio": 0.05}, "latency"]}``; new dice."""
    given = await _given(request)
    if not isinstance(given, dict) or not isinstance(given.get("seed", 0), int):
        raise _refuse('expected {"seed": integer, "faults": [...]}')
    faults = _faults(given.get("faults"))
    plan = request.app[STATE].plan
    plan.everywhere = faults
    plan.reset(seed=given.get("seed"))
    return await get_faults(request)


async def delete_faults(request: web.Request) -> web.Response:
    plan = request.app[STATE].plan
    plan.everywhere = []
    plan.reset()
    return web.Response(status=204)


async def requests(request: web.Request) -> web.Response:
    """The last ``?last=`` requests (1000 unless told), filtered by ``video`` and ``endpoint``."""
    log, query = request.app[STATE].log, request.query
    last = query.get("last", "1000")
    if not last.isascii() or not last.isdigit() or int(last) < 1:
        raise _refuse("last must be a positive number")
    wanted = {name: query[name] for name in ("video", "endpoint", "host") if name in query}
    return _json(
        {
            "total": log.total,
            "summary": log.summary(),
            "requests": log.last(int(last), **wanted),
        }
    )


async def delete_requests(request: web.Request) -> web.Response:
    request.app[STATE].log.clear()
    return web.Response(status=204)


async def get_proxy(request: web.Request) -> web.Response:
    """Who may use the proxy, with which fault, and the CONNECT requests it had."""
    state = request.app[STATE]
    return _json(
        {
            "users": {
                name: {"fault": user.fault, "seconds": user.seconds}
                for name, user in state.proxy_users.items()
            },
            "faults": proxy.FAULTS,
            "connects": state.proxy_log[-1000:],
        }
    )


async def put_proxy(request: web.Request) -> web.Response:
    """``{"users": {"alice": {"password": "…", "fault": "hang", "site_faults": ["http_429"]}}}``.

    With users the proxy demands credentials, without it lets everybody in.
    ``site_faults`` is what YouTube itself does to connections that leave by this user.
    """
    state = request.app[STATE]
    given = await _given(request)
    users = given.get("users") if isinstance(given, dict) else None
    if not isinstance(users, dict) or not all(isinstance(user, dict) for user in users.values()):
        raise _refuse('expected {"users": {name: {"password": text, …}}}')
    made: dict[str, ProxyUser] = {}
    site_faults: dict[str, list[Fault]] = {}
    for name, user in users.items():
        fault, seconds = user.get("fault"), user.get("seconds", 3)
        if fault is not None and fault not in proxy.FAULTS:
            raise _refuse(f"unknown proxy fault {fault!r}; there are {', '.join(proxy.FAULTS)}")
        if not isinstance(seconds, (int, float)) or not isinstance(user.get("password", ""), str):
            raise _refuse("seconds is a number and password a text")
        made[name] = ProxyUser(user.get("password", ""), fault, seconds)
        site_faults[name] = _faults(user.get("site_faults"))
    state.proxy_users = made
    state.plan.by_proxy_user = site_faults
    return await get_proxy(request)


async def delete_proxy(request: web.Request) -> web.Response:
    state = request.app[STATE]
    state.proxy_users = {}
    state.plan.by_proxy_user = {}
    state.proxy_log.clear()
    return web.Response(status=204)


async def reset(request: web.Request) -> web.Response:
    """Every fault off, also those of the command line; logs and proxy users forgotten."""
    state = request.app[STATE]
    state.plan.by_video.clear()
    await delete_faults(request)
    await delete_requests(request)
    return await delete_proxy(request)
