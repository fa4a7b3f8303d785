"""The load generator: many users who ask a service on this machine for transcripts."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import ssl
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from random import Random
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import aiohttp

from simulator.catalogue import CATALOGUE, by_title
from simulator.loadreport import Results
from simulator.model import Video
from simulator.tour import Marks, conduct

TIMEOUT_S = 120
GRACE_S = 10.0
"""How long requests under way may go on when the load has ended."""
VIDEO_SETS = ("mix", "healthy", "failing", "everyday")
EVERYDAY_RARE = (
    ("Private Diary", 1 / 30),
    ("Removed by Its Maker", 1 / 60),
    ("Captions Switched Off", 1 / 60),  # only speech recognition does
)
"""What is not plain captions in everyday load, and its share of all requests."""
RANDOM_FAULTS = (
    "http_429",
    "http_503@timedtext",
    "bot_check",
    "empty_body@timedtext",
    "truncated_json",
    "reset@timedtext",
    "slow_headers:4",
    "html_body@timedtext",
    "http_500@player",
    "consent",
)


class LoadError(Exception):
    """The load cannot be run as asked; the text says why in one line."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send. ``rate`` is in requests a second; ``duration_s`` None means until stopped."""

    target: str
    rate: float = 2.0
    duration_s: float | None = 60.0
    concurrency: int = 8
    seed: int = 0
    videos: str = "mix"
    faults: int = 0
    tour: bool = False
    otlp: str | None = None
    control: str = "https://127.0.0.1:8443"
    ca_file: Path | None = None

    @classmethod
    def from_options(cls, options: argparse.Namespace) -> Self:
        """Check the options. Raises LoadError."""
        _must_be_loopback(options.target, "target")
        _must_be_loopback(options.control, "control")
        if not 0 < options.rate <= 500:
            raise LoadError(f"rate must be above 0 and at most 500 a second, not {options.rate:g}")
        if not 1 <= options.concurrency <= 256:
            raise LoadError(f"concurrency must be between 1 and 256, not {options.concurrency}")
        if (options.faults or options.tour) and options.ca_file is None:
            raise LoadError(
                "--faults and --tour need --ca-file to reach the simulator's control API"
            )
        if options.otlp:
            _must_be_loopback(options.otlp, "otlp")
        if options.ca_file is not None and not options.ca_file.is_file():
            raise LoadError(f"there is no CA file {options.ca_file}")
        return cls(
            target=options.target.rstrip("/"),
            rate=options.rate,
            duration_s=_duration(options.duration),
            concurrency=options.concurrency,
            seed=options.seed,
            videos=options.videos,
            faults=options.faults,
            tour=options.tour,
            otlp=options.otlp and options.otlp.rstrip("/"),
            control=options.control.rstrip("/"),
            ca_file=options.ca_file,
        )


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command line of ``load``."""
    parser.add_argument(
        "--target", default="http://127.0.0.1:5000", help="the service, loopback only"
    )
    parser.add_argument("--rate", type=float, default=2.0, help="requests a second")
    parser.add_argument("--duration", default="60", help="seconds; 0 or forever: until Ctrl-C")
    parser.add_argument("--concurrency", type=int, default=8, help="most requests in flight")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice of videos")
    parser.add_argument("--videos", choices=VIDEO_SETS, default="mix")
    parser.add_argument(
        "--faults", type=int, default=0, help="keep up to N random faults switched on"
    )
    parser.add_argument(
        "--tour", action="store_true", help="announced faults one after the other, for the demo"
    )
    parser.add_argument("--otlp", help="Collector to which --tour tells its phases")
    parser.add_argument("--control", default="https://127.0.0.1:8443", help="the simulator")
    parser.add_argument("--ca-file", type=Path, help="the simulator's CA, for --faults and --tour")


def _duration(text: str) -> float | None:
    if text == "forever":
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400:
        raise LoadError(f"duration must be seconds up to a day, 0 or forever, not {text!r}")
    return seconds or None


def _must_be_loopback(url: str, name: str) -> None:
    """Load is never sent to a machine other than this one."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    with contextlib.suppress(ValueError):
        if parts.scheme in ("http", "https") and (
            host == "localhost" or ip_address(host).is_loopback
        ):
            return
    raise LoadError(
        f"{name} must be an http address of this machine such as http://127.0.0.1:5000, not {url!r}"
    )


def choose(plan: Plan) -> Iterator[tuple[str, dict[str, str]]]:
    """Endless (video id, query), the same for the same seed."""
    dice = Random(plan.seed)
    videos = list(CATALOGUE.values())
    healthy = [video for video in videos if _healthy(video)]
    failing = [video for video in videos if not _healthy(video)]
    while True:
        match plan.videos:
            case "everyday":
                video = _everyday(dice, healthy)
            case "mix":
                video = dice.choice(failing if dice.random() < 0.15 else healthy)
            case wanted:
                video = dice.choice(failing if wanted == "failing" else healthy)
        languages = [track.lang for track in video.tracks] or ["en"]
        yield video.id, {"lang": dice.choice(languages), "format": "json"}


def _everyday(dice: Random, healthy: list[Video]) -> Video:
    """Mostly captions; now and then what needs speech, or has no transcript."""
    draw = dice.random()
    for title, share in EVERYDAY_RARE:
        if draw < share:
            return by_title(title)
        draw -= share
    return dice.choice(healthy)


def _healthy(video: Video) -> bool:
    return video.playability.ok and bool(video.tracks) and not video.fault and not video.live


async def run(plan: Plan) -> int:
    """Send the load, print what comes of it; returns the exit code."""
    results = Results()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError, ValueError):
            loop.add_signal_handler(number, stop.set)
    started = time.monotonic()
    async with _service_session() as session:
        helpers = [asyncio.create_task(_report(results, started, stop))]
        if plan.faults:
            helpers.append(asyncio.create_task(_toggle_faults(plan, stop)))
        if plan.tour:
            helpers.append(asyncio.create_task(_tour(plan, stop)))
        await _send_all(plan, session, results, started, stop)
        stop.set()
        await asyncio.gather(*helpers)
    print(results.table(time.monotonic() - started), flush=True)
    return 0


class _SecondConnectionError(aiohttp.ClientError):
    """The client library is about to repeat a request whose connection broke."""


def _service_session() -> aiohttp.ClientSession:
    """A session in which every request has one connection of its own, and one chance.

    aiohttp repeats a GET whose connection breaks; the load would then report a
    success where a user saw none.
    """

    async def one_connection(_: object, context: Any, __: object) -> None:
        if context.trace_request_ctx:
            raise _SecondConnectionError
        context.trace_request_ctx.append(True)

    once = aiohttp.TraceConfig()
    once.on_connection_create_start.append(one_connection)
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
        connector=aiohttp.TCPConnector(force_close=True, limit=0),
        trace_configs=[once],
    )


async def _send_all(
    plan: Plan,
    session: aiohttp.ClientSession,
    results: Results,
    started: float,
    stop: asyncio.Event,
) -> None:
    tasks: set[asyncio.Task[None]] = set()
    for number, (video, query) in enumerate(choose(plan)):
        due = started + number / plan.rate
        if plan.duration_s is not None and due >= started + plan.duration_s:
            break
        if await _stopped(stop, due - time.monotonic()):
            break
        # Nobody waits for a slot: the load would come in bursts later and outlast its duration.
        if len(tasks) >= plan.concurrency:
            results.not_sent += 1
            continue
        task = asyncio.create_task(_send(plan, session, results, video, query))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    if tasks:
        _, unfinished = await asyncio.wait(tasks, timeout=GRACE_S)
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)


async def _stopped(stop: asyncio.Event, seconds: float) -> bool:
    if stop.is_set() or seconds <= 0:
        return stop.is_set()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
    return stop.is_set()


async def _send(
    plan: Plan,
    session: aiohttp.ClientSession,
    results: Results,
    video: str,
    query: dict[str, str],
) -> None:
    url = f"{plan.target}/api/transcripts/{video}?{urlencode(query)}"
    results.in_flight += 1
    started = time.monotonic()
    try:
        async with session.get(url, allow_redirects=False, trace_request_ctx=[]) as answer:
            body = await answer.read()
            results.add(_outcome(answer.status, body), time.monotonic() - started)
    except TimeoutError:
        results.add("no answer in time", None)
    except aiohttp.ClientConnectorError:
        results.add("connection refused", None)
    except aiohttp.ClientError:
        results.add("connection broken", None)
    except asyncio.CancelledError:
        results.add("abandoned at the end", None)
        raise
    finally:
        results.in_flight -= 1


def _outcome(status: int, body: bytes) -> str:
    """The status, and for an error the service's own ``code``."""
    if status < 400:
        return str(status)
    try:
        code = json.loads(body).get("code", "")
    except (ValueError, AttributeError):
        code = "no problem+json"
    return f"{status} {code}".strip()


async def _report(results: Results, started: float, stop: asyncio.Event) -> None:
    live = sys.stdout.isatty()
    while not await _stopped(stop, 0.5 if live else 5.0):
        line = results.line(time.monotonic(), started)
        print(f"\r\x1b[K{line}" if live else line, end="" if live else "\n", flush=True)
    if live:
        print()


async def _toggle_faults(plan: Plan, stop: asyncio.Event) -> None:
    """Every now and then switch between no fault and up to ``plan.faults`` random ones."""
    dice = Random(plan.seed + 1)
    async with control_session(plan) as session:
        await put_faults(plan, session, ["latency"], plan.seed)
        while not await _stopped(stop, dice.uniform(15, 40)):
            faults = ["latency", *_some_faults(plan, dice)]
            await put_faults(plan, session, faults, dice.randrange(10_000))
        await put_faults(plan, session, [], 0)


async def _tour(plan: Plan, stop: asyncio.Event) -> None:
    marks = Marks(plan.otlp)
    try:
        async with control_session(plan) as session:
            await conduct(
                lambda faults: put_faults(plan, session, list(faults), plan.seed, quiet=True),
                lambda seconds: _stopped(stop, seconds),
                marks,
            )
    finally:
        await asyncio.to_thread(marks.close)


def control_session(plan: Plan) -> aiohttp.ClientSession:
    """A session for the simulator's control API."""
    context = ssl.create_default_context(cafile=str(plan.ca_file))
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context), timeout=aiohttp.ClientTimeout(total=5)
    )


def _some_faults(plan: Plan, dice: Random) -> list[str]:
    count = dice.randint(0, plan.faults)
    chosen = dice.sample(RANDOM_FAULTS, min(count, len(RANDOM_FAULTS)))
    return [f"{spec}={dice.choice((0.1, 0.3, 0.7))}" for spec in chosen]


async def put_faults(
    plan: Plan,
    session: aiohttp.ClientSession,
    faults: list[str],
    seed: int,
    *,
    quiet: bool = False,
) -> None:
    """Switch the simulator to these faults; a simulator that is away is reported and no more."""
    body: dict[str, Any] = {"seed": seed, "faults": faults}
    try:
        async with session.put(f"{plan.control}/_sim/faults", json=body) as answer:
            answer.raise_for_status()
    except (aiohttp.ClientError, TimeoutError) as error:
        print(f"\nsimulator: faults not switched: {error!r}", file=sys.stderr)
    else:
        if quiet:
            return
        named = ", ".join(faults) or "none"
        print(f"\nfaults now: {named}", flush=True)
