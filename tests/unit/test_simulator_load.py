"""The load generator asks what it should, counts everything that happens, and stops by itself."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from simulator import load
from simulator.catalogue import CATALOGUE
from simulator.faults import Fault
from simulator.testing import running_simulator


class Service:
    """A service whose answers are given."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self._hangs = hangs

    async def transcript(self, request: web.Request) -> web.StreamResponse:
        number = len(self.asked)
        self.asked.append((request.match_info["video"], dict(request.query)))
        if self._hangs:
            await asyncio.Event().wait()
        match number % 4:
            case 0 | 1:
                return web.json_response({"segments": []})
            case 2:
                return web.json_response({"code": "ip_blocked"}, status=502)
            case _:
                assert request.transport is not None
                request.transport.abort()
                return web.Response()


async def with_service(plan: dict[str, Any], service: Service) -> int:
    app = web.Application()
    app.router.add_get("/api/transcripts/{video}", service.transcript)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        target = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return await load.run(load.Plan(target=target, **plan))
    finally:
        await runner.cleanup()


def test_every_request_and_every_failure_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    service = Service()
    code = asyncio.run(with_service({"rate": 40, "duration_s": 0.5, "concurrency": 20}, service))
    assert code == 0
    assert len(service.asked) == 20
    out = capsys.readouterr().out
    counts = {
        line[:32].strip(): int(line[32:].split()[0]) for line in out.splitlines() if "%" in line
    }
    assert counts == {"200": 10, "502 ip_blocked": 5, "connection broken": 5}
    assert out.startswith("requests   20 in ")


def test_requests_name_real_videos_languages_and_the_format() -> None:
    service = Service()
    asyncio.run(with_service({"rate": 100, "duration_s": 0.2, "concurrency": 1}, service))
    for video, query in service.asked:
        languages = [track.lang for track in CATALOGUE[video].tracks] or ["en"]
        assert query["lang"] in languages
        assert query["format"] == "json"


def test_a_slow_service_gets_no_more_than_the_slots_and_the_load_ends_in_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "GRACE_S", 0.1)
    service = Service(hangs=True)
    asyncio.run(with_service({"rate": 100, "duration_s": 0.3, "concurrency": 3}, service))
    out = capsys.readouterr().out
    assert len(service.asked) == 3
    assert "abandoned at the end                  3  100.0%" in out
    assert "not sent, all slots busy             27" in out


def test_a_service_that_is_not_there_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    plan = load.Plan(target=f"http://127.0.0.1:{port}", rate=50, duration_s=0.1)
    assert asyncio.run(load.run(plan)) == 0
    assert "connection refused                    5  100.0%" in capsys.readouterr().out


@pytest.mark.parametrize(("videos", "failing"), [("healthy", 0), ("failing", 500), ("mix", 75)])
def test_the_mix_is_seeded_and_as_named(videos: str, failing: int) -> None:
    plan = load.Plan(target="http://127.0.0.1:1", videos=videos, seed=4)
    chosen = list(islice(load.choose(plan), 500))
    assert chosen == list(islice(load.choose(plan), 500))
    kinds = Counter(load._healthy(CATALOGUE[video]) for video, _ in chosen)
    assert abs(kinds[False] - failing) <= 25


def test_a_terminal_gets_one_line_that_is_rewritten(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    asyncio.run(with_service({"rate": 20, "duration_s": 0.8}, Service()))
    lines = capsys.readouterr().out.split("requests ")[0].split("\r\x1b[K")
    assert len(lines) >= 2
    assert "in flight" in lines[1]
    assert "p95" in lines[1]


def test_faults_are_switched_on_the_simulator(tmp_path: Path) -> None:
    with running_simulator(tmp_path) as simulator:
        plan = load.Plan(
            target="http://127.0.0.1:1",
            faults=2,
            control=f"https://127.0.0.1:{simulator.port}",
            ca_file=simulator.ca_file,
        )

        async def switch(faults: list[str]) -> None:
            async with load.control_session(plan) as session:
                await load.put_faults(plan, session, faults, 7)

        asyncio.run(switch(["latency", "reset=0.3"]))
        assert [fault.name for fault in simulator.state.plan.everywhere] == ["latency", "reset"]
        asyncio.run(switch([]))
        assert simulator.state.plan.everywhere == []


def test_every_demo_fault_is_one_the_simulator_knows() -> None:
    for spec in load.RANDOM_FAULTS:
        Fault.parse(f"{spec}=0.3")
