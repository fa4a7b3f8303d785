"""The HTTPS answers: one handler per endpoint of YouTube that transcript clients use."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from aiohttp import web

from simulator import audio, formats, innertube, pages, panels, params
from simulator.captionurls import LIFETIME_S, needs_token
from simulator.control import control_routes
from simulator.innertube import Json
from simulator.misbehaviour import observe
from simulator.model import REFUSALS, UNAVAILABLE, Track, Video
from simulator.state import CALL, STATE, Call, State
from simulator.texts import LANGUAGE_NAMES

MOBILE_HOST = "m.youtube.com"
OTHER_VIDEO = "otherVideo1"
CONSENT_HOST = "consent.youtube.com"


def create_app(state: State) -> web.Application:
    """The whole site. Faults and the request log sit in front of every handler."""
    app = web.Application(middlewares=[observe])
    app[STATE] = state
    app.add_routes(
        [
            web.get("/", home),
            web.get("/watch", watch),
            web.get("/embed/{video}", embed),
            web.post("/youtubei/v1/player", player),
            web.post("/youtubei/v1/next", next_),
            web.get("/api/timedtext", timedtext),
            web.post("/youtubei/v1/get_transcript", get_transcript),
            web.post("/youtubei/v1/get_panel", get_panel),
            web.get("/videoplayback", audio.videoplayback),
            web.get("/generate_204", no_content),
            web.get("/favicon.ico", no_content),
            web.post("/youtubei/v1/log_event", no_content),
            web.get("/m", consent_form),
            web.post("/s", consent_given),
            web.post("/save", consent_given),
            *control_routes(),
        ]
    )
    return app


async def home(request: web.Request) -> web.Response:
    return _page("<!DOCTYPE html><title>YouTube</title><ytd-app>YouTube</ytd-app>")


async def no_content(request: web.Request) -> web.Response:
    return web.Response(status=204)


def _page(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, content_type="text/html", charset="utf-8", status=status)


def _json(value: Json, status: int = 200) -> web.Response:
    body = json.dumps(value, ensure_ascii=False).encode()
    return web.Response(body=body, content_type="application/json", charset="utf-8", status=status)


def _invalid(message: str) -> web.Response:
    error = {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}
    return _json({"error": error}, status=400)


def _consented(request: web.Request) -> bool:
    # "CAA" is the SOCS value of a visitor who has not decided.
    socs = request.cookies.get("SOCS", "CAA")
    return request.cookies.get("CONSENT", "").startswith("YES") or not socs.startswith("CAA")


async def watch(request: web.Request) -> web.Response:
    state, call = request.app[STATE], request[CALL]
    if not call.video:
        raise web.HTTPFound("/")
    mobile = _host(request) == MOBILE_HOST
    phone = "Mobile" in request.headers.get("User-Agent", "")
    if phone and not mobile and request.query.get("app") != "desktop":
        raise web.HTTPFound(f"https://{MOBILE_HOST}{request.path_qs}")
    here = f"https://{_host(request)}{request.path_qs}"
    for kind in ("watch", "consent", "recaptcha"):
        if recorded := state.recordings.get(call.video, kind):
            return _page(recorded.body.decode("utf-8", "replace"))
    strike = call.strike
    if strike.has("recaptcha"):
        return _page(pages.recaptcha())
    if strike.has("consent_forever") or (strike.has("consent_inline") and not _consented(request)):
        return _page(pages.consent(here))
    if strike.has("consent") and not _consented(request):
        raise web.HTTPFound(f"https://{CONSENT_HOST}/m?{_query(here)}")
    video = state.video(call.video) or _unknown(call.video)
    response = _page(
        pages.watch(
            video,
            _player_answer(state, call, video, web_page=True),
            mobile=mobile,
            hl=_interface_language(request),
            fault=strike.fault.name if strike.fault else None,
        )
    )
    _keep_visitor(request, response, state)
    return response


def _query(target: str) -> str:
    return urlencode({"continue": target, "gl": "DE", "m": "0", "pc": "yt", "hl": "en", "src": "1"})


def _keep_visitor(request: web.Request, response: web.Response, state: State) -> None:
    """YouTube knows a returning browser by these two cookies."""
    options: dict[str, Any] = {
        "domain": ".youtube.com",
        "path": "/",
        "secure": True,
        "httponly": True,
        "samesite": "None",
    }
    if "VISITOR_INFO1_LIVE" not in request.cookies:
        value = f"visitor{state.log.total:04d}"
        response.set_cookie("VISITOR_INFO1_LIVE", value, max_age=15_552_000, **options)
    if "YSC" not in request.cookies:
        response.set_cookie("YSC", f"session{state.log.total:04d}", **options)


def _unknown(video: str) -> Video:
    return Video(video, "", "", 0, panel="none", playability=UNAVAILABLE)


def _interface_language(request: web.Request) -> str:
    asked = request.query.get("hl", "") or request.headers.get("Accept-Language", "en")
    code = re.split(r"[,;]", asked)[0].strip()
    return next((c for c in (code, code.split("-")[0]) if c in LANGUAGE_NAMES), "en")


async def embed(request: web.Request) -> web.Response:
    return _page(pages.embed(_interface_language(request)))


async def player(request: web.Request) -> web.Response:
    state, call = request.app[STATE], request[CALL]
    if not call.video or not isinstance(call.body.get("context"), dict):
        return _invalid("Request contains an invalid argument.")
    recorded = state.recordings.get(call.video, "player")
    if recorded is not None and not call.strike.has("bot_check"):
        return web.Response(body=recorded.body, content_type="application/json", charset="utf-8")
    video = state.video(call.video) or _unknown(call.video)
    return _json(_player_answer(state, call, video, web_page=False))


def _player_answer(state: State, call: Call, video: Video, *, web_page: bool) -> Json:
    strike = call.strike
    if (case := state.cases.get(video.id)) and not strike.has("bot_check"):
        return case.player
    from_page = web_page or call.web
    gate = "xpe" if from_page or strike.has("po_token") else None
    if strike.has("po_token_xpv"):
        gate = "xpv"
    now = state.clock()
    if strike.has("expired_signature"):
        now -= LIFETIME_S + 60

    def caption_url(track: Track) -> str:
        return state.urls.make(
            video.id, track, now=now, gate=gate, fmt=None if from_page else "srv3"
        )

    if strike.has("other_video"):
        video = replace(video, id=OTHER_VIDEO)
    return innertube.player(
        video,
        playability=REFUSALS.get(strike.fault.name, video.playability)
        if strike.fault
        else video.playability,
        web=from_page,
        caption_url=caption_url,
        audio=audio.adaptive_formats(video, expire=int(now) + LIFETIME_S),
    )


async def next_(request: web.Request) -> web.Response:
    given = request[CALL].body.get("videoId")
    video = request.app[STATE].video(given) if isinstance(given, str) else None
    if video is None:
        return _invalid("Request contains an invalid argument.")
    return _json(innertube.initial_data(video))


async def timedtext(request: web.Request) -> web.Response:
    state, call, query = request.app[STATE], request[CALL], request.query
    if case := state.cases.get(call.video):
        answer = case.caption(query, query.get("fmt") or "srv1")
        return web.Response(body=answer.body, status=answer.status, headers=answer.headers)
    if query.get("signature") not in state.recordings.signatures:
        refusal = state.urls.refusal(query, now=state.clock())
        if refusal is not None:
            return _page(pages.error(f"403. That’s an error: {refusal}."), status=403)
    fmt = query.get("fmt") or "srv1"
    if fmt not in formats.CONTENT_TYPES:
        return _page(pages.error("400. That’s an error: no such caption format."), status=400)
    if call.strike.has("wrong_format"):
        fmt = "srv3" if fmt == "srv1" else "srv1"
    video = state.video(call.video)
    track = (
        video.track(query.get("lang", ""), "asr" if query.get("kind") == "asr" else "manual")
        if video
        else None
    )
    headers = {"Content-Type": formats.CONTENT_TYPES[fmt]}
    if track is None or needs_token(query):
        return web.Response(body=b"", headers=headers)
    body = _recorded_captions(state, call.video, fmt)
    tlang = query.get("tlang", "")
    if tlang:
        if call.strike.has("no_translations"):
            return _page(pages.error("429. That’s an error."), status=429)
        if tlang not in LANGUAGE_NAMES:
            return _page(pages.error("400. That’s an error: no such language."), status=400)
        body = formats.write(formats.translated(track, tlang, LANGUAGE_NAMES[tlang]), fmt)
    elif body is None:
        body = formats.write(track, fmt)
    return web.Response(body=_spoilt(body, call), headers=headers)


def _recorded_captions(state: State, video: str, fmt: str) -> bytes | None:
    recorded = state.recordings.tracks_of(video)
    return recorded.body if recorded is not None and recorded.kind == fmt else None


def _spoilt(body: bytes, call: Call) -> bytes:
    if call.strike.has("no_start"):
        return re.sub(rb'<text start="[^"]*"', b"<text", body)
    if call.strike.has("xml_entities"):
        doctype = b'<!DOCTYPE transcript [<!ENTITY line "expanded by the reader">]>'
        return doctype + b'<transcript><text start="0" dur="1">&line;</text></transcript>'
    return body


async def get_transcript(request: web.Request) -> web.Response:
    state, call = request.app[STATE], request[CALL]
    asked = params.read_transcript_params(str(call.body.get("params", "")))
    video = state.video(call.video)
    if recorded := state.recordings.get(call.video, "get_transcript"):
        return web.Response(body=recorded.body, content_type="application/json", charset="utf-8")
    track = None
    if (
        asked is not None
        and video is not None
        and video.panel == "classic"
        and video.playability.ok
    ):
        track = video.track(*asked[1:]) if asked[1] else video.default_track()
    if video is None or track is None:
        return _json(panels.PRECONDITION_FAILED, status=400)
    if call.strike.has("unknown_shape"):
        return _json(panels.unknown_panel(track))
    if call.strike.has("other_video"):
        video = replace(video, id=OTHER_VIDEO)
    return _json(panels.transcript_panel(video, track))


async def get_panel(request: web.Request) -> web.Response:
    state, call = request.app[STATE], request[CALL]
    video = state.video(call.video)
    if recorded := state.recordings.get(call.video, "get_panel"):
        return web.Response(body=recorded.body, content_type="application/json", charset="utf-8")
    if (
        video is None
        or video.panel not in ("modern", "tabbed")
        or not video.playability.ok
        or call.body.get("panelId") != innertube.MODERN_PANEL
    ):
        return _json(panels.PRECONDITION_FAILED, status=400)
    client = call.body.get("context", {}).get("client", {})
    hl = client.get("hl") if isinstance(client, dict) else None
    track = video.track(str(hl), "manual") or video.track(str(hl), "asr") or video.default_track()
    if track is None:
        return _json(panels.PRECONDITION_FAILED, status=400)
    if call.strike.has("unknown_shape"):
        return _json(panels.unknown_panel(track))
    return _json(panels.modern_panel(video, track))


async def consent_form(request: web.Request) -> web.Response:
    return _page(pages.consent(request.query.get("continue", "https://www.youtube.com/")))


async def consent_given(request: web.Request) -> web.Response:
    form = {key: values[0] for key, values in parse_qs((await request.read()).decode()).items()}
    target = form.get("continue", "")
    host = urlsplit(target).hostname or ""
    if host != "youtube.com" and not host.endswith(".youtube.com"):
        target = "https://www.youtube.com/"
    answer = web.Response(status=303, headers={"Location": target})
    options: dict[str, Any] = {
        "domain": ".youtube.com",
        "path": "/",
        "secure": True,
        "max_age": 33_696_000,
    }
    answer.set_cookie("SOCS", "CAESEwgDEgk0ODE3Nzk3MjQaAmVuIAEaBgiA", **options)
    answer.set_cookie("CONSENT", f"YES+{form.get('v', pages.CONSENT_VERSION)}", **options)
    return answer


def _host(request: web.Request) -> str:
    return request.host.rsplit(":", 1)[0].lower()
