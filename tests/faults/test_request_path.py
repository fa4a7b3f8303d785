"""Requests while a telemetry engine is dead, frozen or full, against healthy ones, in one run."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

import pytest
import requests

from stack.layout import CHECKOUT
from tests.faults.matrix.rig import ENGINES, MountingForbidden, Rig, running_rig
from tests.live import FAST_TELEMETRY, healthy_videos

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

REQUESTS = 100
CLIENTS = 2


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    disks = [name for name in ENGINES if name != "alertmanager"]
    service = {**FAST_TELEMETRY, "WEB_CONCURRENCY": "2"}
    with running_rig("request-path", disks=disks, environ={"service": service}) as running:
        running.start("simulator")
        running.start("service")
        yield running


@contextmanager
def _dead(rig: Rig, name: str) -> Iterator[None]:
    rig.kill(name)
    try:
        yield
    finally:
        rig.start(name)


@contextmanager
def _full(rig: Rig, name: str) -> Iterator[None]:
    with rig.full(name):
        yield
    if not rig.running(name):  # some end when they cannot write
        rig.start(name)


FAULTS: dict[str, Callable[[Rig, str], AbstractContextManager[None]]] = {
    "dead": _dead,
    "frozen": Rig.frozen,
    "full": _full,
}


NO_DISK = ("alertmanager", "full")
Measured = tuple[float, float, int]


def _measure(rig: Rig, video: str) -> Measured:
    """P50 and P99 in ms of some requests, and how many were not answered with 200."""
    durations: list[float] = []
    failed = 0

    def client() -> None:
        nonlocal failed
        session = requests.Session()
        for _ in range(REQUESTS // CLIENTS):
            began = time.perf_counter()
            try:
                answer = session.get(
                    rig.layout.url("service", f"/api/transcripts/{video}"), timeout=60
                )
                failed += answer.status_code != 200
            except requests.RequestException:
                failed += 1
            durations.append((time.perf_counter() - began) * 1000)

    clients = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    cuts = statistics.quantiles(durations, n=100)
    return cuts[49], cuts[98], failed


def test_no_engine_in_trouble_costs_a_request_anything(rig: Rig) -> None:
    video = healthy_videos(rig.live)[0]
    _measure(rig, video)  # the first requests warm everything up
    healthy: dict[str, Measured] = {}
    noise: list[Measured] = []
    broken: dict[tuple[str, str], Measured] = {}

    def measure(engine: str, *faults: str) -> None:
        """Without a fault first, so that both are of the same hour of a busy machine."""
        noise.append(_measure(rig, video))
        healthy.setdefault(f"healthy before {engine}", noise[-1])
        for fault in faults:
            with suppress(MountingForbidden), FAULTS[fault](rig, engine):
                broken[engine, fault] = _measure(rig, video)

    def dear() -> list[tuple[str, str]]:
        """Beyond the noise of this machine: what the healthy phases show, twice."""
        p50, p99 = (2 * max(found[at] for found in noise) for at in (0, 1))
        return [state for state, found in broken.items() if found[0] > p50 or found[1] > p99]

    for engine in ENGINES:
        measure(engine, *(fault for fault in FAULTS if (engine, fault) != NO_DISK))
    for _ in range(2):  # chance does not hit the same one three times
        for engine, fault in dear():
            measure(engine, fault)
    measured = healthy | {f"{engine} {fault}": found for (engine, fault), found in broken.items()}
    for name, (p50, p99, failed) in measured.items():
        print(f"{name:32} P50 {p50:6.1f} ms  P99 {p99:6.1f} ms  failed {failed}")
    path = CHECKOUT / ".stack/reliability.json"
    notes = json.loads(path.read_text()) if path.exists() else {}
    notes["requests"] = {
        name: {"p50_ms": round(p50, 1), "p99_ms": round(p99, 1), "failed": failed}
        for name, (p50, p99, failed) in measured.items()
    }
    path.write_text(json.dumps(notes, indent=1) + "\n")
    assert not any(failed for _, _, failed in measured.values()), measured
    assert dear() == [], measured
