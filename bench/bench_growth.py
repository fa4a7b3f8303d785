"""What grows with requests: series, disk, and how long the dashboard's API takes.

A hundred real requests are made and taken down; the Collector gets them once, then as often as
it takes for 10,000 and 1,000,000 requests over as many videos (bench/synthetic.py).

Metrics take disk with time, not with requests: a day of one worker's exports goes to a Prometheus
of its own, which makes blocks of them as it does in a day.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import psutil
import requests

from bench.bench_service import one_worker, plain_videos, simulator_process, uncached
from bench.rows import Row, row
from bench.synthetic import Recorder, Recording
from tests.faults.matrix.rig import ENGINES, Rig, running_rig
from tests.gunicorn_process import Gunicorn
from tests.live import wait_for
from tests.prometheus_process import running_prometheus

_row = partial(row, "growth")
LEVELS = (100, 10_000, 1_000_000)
REPEATS = 30
SENDERS = 4
EXPORT_S = 15  # the service's own interval
BATCH_S = 3  # longer than the Collector collects a batch
REST_CORES = 0.2
"""What all engines together use while they merely wait."""
REST_MOST_S = 120.0
JOB = "tldw-transcript-service"
ASKED = {
    "performance": "/api/dashboard/metrics/performance?hours=1",
    "the newest traces": "/api/dashboard/traces?hours=1&stage=youtube_api",
    # The recorded requests need no second stage.
    "traces of which there are none": "/api/dashboard/traces?hours=1&stage=timedtext",
}
STORES = {"traces": "jaeger", "logs": "victorialogs"}
DAY_S = 86400


@dataclass
class Level:
    """What was found after so many requests."""

    requests: int
    series: float
    disk: dict[str, int]
    """Bytes, by signal."""
    took_ms: dict[str, float]
    """Median of a miss, by block of the API."""


def run() -> list[Row]:
    """All rows."""
    with (
        tempfile.TemporaryDirectory() as name,
        running_rig("growth", shipped_rules=True, environ={"otel-collector": {}}) as rig,
    ):
        folder = Path(name)
        recording = _record(folder)
        place = folder / "dashboard"
        place.mkdir()
        environ = {
            **{key: value for key, value in rig.layout.service_env().items() if "BIND" not in key},
            "OTEL_SDK_DISABLED": "true",
            "DASHBOARD_CACHE_TTL_S": "0",
        }
        with one_worker(place, environ) as api:
            rows = _rows(list(_levels(rig, recording, api)))
        return [*rows, *_metrics_of_a_day(recording, folder)]


def _record(folder: Path) -> Recording:
    """A hundred requests through the real service."""
    place = folder / "recorded"
    place.mkdir()
    sink = Recorder()
    with sink, simulator_process(folder) as simulator:
        videos = [video.id for video in plain_videos()]
        with one_worker(place, uncached(simulator, sink)) as service:
            for number in range(LEVELS[0]):
                service.get(f"/api/transcripts/{videos[number % len(videos)]}")
        found = Recording(sink.taken, videos)
    assert found.requests == LEVELS[0], found.requests
    return found


def _levels(rig: Rig, recording: Recording, api: Gunicorn) -> Iterator[Level]:
    url = rig.layout.engine("otlp-http")
    times, exported = 0, 0.0
    for level in LEVELS:
        with ThreadPoolExecutor(SENDERS) as pool:
            sending = [
                pool.submit(recording.send, url) for _ in range(level // recording.requests - times)
            ]
            for sent in as_completed(sending):
                sent.result()
                times += 1
                if time.monotonic() - exported > EXPORT_S:
                    exported = time.monotonic()
                    recording.send_metrics(url, times)
                    done = times * recording.requests
                    print(f"bench: growth: {done} of {LEVELS[-1]} requests", file=sys.stderr)
        while _queued(rig):
            # A worker goes on counting, or its series would be over before the last span is stored.
            recording.send_metrics(url, times)
            time.sleep(EXPORT_S)
        recording.send_metrics(url, times)
        # The dashboard is asked when the last has just come and the engines have caught up.
        recording.send(url)
        times += 1
        time.sleep(BATCH_S)
        while _queued(rig):
            time.sleep(0.2)
        _wait_for_rest(rig)
        yield _level(rig, level, api)


def _wait_for_rest(rig: Rig) -> None:
    """Until the engines use little CPU: while they merge, an answer mostly waits for its turn."""
    end = time.monotonic() + REST_MOST_S
    while time.monotonic() < end:
        before = _cpu_s(rig)
        time.sleep(BATCH_S)
        if (_cpu_s(rig) - before) / BATCH_S < REST_CORES:
            return
    print("bench: growth: asked though the engines were still busy", file=sys.stderr)


def _cpu_s(rig: Rig) -> float:
    return sum(sum(psutil.Process(rig.pid(engine)).cpu_times()[:2]) for engine in ENGINES)


def _queued(rig: Rig) -> float:
    return rig.metric("otel-collector", "otelcol_exporter_queue_size")


def _level(rig: Rig, level: int, api: Gunicorn) -> Level:
    # Not what rules make of them, which comes minutes later.
    count = f'count({{job="{JOB}",__name__!~".*:.*|ALERTS.*"}})'
    series = wait_for("the service's series", lambda: rig.live.number(count))
    disk = {signal: _bytes(rig.layout.data(store)) for signal, store in STORES.items()}
    took_ms: dict[str, list[float]] = {block: [] for block in ASKED}
    for _ in range(REPEATS):
        for block, path in ASKED.items():
            took_ms[block].append(_ms(api, path))
    return Level(level, series, disk, {block: median(took) for block, took in took_ms.items()})


def _bytes(folder: Path) -> int:
    """What its files take of the disk; those that are mapped far beyond their content too."""
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())


def _ms(api: Gunicorn, path: str) -> float:
    began = time.perf_counter()
    answer = requests.get(f"http://127.0.0.1:{api.port}{path}", timeout=60)
    answer.raise_for_status()
    return (time.perf_counter() - began) * 1e3


def _rows(levels: list[Level]) -> list[Row]:
    few, more, most = levels
    rows = [
        _row(f"series of the service after {most.requests:,} requests", most.series, "{series}",
             f"after {few.requests:,}", few.series, 1.0),
    ]  # fmt: skip
    for signal in STORES:
        rows.append(
            _row(
                f"disk a day at one request a second, {signal}",
                _a_day_mb(more, most, signal),
                "MB",
                f"from {few.requests:,} to {more.requests:,} requests",
                _a_day_mb(few, more, signal),
            )
        )
    for block in ASKED:
        for level in (more, most):
            rows.append(
                _row(
                    f"{block}, a miss after {level.requests:,} requests, median",
                    level.took_ms[block],
                    "ms",
                    f"after {few.requests:,}",
                    few.took_ms[block],
                )
            )
    return rows


def _a_day_mb(before: Level, after: Level, signal: str) -> float:
    made = after.disk[signal] - before.disk[signal]
    return made / (after.requests - before.requests) * DAY_S / 1e6


def _metrics_of_a_day(recording: Recording, folder: Path) -> list[Row]:
    dice = random.Random(26)
    # As many sets of the recorded requests in an export interval, on average one.
    busy = _a_day(recording, folder / "busy", lambda: dice.randint(0, 2))
    idle = _a_day(recording, folder / "idle", lambda: 0)
    return [
        _row("disk a day, metrics of a busy worker", busy.day_mb, "MB",
             "a worker that nobody asks", idle.day_mb),
        _row("disk of one sample of it", busy.sample_bytes, "By",
             "at most on average, by Prometheus' documentation", 2.0),
    ]  # fmt: skip


@dataclass
class Blocks:
    """What Prometheus has written for good: in it are neither its WAL nor its youngest hours."""

    bytes: int
    samples: int
    seconds: float

    @property
    def day_mb(self) -> float:
        return self.bytes / self.seconds * DAY_S / 1e6

    @property
    def sample_bytes(self) -> float:
        return self.bytes / self.samples


def _a_day(recording: Recording, folder: Path, more: Callable[[], int]) -> Blocks:
    """A day of exports, the last one now."""
    with running_prometheus(folder) as server:
        first, times = time.time() - DAY_S, 1
        for export in range(DAY_S // EXPORT_S):
            times += more()
            recording.send_metrics(f"{server.url}/api/v1/otlp", times, first + export * EXPORT_S)
        return wait_for("the day's blocks", lambda: _blocks(folder / "data"))


def _blocks(data: Path) -> Blocks | None:
    """`None` until the blocks reach into the last four hours and none is there twice."""
    files = [*data.glob("*/meta.json")]
    metas = [json.loads(file.read_text()) for file in files]
    if not metas:
        return None
    # Milliseconds.
    first, last = min(m["minTime"] for m in metas), max(m["maxTime"] for m in metas)
    merged = sum(m["maxTime"] - m["minTime"] for m in metas) > last - first
    if merged or last / 1e3 < time.time() - 4 * 3600:
        return None
    return Blocks(
        sum(_bytes(file.parent) for file in files),
        sum(m["stats"]["numSamples"] for m in metas),
        (last - first) / 1e3,
    )
