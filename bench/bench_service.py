"""The service against the library alone: the same simulated videos, in turns.

The service runs with everything on (spans, metrics, lines, masking, breakers; its telemetry goes
to a sink) but the cache, the library is youtube-transcript-api as its documentation shows it.
With the pauses that YouTube's answers usually have, and without any, which shows what the service
itself takes. And how long a start takes until the first answer.
"""

from __future__ import annotations

import platform
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median

from youtube_transcript_api import YouTubeTranscriptApi

from bench.rows import Row, row
from simulator.catalogue import CATALOGUE
from simulator.model import Video
from simulator.state import State
from simulator.testing import RunningSimulator
from tests.gunicorn_process import CHECKOUT, Gunicorn, gunicorn
from tests.otlp_sink import OtlpSink
from tests.ports import free_port

_row = partial(row, "service")
ROUNDS = 300
STARTS = 15
_LIBRARY = "youtube-transcript-api alone"
one_worker = partial(gunicorn, app="transcript_service.web:create_app()", workers=1)
_draw = random.Random(26)

Start = Callable[[Path], AbstractContextManager[Gunicorn]]


def run() -> list[Row]:
    """All rows."""
    names = ("youtube-transcript-api", "flask", "gunicorn")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    print(f"Python {platform.python_version()}, {versions}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as name, OtlpSink() as sink:
        folder = Path(name)
        with simulator_process(folder) as simulator:
            start = partial(one_worker, environ=uncached(simulator, sink))
            return [*_against_the_library(simulator, start, folder), *_starts(start, folder)]


def uncached(simulator: RunningSimulator, sink: OtlpSink) -> dict[str, str]:
    """Settings of a service that fetches every transcript anew and tells the sink about it."""
    return {
        "YOUTUBE_RESOLVE_TO": simulator.resolve_to,
        "YOUTUBE_CA_FILE": str(simulator.ca_file),
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
        "ENABLE_TRANSCRIPT_CACHE": "0",
    }


def _against_the_library(simulator: RunningSimulator, start: Start, folder: Path) -> list[Row]:
    library = YouTubeTranscriptApi(http_client=simulator.session())
    videos = plain_videos()
    rows = []
    place = folder / "service"
    place.mkdir()
    with start(place) as service:

        def ours(video: Video) -> None:
            body = service.get(f"/api/transcripts/{video.id}?lang={video.tracks[0].lang}")
            assert b'"source":"youtube_api"' in body, body[:500]

        def theirs(video: Video) -> None:
            assert library.fetch(video.id, languages=[video.tracks[0].lang]).snippets

        for what, faults, most in (
            ("transcript, YouTube's usual pauses, P50", ("latency",), 1.15),
            ("transcript, YouTube answering at once, P50", (), None),
        ):
            simulator.set_faults(*faults, seed=1)
            rounds = ROUNDS if not faults else ROUNDS // 5
            times = _in_turns(videos, {"ours": ours, "theirs": theirs}, rounds)
            rows.append(_row(what, times["ours"], "ms", _LIBRARY, times["theirs"], most))
    return rows


def plain_videos() -> list[Video]:
    """Those that a client gets at the first attempt."""
    return [video for video in CATALOGUE.values() if _plain(video)]


def _plain(video: Video) -> bool:
    return video.playability.ok and bool(video.tracks) and not video.fault and not video.live


def _in_turns(
    videos: list[Video], calls: dict[str, Callable[[Video], None]], rounds: int
) -> dict[str, float]:
    """Milliseconds at the median, each video by both, in an order drawn anew."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        order = [*calls]
        _draw.shuffle(order)
        for name in order:
            began = time.perf_counter()
            calls[name](videos[number % len(videos)])
            if number >= len(calls):  # not the first ones, which connect and import
                times[name].append((time.perf_counter() - began) * 1e3)
    return {name: median(values) for name, values in times.items()}


def _starts(start: Start, folder: Path) -> list[Row]:
    """From the command to the first transcript; the peer is a bare Flask under gunicorn.

    In turns, in an order drawn anew. The first of each does not count: it reads from the disk
    what the others find in memory, and compiles what has changed.
    """

    def ours(number: int) -> float:
        place = folder / f"start-{number}"
        place.mkdir()
        began = time.perf_counter()
        with start(place) as service:
            assert b"segments" in service.get(path)
            return time.perf_counter() - began

    path = f"/api/transcripts/{plain_videos()[0].id}"
    starts: list[Callable[[int], float]] = [ours, _bare_start_s]
    took: dict[Callable[[int], float], list[float]] = {one: [] for one in starts}
    for number in range(STARTS + 1):
        _draw.shuffle(starts)
        for one in starts:
            took[one].append(one(number))
    return [
        _row("start to the first transcript, one worker", median(took[ours][1:]), "s",
             "a bare Flask under gunicorn", median(took[_bare_start_s][1:])),
    ]  # fmt: skip


def _bare_start_s(_: int) -> float:
    port = free_port()
    code = "import flask; app = flask.Flask('bare'); app.add_url_rule('/', view_func=lambda: 'x')"
    command = [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", "bare:app"]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "bare.py").write_text(code)
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
        try:
            while not _answers(port):
                time.sleep(0.005)
            Gunicorn(process, port, Path(folder)).get("/")
            return time.perf_counter() - began
        finally:
            process.terminate()
            process.wait(20)


def _answers(port: int) -> bool:
    with socket.socket() as made:
        return made.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def simulator_process(folder: Path) -> Iterator[RunningSimulator]:
    """In a process of its own: in this one the library would wait for it."""
    port, proxy, ca_file = free_port(), free_port(), folder / "ca.pem"
    command = [sys.executable, "-m", "simulator", "serve", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--proxy-port", str(proxy), "--ca-file", str(ca_file)]
    process = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.DEVNULL)
    try:
        while not (ca_file.exists() and _answers(port)):
            assert process.poll() is None, "the simulator ended"
            time.sleep(0.05)
        yield RunningSimulator(port, proxy, ca_file, State())
    finally:
        process.terminate()
        process.wait(20)
