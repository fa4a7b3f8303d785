"""More requests than the service is sized for: it refuses at once and stays well.

Attacks address 127.0.0.1 and end after one burst.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from simulator.catalogue import CATALOGUE
from simulator.testing import RunningSimulator
from tests.gunicorn_process import Gunicorn, gunicorn, patience

WORKERS, FETCHES, WAITING = 2, 25, 10  # sized for 50
DEADLINE_S, WAIT_S = 4.0, 1.0

# One process per burst, so that counting does not slow down the probes. Prints, for each
# request, its status, the code of its problem, whether it has Retry-After, and its seconds.
BURST = """
import asyncio, json, resource, sys, time

async def one(port, path):
    began = time.perf_counter()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        ask = f"GET {path} HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close"
        writer.write(f"{ask}\\r\\n\\r\\n".encode())
        head, _, body = (await asyncio.wait_for(reader.read(-1), 120)).partition(b"\\r\\n\\r\\n")
        writer.close()
        status = int(head.split()[1])
        code = json.loads(body).get("code") if b"problem+json" in head else None
        return status, code, b"\\nretry-after:" in head.lower(), time.perf_counter() - began
    except (OSError, IndexError, TimeoutError) as error:
        return 0, type(error).__name__, False, time.perf_counter() - began

async def burst(port, count, path):
    return await asyncio.gather(*(one(port, path.format(n=n)) for n in range(count)))

resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
print(json.dumps(asyncio.run(burst(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))))
"""


@pytest.fixture(scope="module")
def server(
    shared_simulator: RunningSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gunicorn]:
    environ = {
        "OTEL_SDK_DISABLED": "true",
        "YOUTUBE_RESOLVE_TO": shared_simulator.resolve_to,
        "YOUTUBE_CA_FILE": str(shared_simulator.ca_file),
        "ENABLE_TRANSCRIPT_CACHE": "0",
        "ENABLE_YOUTUBEI": "0",
        "ENABLE_ASR": "0",
        "WEB_FETCHES": str(FETCHES),
        "WEB_FETCHES_WAITING": str(WAITING),
        "WEB_FETCH_WAIT_S": str(WAIT_S),
        "JOB_DEADLINE_S": str(DEADLINE_S),
        "CIRCUIT_BREAKER_FORCED": "youtube_api=disabled,timedtext=disabled",
    }
    folder = tmp_path_factory.mktemp("overload")
    app = "transcript_service.web:create_app()"
    with gunicorn(folder, environ, app, workers=WORKERS) as run:
        run.wait_for_log('"circuit_breaker.store_chosen"', WORKERS)
        for _ in range(10 * WORKERS):  # both have loaded all they need
            assert answer(run, "/dashboard")[0] == 200
        yield run


def answer(server: Gunicorn, path: str) -> tuple[int, float]:
    """Status and seconds of one request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    began = time.perf_counter()
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        return response.status, time.perf_counter() - began
    finally:
        connection.close()


class Probing:
    """Asks for paths again and again while the context is open."""

    def __init__(self, server: Gunicorn, *paths: str) -> None:
        self.answers: dict[str, list[tuple[int, float]]] = {path: [] for path in paths}
        self._server = server
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(path,)) for path in paths]

    def _run(self, path: str) -> None:
        while not self._stop.wait(0.05):
            self.answers[path].append(answer(self._server, path))

    def __enter__(self) -> Probing:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def slowest_s(self, path: str) -> float:
        assert {status for status, _ in self.answers[path]} == {200}
        return max(seconds for _, seconds in self.answers[path])


def burst(server: Gunicorn, count: int, path: str) -> list[Any]:
    done = subprocess.run(
        [sys.executable, "-c", BURST, str(server.port), str(count), path],
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    return list(json.loads(done.stdout))


@pytest.mark.parametrize("count", [500, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_burst_is_bounded_and_health_and_dashboard_answer_during_it(
    server: Gunicorn, simulator: RunningSimulator, count: int
) -> None:
    video = next(v.id for v in CATALOGUE.values() if v.tracks and not v.fault)
    simulator.set_faults("hang")
    paths = ("/health/live", "/dashboard", "/api/openapi.json")
    with Probing(server, *paths) as probing:
        answers = burst(server, count, f"/api/transcripts/{video}?lang=en")
    statuses = Counter((status, code) for status, code, _, _ in answers)
    refused = [seconds for _, code, _, seconds in answers if code == "overloaded"]
    fetched = [seconds for _, code, _, seconds in answers if code != "overloaded"]
    told: dict[str, Any] = {
        "statuses": {str(key): number for key, number in statuses.items()},
        "slowest_s": max(seconds for *_, seconds in answers),
        "slowest_refusal_s": max(refused),
        "probes_s": {path: probing.slowest_s(path) for path in paths},
    }
    print(json.dumps(told))
    assert statuses.keys() <= {(504, "deadline_exceeded"), (504, "timeout"), (503, "overloaded")}
    # All places are used, and no more: those that waited in vain are refused too.
    rounds = 1 + told["slowest_s"] / DEADLINE_S
    assert WORKERS * FETCHES <= len(fetched) <= WORKERS * FETCHES * rounds
    assert all(retry for _, code, retry, _ in answers if code == "overloaded")
    assert told["slowest_s"] < patience(4 * DEADLINE_S)
    for path in paths:
        assert told["probes_s"][path] < patience(1.0), told
    # Recovery at once: nothing is left over for the next caller to wait for.
    simulator.set_faults()
    status, seconds = answer(server, f"/api/transcripts/{video}?lang=en")
    assert (status, seconds < patience(DEADLINE_S)) == (200, True)
