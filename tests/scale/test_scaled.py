"""The scaled form as it is started: three services, two of each engine, and the loss of each."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import requests

from stack.layout import CHECKOUT
from stack.programs import SCALED
from stack.supervise import Supervisor
from tests.contract.places import dashboards
from tests.contract.promql import expand
from tests.live import LOOPBACK, LiveStack, Load, healthy_videos, new_stack, wait_for
from tests.needed import needed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

SERVICE = "tldw-transcript-service"
ELSEWHERE = "https://elsewhere.example"
INTERVAL_S = 5
# What a killed process had in memory, in seconds: an export interval of a service, and what
# VictoriaLogs has acknowledged and a node has not written (docs/decisions/victorialogs.md) or the
# front has not passed on (docs/scaling.md).
IN_MEMORY_S = INTERVAL_S + 3
COUNTED = f'max_over_time(transcript_requests_total{{job="{SERVICE}"}}[1h])'

# Thanos, which has the port of the single one, and each replica.
PROMETHEUS = ("prometheus", "prometheus-1", "prometheus-2")
# Of some 140 questions of the boards so many have an answer even where no browser, speech engine
# or proxy is in use and nothing has gone wrong yet.
MUST_HAVE = 30

# Program → what the dashboard calls it when it is away.
MISSING = {
    "service-1": "service-1",
    "otel-collector-1": "part of otel-collector",
    "prometheus-1": "part of prometheus",
    "thanos-sidecar-1": "part of thanos",
    "victorialogs-1": "part of victorialogs",
    "victorialogs-front": "part of victorialogs",
    "jaeger": "jaeger",
    "alertmanager": "alertmanager",
}


@pytest.fixture(scope="module")
def scaled() -> Iterator[LiveStack]:
    """The whole of it, empty; Thanos is built first where it is not there."""
    needed("haproxy")
    needed("redis-server")
    environ = {
        "OTEL_METRIC_EXPORT_INTERVAL": str(INTERVAL_S * 1000),
        "DASHBOARD_CACHE_TTL_S": "1",
        # An open breaker, and its probe, within a test's time.
        "CIRCUIT_BREAKER_OPEN_S": "5",
        "CIRCUIT_BREAKER_HALF_OPEN_CALLS": "1",
        # What captions need, and no browser in each of three services.
        "ENABLE_YOUTUBEI": "0",
        "ENABLE_ASR": "0",
    }
    with new_stack("scaled", environ) as stack:
        stack.up("--scaled", "--with", "simulator")
        yield stack


def asked(stack: LiveStack, port: str, promql: str) -> list[dict[str, Any]]:
    """An instant query to one of those that answer for Prometheus."""
    answer = requests.get(
        stack.layout.engine(port, "/api/v1/query"), {"query": promql}, timeout=10
    ).json()
    result: list[dict[str, Any]] = answer["data"]["result"]
    return result


def value(stack: LiveStack, port: str, promql: str) -> float:
    (found,) = asked(stack, port, promql)
    return float(found["value"][1])


def counts(stack: LiveStack, port: str, sent: int) -> bool:
    return value(stack, port, f"sum({COUNTED})") == sent


def settled(stack: LiveStack) -> float:
    """What was counted, once no export changes it any more."""
    counted = -1.0
    while (now := value(stack, "prometheus", f"sum({COUNTED})")) != counted:
        counted, later = now, time.time() + 3 * INTERVAL_S
        wait_for("three exports", lambda later=later: time.time() > later)  # type: ignore[misc]
    return counted


def health(stack: LiveStack) -> dict[str, Any]:
    """The dashboard's word about the whole."""
    answer = stack.get("/api/dashboard/metrics/health")
    data: dict[str, Any] = answer.json()
    return data


def missing(stack: LiveStack) -> str:
    """What the dashboard says about parts that do not answer."""
    checks = (health(stack)["data"] or {"checks": []})["checks"]
    return " ".join(check["text"] for check in checks if check["name"] == "engines")


def names(stack: LiveStack, part: str) -> bool:
    return part in missing(stack)


@contextmanager
def gone(stack: LiveStack, name: str) -> Iterator[float]:
    """A program killed with -9 and kept away; gives the time. It is back at the end."""
    supervisor = Supervisor(stack.layout)
    killed_at = time.time()
    os.kill(stack.pid(name), signal.SIGKILL)
    try:
        # Again where the supervisor was quick and had started another one.
        while not supervisor.processes()[name].ended:
            supervisor.stop([name])
        yield killed_at
    finally:
        supervisor.launch(name)
        wait_for("every part ready", lambda: stack.launcher("status").returncode == 0)


def test_every_program_listens_on_its_ports_and_on_loopback_only(scaled: LiveStack) -> None:
    found = scaled.listening()
    ports = {port for program in SCALED.values() for port in program.ports}
    assert {port for _, port in found} == set(map(scaled.layout.port, ports))
    assert {address for address, _ in found} <= LOOPBACK


@pytest.mark.parametrize(
    "port",
    [
        *("prometheus", "prometheus-1", "prometheus-2", "thanos-sidecar-1", "thanos-sidecar-2"),
        *("victorialogs", "victorialogs-1", "victorialogs-2", "alertmanager", "jaeger"),
    ],
)
def test_an_engine_answers_nobody_without_the_password(scaled: LiveStack, port: str) -> None:
    assert requests.get(scaled.layout.url(port), timeout=10).status_code == 401
    known = requests.get(
        scaled.layout.engine(port, "/api/v1/query?query=1"),
        headers={"Origin": ELSEWHERE},
        timeout=10,
    )
    assert known.status_code != 401
    assert known.headers.get("Access-Control-Allow-Origin") not in ("*", ELSEWHERE)


def test_every_request_is_counted_once_over_three_services(scaled: LiveStack) -> None:
    with Load(scaled, healthy_videos(scaled)[:3], threads=3) as load:
        load.more(60)
    assert set(load.statuses) == {200}
    sent = len(load.statuses)
    for port in PROMETHEUS:
        wait_for(f"all of them in {port}", partial(counts, scaled, port, sent))
    per_service = asked(scaled, "prometheus", f"sum by (instance) ({COUNTED}) > 0")
    assert len(per_service) == 3
    # Nothing that arrives later counts one again.
    assert settled(scaled) == sent


def test_thanos_says_the_same_95th_percentile_as_each_prometheus(scaled: LiveStack) -> None:
    def percentile(port: str, at: float) -> float:
        window = f'transcript_request_duration_seconds{{job="{SERVICE}"}}[5m] @ {at:.3f}'
        return value(scaled, port, f"histogram_quantile(0.95, sum(rate({window})))")

    def has_one(port: str) -> bool:
        return percentile(port, time.time()) > 0  # not a number until the first is counted

    with Load(scaled, healthy_videos(scaled), threads=3) as load:
        load.more(60)
        for port in PROMETHEUS:
            wait_for(f"one in {port}", partial(has_one, port))
        at = time.time()
        later = at + 2 * INTERVAL_S
        wait_for("what was measured", lambda: time.time() > later)
    both, *each = (percentile(port, at) for port in PROMETHEUS)
    assert each == pytest.approx([both, both], rel=0.01)


def test_thanos_leaves_no_question_of_a_board_empty(scaled: LiveStack) -> None:
    """Every question of every board, at one moment. Grafana itself is not in this form."""
    at = time.time() - INTERVAL_S

    def answer(port: str, path: str, **parameters: object) -> Any:
        url = scaled.layout.engine(port, f"/api/v1/{path}")
        found = requests.post(url, parameters, timeout=20).json()
        assert found["status"] == "success", (parameters, found)
        assert not found.get("warnings"), (parameters, found)
        return found["data"]

    answered = 0
    for question in {
        expand(place.expression) for place in dashboards(CHECKOUT) if place.language == "promql"
    }:
        both, *each = (
            answer(port, "query", query=question, time=at)["result"] for port in PROMETHEUS
        )
        assert both or not all(each), question
        answered += bool(both)
    assert answered >= MUST_HAVE
    span: dict[str, object] = {"start": at - 3600, "end": at}
    both, *each = (
        answer(port, "query_exemplars", query="transcript_request_duration_seconds", **span)
        for port in PROMETHEUS
    )
    assert both
    assert all(each)


def test_the_loss_of_any_one_loses_no_request_and_no_number(scaled: LiveStack) -> None:
    began = time.time()
    before = settled(scaled)
    killed: dict[str, float] = {}
    threads = 2
    with Load(scaled, healthy_videos(scaled)[:3], threads=threads, pause_s=0.5) as load:
        load.more(10)
        for name, said in MISSING.items():
            with gone(scaled, name) as killed[name]:
                load.more(5)
                wait_for(f"the dashboard naming {name}", partial(names, scaled, said))
            wait_for("the dashboard naming nothing", lambda: "Not" not in missing(scaled))
        with gone(scaled, "thanos"):
            load.more(5)
            wait_for(
                "the dashboard without numbers",
                lambda: (answer := health(scaled))["status"] == "unavailable" or answer["stale"],
            )
        load.more(5)
    assert set(load.statuses) == {200}

    # What a killed service had measured since its last export is all that may lack.
    may_lack = sum(0 <= killed["service-1"] - at <= IN_MEMORY_S for at in load.ended)
    sent = len(load.statuses)
    wait_for(
        "the requests in the counters",
        lambda: value(scaled, "prometheus", f"sum({COUNTED})") - before >= sent - may_lack,
    )
    # One that was answered, counted and not delivered when its service was killed was asked again.
    assert settled(scaled) - before <= sent + threads

    # The two services that nobody killed exported all the time.
    window_s = int(time.time() - began)
    of_one = f'target_info{{job="{SERVICE}"}}[{window_s}s]'
    whole = [
        [float(at) for at, _ in series["values"]] for series in asked(scaled, "prometheus", of_one)
    ]
    whole = [times for times in whole if times[-1] - times[0] > window_s - 4 * INTERVAL_S]
    assert len(whole) == 2
    for times in whole:
        # The reader's clock is not exact to the millisecond.
        assert max(b - a for a, b in pairwise(times)) <= 2 * INTERVAL_S + 1

    # And every request has its lines.
    excused = [killed[name] for name in ("service-1", "victorialogs-1", "victorialogs-front")]
    wanted = {
        trace_id
        for trace_id, at in zip(load.trace_ids, load.ended, strict=True)
        if not any(-1 <= when - at <= IN_MEMORY_S for when in excused)
    }

    def without_lines() -> set[str]:
        query = f'{{"service.name"="{SERVICE}"}} trace_id:* | uniq by (trace_id)'
        return wanted - {line["trace_id"] for line in scaled.log_lines(query)}

    wait_for("their lines", lambda: not without_lines())


def test_a_killed_balancer_is_back_at_once(scaled: LiveStack) -> None:
    with Load(scaled, healthy_videos(scaled)[:1], pause_s=0.3) as load:
        load.more(3)
        before = scaled.pid("balancer")
        os.kill(before, signal.SIGKILL)
        wait_for("another balancer", lambda: scaled.pid("balancer") != before)
        wait_for("it serving", lambda: scaled.get("/health/ready").ok)
        answered = len(load.statuses)
        load.more(10)
    # The one that was under way at that moment may be answered late, and wrongly.
    assert set(load.statuses[answered + 1 :]) == {200}


def test_without_redis_the_services_go_on_and_say_so(scaled: LiveStack) -> None:
    with Load(scaled, healthy_videos(scaled)[:1], threads=3) as load, gone(scaled, "redis"):
        load.more(20)
        wait_for("a line about it", lambda: events(scaled, "shared_state.lost"))
        ready = scaled.get("/health/ready")
        assert (ready.status_code, ready.json()["checks"]["redis"]) == (200, "away")
    assert set(load.statuses) == {200}
    wait_for("a line when it is back", lambda: events(scaled, "shared_state.restored"))


def test_a_half_open_breaker_sends_one_probe_from_three_services(scaled: LiveStack) -> None:
    video = healthy_videos(scaled)[0]
    scaled.simulator("PUT", "faults", {"seed": 1, "faults": ["http_503@timedtext"]})
    try:
        with Load(scaled, [video], threads=3) as load:
            wait_for("an open breaker", lambda: opened(scaled))
        assert load.statuses
        # The probe takes long, and meanwhile everybody asks.
        scaled.simulator("PUT", "faults", {"seed": 1, "faults": ["slow_headers@timedtext:8"]})
        later = time.time() + 6
        wait_for("the end of the breaker's rest", lambda: time.time() > later)
        scaled.simulator("DELETE", "requests")
        with Load(scaled, [video], threads=9):
            wait_for("a probe", lambda: downloads(scaled))
            until = time.time() + 4
            wait_for("what the others do meanwhile", lambda: time.time() > until)
            assert len(downloads(scaled)) <= 2  # one of each of the two stages that ask there
    finally:
        scaled.simulator("DELETE", "faults")


def events(stack: LiveStack, name: str) -> list[dict[str, str]]:
    return stack.log_lines(f'{{"service.name"="{SERVICE}"}} event:="{name}"')


def opened(stack: LiveStack) -> bool:
    states = asked(
        stack,
        "prometheus",
        f'circuit_breaker_state{{job="{SERVICE}",name=~"youtube_api|timedtext",state="open"}} == 1',
    )
    # Both, at all three services: what one saw all know.
    return len(states) == 6


def downloads(stack: LiveStack) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = stack.simulator("GET", "requests?endpoint=timedtext")["requests"]
    return found
