"""docker-compose.yml for real, through `make test-compose`: minutes, and a container engine.

The order of the tests is that of an operator's first day: start, look, use, stop, start again.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from stack.layout import CHECKOUT
from stack.ports import listeners
from tests.compose_kit import PORTS, Compose, NoContainers, container_engine
from tests.live import LOOPBACK, wait_for

pytestmark = [
    pytest.mark.skipif("TEST_COMPOSE" not in os.environ, reason="runs through `make test-compose`"),
    pytest.mark.timeout(3000),
]

SERVICE = "tldw-transcript-service"
ONE_SHOT = ("volumes", "ready")


def _url(port: str, path: str) -> str:
    password = (CHECKOUT / "secrets/engine_password").read_text()
    return f"http://stack:{password}@127.0.0.1:{PORTS[port]}{path}"


def _prometheus(query: str, **more: Any) -> list[dict[str, Any]]:
    answer = requests.get(
        _url("PROMETHEUS_PORT", "/api/v1/query"), {"query": query, **more}, timeout=10
    )
    found: list[dict[str, Any]] = answer.json()["data"]["result"]
    return found


def _trace(trace_id: str) -> list[dict[str, Any]]:
    answer = requests.get(_url("JAEGER_PORT", f"/api/traces/{trace_id}"), timeout=10).json()
    return [span for trace in answer.get("data") or [] for span in trace["spans"]]


def _lines(trace_id: str) -> list[Any]:
    query = f'{{"service.name"="{SERVICE}"}} trace_id:="{trace_id}"'
    url = _url("VICTORIALOGS_PORT", "/select/logsql/query")
    answer = requests.get(url, {"query": query, "start": "6h"}, timeout=10)
    return answer.text.splitlines() if answer.ok else []


@pytest.fixture(scope="module")
def compose() -> Iterator[Compose]:
    """The project, started from nothing and gone afterwards."""
    try:
        with container_engine() as engine:
            project = Compose(engine)
            project.make_secrets()
            project.provide_images()
            project("down", "--volumes", "--remove-orphans")
            for image in project.substituted:
                print(f"substitute made of the native engine: {image}")
            for name in project.missing:
                print(f"not run, its image can be neither pulled nor built: {name}")
            try:
                project.up()
                yield project
            finally:
                (CHECKOUT / ".stack" / "compose.log").write_text(project("logs", "--no-color"))
                project("down", "--volumes", "--remove-orphans")
    except NoContainers as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def trace_id(compose: Compose) -> str:
    """The id of a request for a simulated video's transcript, answered by the service."""
    videos = compose(
        "exec", "-T", "simulator", "python3", "-c",
        "import ssl, urllib.request as u; c = ssl._create_unverified_context(); "
        "print(u.urlopen('https://127.0.0.1:8443/_sim/videos', context=c).read().decode())",
    )  # fmt: skip
    video = next(
        v["id"]
        for v in json.loads(videos)["videos"]
        if not v.get("faults") and any(t["lang"] == "en" for t in v["tracks"])
    )

    def ask() -> requests.Response | None:
        answer = requests.get(_url("SERVICE_PORT", f"/api/transcripts/{video}?lang=en"), timeout=90)
        return answer if answer.ok else None

    answer = wait_for("a transcript", ask)
    assert answer.json()["segments"]
    return answer.headers["X-Correlation-ID"]


def _is_ready(compose: Compose, name: str, service: dict[str, Any]) -> bool:
    state = compose.inspect(name)["State"]
    if name in ONE_SHOT:
        return bool(state["Status"] == "exited" and state["ExitCode"] == 0)
    if name == "service" or "healthcheck" in service:
        return str(state["Health"]["Status"]) == "healthy"
    return bool(state["Running"])


def test_everything_becomes_ready(compose: Compose) -> None:
    for name, service in compose.services().items():
        if name not in compose.missing:
            ready = functools.partial(_is_ready, compose, name, service)
            wait_for(f"{name} to be ready", ready, timeout_s=240)


def test_no_container_can_do_more_than_it_must(compose: Compose) -> None:
    for name in compose.services():
        if name in compose.missing:
            continue
        container = compose.inspect(name)
        host = container["HostConfig"]
        if name != "volumes":
            assert container["Config"]["User"].partition(":")[0] not in ("", "0", "root"), name
            assert not host["CapAdd"], name
        assert host["ReadonlyRootfs"] is True, name
        assert "no-new-privileges:true" in host["SecurityOpt"], name
        assert host["CapDrop"] == ["ALL"], name
        assert host["Memory"] > 0, name
        for bindings in (host["PortBindings"] or {}).values():
            assert [binding["HostIp"] for binding in bindings] == ["127.0.0.1"], name


def test_the_machine_listens_on_loopback_only(compose: Compose) -> None:
    """As the kernel has it. Without a process for each port, nothing listens: rules lead on."""
    published = {
        int(binding["HostPort"])
        for name in compose.services()
        if name not in compose.missing
        for bindings in (compose.inspect(name)["HostConfig"]["PortBindings"] or {}).values()
        for binding in bindings
    }
    assert published <= set(map(int, PORTS.values()))
    assert {address for address, port, _ in listeners() if port in published} <= LOOPBACK


def test_a_transcript_is_answered_and_its_trace_and_lines_are_found(trace_id: str) -> None:
    spans = wait_for("the trace", lambda: _trace(trace_id))
    assert "transcript.stage" in {span["operationName"] for span in spans}
    wait_for("its log lines", lambda: _lines(trace_id))
    wait_for(
        "the request in Prometheus",
        lambda: _prometheus('transcript_requests_total{outcome="success"} > 0'),
    )


def test_prometheus_reaches_every_engine(compose: Compose) -> None:
    wait_for(
        "five targets that are up",
        lambda: len(_prometheus("up == 1")) == 5,
    )


def test_the_webhook_takes_alertmanagers_word_and_nobody_elses(compose: Compose) -> None:
    refused = requests.post(_url("SERVICE_PORT", "/api/alerts/webhook"), json={}, timeout=10)
    assert refused.status_code == 401
    alert = [{"labels": {"alertname": "ComposeTest", "severity": "info"}}]
    url = _url("ALERTMANAGER_PORT", "/api/v2/alerts")
    requests.post(url, json=alert, timeout=10).raise_for_status()
    wait_for(
        "the alert in the service's own count",
        lambda: _prometheus('alerts_received_total{alertname="ComposeTest"}'),
    )


def test_the_data_is_still_there_after_down_and_up(compose: Compose, trace_id: str) -> None:
    before = time.time()
    compose("down")
    compose.up()
    spans = wait_for("the old trace", lambda: _trace(trace_id), timeout_s=240)
    assert spans
    assert wait_for("its old log lines", lambda: _lines(trace_id))
    old = wait_for(
        "the old request count",
        lambda: _prometheus('transcript_requests_total{outcome="success"} > 0', time=before),
    )
    assert old
