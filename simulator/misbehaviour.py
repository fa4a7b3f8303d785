"""Carrying out the faults of a request, and writing every request down."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from functools import cache

from aiohttp import web

from simulator import pages
from simulator.faults import Fault
from simulator.panels import PRECONDITION_FAILED
from simulator.state import CALL, STATE, State, understand

HOSTS = frozenset(
    {
        "www.youtube.com",
        "m.youtube.com",
        "youtube.com",
        "consent.youtube.com",
        "video.google.com",
        "www.google.com",
        "localhost",
        "127.0.0.1",
    }
)

# Smaller bodies grow when they are packed.
_PACKED_FROM = 500

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_REASONS = {
    403: "Your client does not have permission to get this URL from this server",
    404: "The requested URL was not found on this server",
    429: "We're sorry, but your computer or network may be sending automated queries",
    500: "Internal server error",
    502: "The server encountered a temporary error",
    503: "The service is temporarily unavailable",
}


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse strangers' host names, understand the request, spoil its answer, log it."""
    if request.path.startswith("/_sim/"):
        return await handler(request)
    host = request.host.rsplit(":", 1)[0].lower()
    if host not in HOSTS and not host.endswith(".googlevideo.com"):
        return web.Response(status=421, text=f"this simulator does not answer for {host}\n")
    state = request.app[STATE]
    started = time.perf_counter()
    call = request[CALL] = await understand(request, state)
    status: int | None = None
    try:
        response = await _answer(request, handler, state)
        _pack(request, response)
        status = getattr(response, "logged_status", response.status)
    except web.HTTPException as error:
        status = error.status
        raise
    else:
        return response
    finally:
        state.log.add(
            method=request.method,
            host=host,
            path=request.path,
            endpoint=call.endpoint,
            video=call.video,
            client=call.client,
            proxy_user=call.proxy_user,
            cookies=tuple(sorted(request.cookies)),
            faults=tuple(call.strike.names),
            status=status,
            latency_s=round(time.perf_counter() - started, 6),
        )


def _pack(request: web.Request, response: web.StreamResponse) -> None:
    """Compress a text as YouTube does for whoever takes it; the sound stays as it is."""
    if (
        isinstance(response, web.Response)
        and len(_body(response)) > _PACKED_FROM
        and response.content_type.startswith(("text/", "application/json", "application/xml"))
        and "gzip" in request.headers.get("Accept-Encoding", "")
    ):
        response.enable_compression(web.ContentCoding.gzip)


class _BrokenOff(web.StreamResponse):
    """An answer whose connection was cut: it has no status that any client saw whole."""

    logged_status: int | None = None


async def _answer(request: web.Request, handler: Handler, state: State) -> web.StreamResponse:
    strike = request[CALL].strike
    fault = strike.fault
    if strike.delay_s:
        await _pause(state, strike.delay_s)
    if fault is None or fault.kind.layer == "content":
        return await handler(request)
    if fault.name == "hang":
        await state.stopping.wait()
        raise web.HTTPServiceUnavailable(text="the simulator is stopping")
    if fault.name.startswith("http_"):
        return _refusal(fault)
    response = await handler(request)
    if not isinstance(response, web.Response):
        return response
    if fault.kind.layer == "answer":
        return _spoilt(response, fault)
    if fault.name == "slow_body":
        return await _dribble(request, response, state, fault.wait_s)
    return await _reset(request, response)


async def _pause(state: State, seconds: float) -> None:
    """Wait, but not longer than the simulator lives."""
    try:
        await asyncio.wait_for(state.stopping.wait(), seconds)
    except TimeoutError:
        return


def _refusal(fault: Fault) -> web.Response:
    status = int(fault.name.removeprefix("http_"))
    if status == 400:
        return web.json_response(PRECONDITION_FAILED, status=400)
    headers = {"Retry-After": f"{fault.wait_s:g}"} if status in (429, 503) else {}
    text = pages.error(f"{status}. {_REASONS[status]}.")
    return web.Response(status=status, text=text, content_type="text/html", headers=headers)


def _body(response: web.Response) -> bytes:
    return response.body if isinstance(response.body, bytes) else b""


@cache
def _bomb() -> bytes:
    return gzip.compress(bytes(100_000_000))


def _spoilt(response: web.Response, fault: Fault) -> web.Response:
    body, content_type = _body(response), response.headers.get("Content-Type", "text/html")
    match fault.name:
        case "empty_body":
            body = b""
        case "bomb":
            packed = {"Content-Type": content_type, "Content-Encoding": "gzip"}
            return web.Response(body=_bomb(), status=response.status, headers=packed)
        case "tiny_body":
            body = body[:20]
        case "truncated_json":
            body = body[: len(body) // 2]
        case "html_body":
            body, content_type = pages.error("Sorry…").encode(), "text/html; charset=utf-8"
        case "wrong_type":
            content_type = "text/plain"
    return web.Response(body=body, status=response.status, headers={"Content-Type": content_type})


def _headers_of(response: web.Response, length: int) -> dict[str, str]:
    content_type = response.headers.get("Content-Type", "application/octet-stream")
    return {"Content-Type": content_type, "Content-Length": str(length)}


async def _dribble(
    request: web.Request, response: web.Response, state: State, seconds: float
) -> web.StreamResponse:
    body = _body(response)
    slow = web.StreamResponse(status=response.status, headers=_headers_of(response, len(body)))
    await slow.prepare(request)
    steps = 20
    for i in range(steps):
        await _pause(state, seconds / steps)
        await slow.write(body[len(body) * i // steps : len(body) * (i + 1) // steps])
    await slow.write_eof()
    return slow


async def _reset(request: web.Request, response: web.Response) -> web.StreamResponse:
    body = _body(response)
    broken = _BrokenOff(status=response.status, headers=_headers_of(response, max(len(body), 2)))
    await broken.prepare(request)
    await broken.write(body[: len(body) // 2] or b" ")
    transport = request.transport
    if transport is not None:
        raw: socket.socket | None = transport.get_extra_info("socket")
        if raw is not None:
            # Linger of zero seconds turns the close into a reset (RST).
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return broken
