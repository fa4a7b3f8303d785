"""Whatever the service is called, dashboards, rules and alerts find it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.contract.series import read_yaml
from tests.gunicorn_process import Gunicorn, gunicorn
from tests.integration.test_alerts_live import faster_alerts
from tests.live import FAST_TELEMETRY, LiveStack, Load, running_stack, wait_for
from tests.panels import all_good
from transcript_service.dashboard.board import SCOPE_OF

# A stack with three services and their browsers: in `make test-all`.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

SHOP: dict[str, str] = {"OTEL_RESOURCE_ATTRIBUTES": "service.namespace=shop"}
MINE: dict[str, str] = {"SERVICE_NAME": "my-app"}
# How each service is called, and the job of its series. The first is the stack's own.
SERVICES: dict[str, dict[str, str]] = {
    "shop/my-app": MINE | SHOP,
    "my-app": MINE,
    "shop/tldw-transcript-service": SHOP,
}
# With the quick rules, one connection that a busy machine loses is enough for the second.
EXPECTED = ("Watchdog", "AlertmanagerFailingToNotify")
FAULTS = ("http_429", "empty_body@timedtext")
ENVIRON = {
    **FAST_TELEMETRY,
    "WEB_CONCURRENCY": "1",
    "ENABLE_TRANSCRIPT_CACHE": "false",
    "DASHBOARD_CACHE_TTL_S": "1",
}


@dataclass(frozen=True)
class Elsewhere(LiveStack):
    """The same engines, another service."""

    process: Gunicorn | None = None

    def get(self, path: str, **kwargs: Any) -> requests.Response:
        """GET from that service."""
        assert self.process is not None
        return requests.get(f"http://127.0.0.1:{self.process.port}{path}", timeout=90, **kwargs)


@dataclass(frozen=True)
class Named:
    """Three services of one stack by job, and since when they have been used."""

    services: Mapping[str, LiveStack]
    stack: LiveStack
    since: float
    faulty: Sequence[str]
    """Videos that fail: some panels show nothing else."""


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Named]:
    own, *others = SERVICES
    with ExitStack() as opened:
        stack = opened.enter_context(running_stack("names", ENVIRON | SERVICES[own]))
        faster_alerts(stack, quick_rules=True)
        services: dict[str, LiveStack] = {own: stack}
        for job in others:
            folder = tmp_path_factory.mktemp("service")
            environ = stack.layout.service_env(simulator=True) | ENVIRON | SERVICES[job]
            environ |= {"STATE_DIR": str(folder / "state")}
            del environ["SERVICE_BIND"]
            running = opened.enter_context(
                gunicorn(folder, environ, "transcript_service.web:create_app()", workers=1)
            )
            services[job] = Elsewhere(stack.layout, process=running)
        since = time.time()
        videos = stack.simulator("GET", "videos")["videos"]
        ordinary = [video["id"] for video in videos if not video["default_fault"]]
        faulty = [video["id"] for video in videos if video["default_fault"] in FAULTS]
        for service in services.values():
            opened.enter_context(Load(service, ordinary, threads=2, pause_s=1))
        yield Named(services, stack, since, faulty)


def _all_blocks(service: LiveStack) -> Mapping[str, Any] | None:
    """The data of each block once all of them have some."""
    overview = service.get("/api/dashboard/metrics?hours=1").json()
    blocks = overview["blocks"]
    complete = not overview["partial"] and all(one["status"] == "ok" for one in blocks.values())
    data = {name: block["data"] for name, block in blocks.items()}
    return data if complete and data["performance"]["requests"]["total"] else None


@pytest.mark.parametrize("job", SERVICES)
def test_every_block_answers_with_numbers_of_this_service(named: Named, job: str) -> None:
    service = named.services[job]
    blocks = wait_for("all blocks", lambda: _all_blocks(service))
    assert set(blocks) == set(SCOPE_OF)
    # Of one worker; were the others' taken for its own, there would be three.
    assert blocks["health"]["workers"] == 1
    for name in SCOPE_OF:
        path = f"/api/dashboard/metrics/{name.replace('_', '-')}"
        assert service.get(path).json()["status"] == "ok", path
    # Its own worker's numbers: another service of the stack may have the job that was asked for.
    exported = service.get("/api/dashboard/metrics/export").text
    workers = set(re.findall(r'transcript_requests_total{instance="([^"]+)"', exported))
    own = named.stack.query(f'group by (instance) (target_info{{job="{job}"}})')
    assert workers == {one["metric"]["instance"] for one in own}
    assert len(workers) == 1
    wait_for("traces", lambda: service.get("/api/dashboard/traces?hours=1").json()["traces"])
    wait_for("lines", lambda: service.get("/api/dashboard/logs").json()["lines"])
    assert service.get("/api/dashboard/failures?hours=1").ok


def _recorded() -> set[str]:
    """What rules record of each job, by the name of the record."""
    folder = Path(__file__).parents[2] / "prometheus" / "rules"
    rules = [
        rule
        for file in folder.glob("*.yml")
        for group in read_yaml(file)["groups"]
        for rule in group["rules"]
    ]
    return {rule["record"] for rule in rules if rule.get("record", "").startswith("job")}


def test_rules_record_the_same_of_each(named: Named) -> None:
    def found() -> dict[str, set[str]]:
        series = named.stack.query('count by (job, __name__) ({__name__=~"job[a-z_]*:.+"})')
        return {
            job: {one["metric"]["__name__"] for one in series if one["metric"]["job"] == job}
            for job in SERVICES
        }

    def same() -> bool:
        first, *others = found().values()
        return len(first) > 5 and all(other == first for other in others)

    wait_for("the same records of each job", same)
    assert found()["my-app"] < _recorded()  # the others are about the Collector and its signals


def _told(stack: LiveStack, expression: str) -> list[dict[str, str]]:
    alerts = [one["metric"] for one in stack.query(expression)]
    return [one for one in alerts if one["alertname"] not in EXPECTED]


def test_no_rule_fails_and_no_alert_fires(named: Named) -> None:
    # An alert that is wrong about a name would be so for good. One that counts minutes as
    # seconds may fire while the first metrics and spans are on their way.
    wait_for("no alert", lambda: not _told(named.stack, 'ALERTS{alertstate="firing"}'))
    quiet = time.time()
    wait_for("thirty seconds of load", lambda: time.time() > quiet + 30)
    assert _told(named.stack, 'last_over_time(ALERTS{alertstate="firing"}[25s])') == []
    url = named.stack.layout.engine("prometheus", "/api/v1/rules")
    groups = requests.get(url, timeout=10).json()["data"]["groups"]
    # `unknown`: a group of every five minutes, whose first turn is to come.
    bad = [rule["name"] for group in groups for rule in group["rules"] if rule["health"] == "err"]
    assert not bad


@pytest.mark.parametrize("job", ["my-app", "shop/tldw-transcript-service"])
def test_every_panel_that_must_have_data_has_some(named: Named, job: str) -> None:
    # Boards know a service by its name alone, in every namespace.
    with Load(named.services[job], named.faulty, pause_s=3) as load:
        load.more(8, timeout_s=600)  # the first failures of this service: a rate needs two
        assert all_good(named.services[job], named.since, job.rpartition("/")[2])


def test_a_service_that_falls_silent_is_missed_by_its_name(named: Named) -> None:
    gone = "shop/tldw-transcript-service"
    service = named.services[gone]
    assert isinstance(service, Elsewhere)
    assert service.process is not None
    service.process.stop(120)  # after the request under way, which may have a minute
    absent = 'ALERTS{alertname="TelemetryAbsent", alertstate="firing"}'
    found = wait_for("TelemetryAbsent", lambda: named.stack.query(absent))
    assert [one["metric"]["job"] for one in found] == [gone]
