"""The scaled form as it is started: three services, two of each engine, and the loss of each."""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from stack.layout import CHECKOUT
from stack.programs import SCALED
from stack.supervise import Supervisor
from tests.contract.places import dashboards, load_dashboards, panels_of
from tests.contract.promql import expand
from tests.live import LOOPBACK, LiveStack, Load, healthy_videos, new_stack, wait_for
from tests.needed import needed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

SERVICE = "tldw-transcript-service"
ELSEWHERE = "https://elsewhere.example"
INTERVAL_S = 5
# How long after a line can be found it may still be in VictoriaLogs' memory only, in seconds
# (docs/decisions/victorialogs.md).
IN_MEMORY_S = 3
# Who has lines in memory that nobody else has: a service what it has not exported, VictoriaLogs
# what a node has not written or the front not passed on (docs/scaling.md).
HOLDS_LINES = ("service-1", "victorialogs-1", "victorialogs-front")
COUNTED = f'max_over_time(transcript_requests_total{{job="{SERVICE}"}}[1h])'

# Thanos, which has the port of the single one, and each replica.
PROMETHEUS = ("prometheus", "prometheus-1", "prometheus-2")
# Of some 140 questions of the boards so many have an answer even where no browser, speech engine
# or proxy is in use and nothing has gone wrong yet: about what is pushed, and about the rest.
MUST_HAVE, MUST_HAVE_OF_ENGINES = 30, 10
# What a board shows, in seconds.
BOARD_S = 120

# By labels and time.
Points = dict[tuple[frozenset[tuple[str, str]], float], list[float]]

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


def api(stack: LiveStack, port: str, path: str, **parameters: Any) -> Any:
    """What one of those that answer for Prometheus says, without a warning."""
    url = stack.layout.engine(port, f"/api/v1/{path}")
    ask = requests.post if path.startswith("query") else requests.get
    found = ask(url, parameters, timeout=20).json()
    assert found["status"] == "success", (parameters, found)
    assert not found.get("warnings"), (parameters, found)
    return found["data"]


def grafanas_prometheus(stack: LiveStack) -> str:
    """The address in the files that Grafana is given, with user and password."""
    file = stack.layout.config_dir / "grafana/provisioning/datasources/stack.yaml"
    sources = yaml.safe_load(file.read_text())["datasources"]
    (found,) = (source for source in sources if source["type"] == "prometheus")
    password = Path(found["secureJsonData"]["basicAuthPassword"].removeprefix("$__file{")[:-1])
    signed_in = f"http://{found['basicAuthUser']}:{password.read_text()}@"
    return str(found["url"]).replace("http://", signed_in)


def questions() -> set[tuple[str, str]]:
    """(path, PromQL) of every board: panels as they ask, variables and notes at one moment."""
    of_panels = {
        ("query_range" if target.get("range") else "query", expand(target["expr"]))
        for board in load_dashboards().values()
        for panel in panels_of(board)
        for target in panel["targets"]
        if target["datasource"]["type"] == "prometheus"
    }
    every = {
        expand(place.expression) for place in dashboards(CHECKOUT) if place.language == "promql"
    }
    return of_panels | {("query", rest) for rest in every - {asked for _, asked in of_panels}}


def own_names(stack: LiveStack) -> set[str]:
    """Of metrics that a Prometheus does not just receive: what it asks engines for, and records."""
    jobs = "|".join(
        found["metric"]["job"] for found in asked(stack, "prometheus", "group by (job) (up)")
    )
    scraped = api(stack, "prometheus", "label/__name__/values", **{"match[]": f'{{job=~"{jobs}"}}'})
    groups = api(stack, "prometheus", "rules")["groups"]
    return {"ALERTS", *scraped, *(rule["name"] for group in groups for rule in group["rules"])}


def have_the_same(stack: LiveStack, at: float) -> bool:
    """Whether both have received everything of until `at`, whichever Collector it comes through."""
    # All that a service sends comes at once; what a Collector counts of its spans by itself.
    names = (f'target_info{{job="{SERVICE}"}}', "traces_span_metrics_calls_total")
    received = " + ".join(
        f"sum(count_over_time({name}[{BOARD_S + 300}s] @ {at:.3f}))" for name in names
    )
    newest = f"min({' or '.join(f'timestamp({name})' for name in names)})"
    if any(value(stack, port, newest) <= at + INTERVAL_S for port in PROMETHEUS[1:]):
        return False
    # And what they asked engines for until then.
    if any(value(stack, port, "min(timestamp(up))") <= at for port in PROMETHEUS[1:]):
        return False
    one, other = (value(stack, port, received) for port in PROMETHEUS[1:])
    return one == other


def points(answer: dict[str, Any]) -> Points:
    """By labels and time: the value, or a histogram's count and sum."""
    found: Points = {}
    for series in answer["result"]:
        labels = frozenset(series["metric"].items())
        for at, number in [*series.get("values", ()), *filter(None, [series.get("value")])]:
            found[labels, float(at)] = [float(number)]
        for at, drawn in [*series.get("histograms", ()), *filter(None, [series.get("histogram")])]:
            found[labels, float(at)] = [float(drawn["count"]), float(drawn["sum"])]
    return found


def answers(stack: LiveStack, path: str, question: str, at: float) -> list[Points]:
    """Of Thanos and of each Prometheus, as a board that ends at that time asks."""
    times: dict[str, dict[str, float]] = {
        "query": {"time": at},
        "query_range": {"start": at - BOARD_S, "end": at, "step": INTERVAL_S},
    }
    return [points(api(stack, port, path, query=question, **times[path])) for port in PROMETHEUS]


def has_the_series_of_each(stack: LiveStack, path: str, question: str) -> bool:
    """Whether Thanos now knows what both know, and nothing that neither does."""
    both, one, other = (
        {labels for labels, _ in found} for found in answers(stack, path, question, time.time())
    )
    return one & other <= both <= one | other


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
        # Again where the supervisor was quick and starts another one: "exited" is no rest yet.
        while supervisor.processes()[name].state not in ("STOPPED", "FATAL"):
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


def test_thanos_answers_every_question_of_a_board_as_one_prometheus_does(
    scaled: LiveStack,
) -> None:
    """Grafana itself is not in this form: asked as it asks, where it is told to ask."""
    assert grafanas_prometheus(scaled) == scaled.layout.engine("prometheus")
    with Load(scaled, healthy_videos(scaled), threads=3) as load:
        load.more(60)
        # A Collector counts spans every 15 seconds.
        calls = "traces_span_metrics_calls_total"
        wait_for(
            "spans that were counted", lambda: all(asked(scaled, p, calls) for p in PROMETHEUS)
        )
        at = time.time()
        wait_for("the same in both", lambda: have_the_same(scaled, at))
    own = own_names(scaled)
    answered = Counter[bool]()
    for path, question in sorted(questions()):
        is_pushed = own.isdisjoint(re.findall(r"[a-zA-Z_:][\w:]*", question))
        if is_pushed:
            both, *each = answers(scaled, path, question, at)
            for single in each:
                assert both.keys() == single.keys(), question
                for when, found in both.items():
                    assert found == pytest.approx(single[when], rel=0.01, nan_ok=True), question
        else:
            # Each Prometheus asks the engines, and evaluates its rules, at moments of its own:
            # two that are a minute old need not know the same yet.
            wait_for(question, partial(has_the_series_of_each, scaled, path, question))
            both = answers(scaled, path, question, time.time())[0]
        assert not any("replica" in dict(labels) for labels, _ in both), question
        answered[is_pushed] += bool(both)
    assert answered[True] >= MUST_HAVE
    assert answered[False] >= MUST_HAVE_OF_ENGINES
    query = "transcript_request_duration_seconds"
    span = {"start": at - BOARD_S, "end": at}
    assert all(api(scaled, port, "query_exemplars", query=query, **span) for port in PROMETHEUS)


def test_thanos_has_every_rule_and_every_alert_once(scaled: LiveStack) -> None:
    """The dashboard asks it for alerts. Each Prometheus evaluates the rules for itself."""

    def rules(port: str) -> list[tuple[str, str]]:
        groups = api(scaled, port, "rules")["groups"]
        return sorted((group["name"], rule["name"]) for group in groups for rule in group["rules"])

    both, *each = map(rules, PROMETHEUS)
    assert both
    assert each == [both, both]

    def always_fires(port: str) -> bool:
        names = [alert["labels"]["alertname"] for alert in api(scaled, port, "alerts")["alerts"]]
        return names.count("Watchdog") == 1

    for port in PROMETHEUS:
        wait_for(f"the alert that always fires in {port}", partial(always_fires, port))


def test_the_loss_of_any_one_loses_no_request_and_no_number(scaled: LiveStack) -> None:
    began = time.time()
    before = settled(scaled)
    # When one of those was killed that hold lines, and what was written before.
    held: list[tuple[float, set[str]]] = []
    threads, may_lack = 2, 0.0
    with Load(scaled, healthy_videos(scaled)[:3], threads=threads, pause_s=0.5) as load:
        load.more(10)
        for name, said in MISSING.items():
            found = with_lines(scaled)
            # What was found then is written by now.
            load.more(1)
            later = time.time() + IN_MEMORY_S
            wait_for("what was found to be written", partial(is_past, later))
            counted = value(scaled, "prometheus", f"sum({COUNTED})") - before
            with gone(scaled, name) as killed_at:
                if name == "service-1":
                    # What it had measured and not exported is all that may lack.
                    may_lack = len(load.statuses) + threads - counted
                load.more(5)
                wait_for(f"the dashboard naming {name}", partial(names, scaled, said))
            if name in HOLDS_LINES:
                held.append((killed_at, found))
            wait_for("the dashboard naming nothing", lambda: "Not" not in missing(scaled))
        with gone(scaled, "thanos"):
            load.more(5)
            wait_for(
                "the dashboard without numbers",
                lambda: (answer := health(scaled))["status"] == "unavailable" or answer["stale"],
            )
        load.more(5)
    assert set(load.statuses) == {200}

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

    # And every request has its lines, but for some that a killed process had in memory.
    excused = {
        trace_id
        for killed_at, written in held
        for trace_id, at in zip(load.trace_ids, load.began, strict=True)
        if at <= killed_at and trace_id not in written
    }
    wanted = set(load.trace_ids) - excused
    assert len(wanted) > sent / 2
    wait_for("their lines", lambda: wanted <= with_lines(scaled))


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
    with (
        Load(scaled, healthy_videos(scaled)[:1], threads=3) as load,
        gone(scaled, "redis") as killed_at,
    ):
        load.more(20)
        wait_for("a line of each", lambda: len(events(scaled, "shared_state.lost", killed_at)) == 3)
        ready = scaled.get("/health/ready")
        assert (ready.status_code, ready.json()["checks"]["redis"]) == (200, "away")
    assert set(load.statuses) == {200}
    wait_for("one when it is back", lambda: events(scaled, "shared_state.restored", killed_at))


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


def events(stack: LiveStack, name: str, since: float) -> set[str]:
    """Which of the services have said it since then."""
    lines = stack.log_lines(f'{{"service.name"="{SERVICE}"}} event:="{name}"')
    begin = datetime.fromtimestamp(since, UTC).isoformat()
    return {line["service.instance.id"] for line in lines if line["_time"] > begin}


def is_past(moment: float) -> bool:
    return time.time() > moment


def with_lines(stack: LiveStack) -> set[str]:
    """The traces that have lines in the log."""
    query = f'{{"service.name"="{SERVICE}"}} trace_id:* | uniq by (trace_id)'
    return {line["trace_id"] for line in stack.log_lines(query)}


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
