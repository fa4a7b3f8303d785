"""Alerts on the real stack: from the fault over every hand to the log line, and back.

What is faster here is configuration: how often rules are evaluated and targets scraped, and
Alertmanager's times (so the cooldown is 10 s). `make test` has the rules in a copy whose minutes
are seconds; what the minutes are is proved by promtool (prometheus/tests/). `make test-all` has
the rules as they are shipped, and waits.

SOAK_MINUTES=15 makes the healthy load at the beginning that long (`make soak`).
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from stack.supervise import Supervisor
from tests.live import (
    FAST_TELEMETRY,
    LiveStack,
    Load,
    change_config,
    faster_clocks,
    running_stack,
    wait_for,
)
from transcript_service.telemetry import instruments as i

pytestmark = pytest.mark.timeout(1500)  # the longest `for:` that is waited for, and a soak

JOB = "tldw-transcript-service"
COOLDOWN_S = 10.0
SOAK_S = float(os.environ.get("SOAK_MINUTES", "0.75")) * 60

FASTER_NOTIFICATIONS = {
    "group_wait: 30s": "group_wait: 1s",
    "group_interval: 15m": "group_interval: 10s",
    "repeat_interval: 14m": "repeat_interval: 9s",
}
# The rules' delays, and the windows after which they forget. Windows of ten minutes and more
# need not be full for an alert, and some expressions count what ten minutes hold. The one hour is
# how long a worker is remembered: its alert comes at any time within it.
QUICK_RULES = (
    (re.compile(r"\bfor: \w+"), "for: 6s"),
    (re.compile(r"keep_firing_for: \w+"), "keep_firing_for: 6s"),
    (re.compile(r"\[2m\]"), "[15s]"),
    (re.compile(r"\[[45]m\]"), "[30s]"),
    (re.compile(r"(telemetry_workers:count)\[1h\]"), r"\1[200s]"),
)

ENVIRON = {
    **FAST_TELEMETRY,
    "WEB_CONCURRENCY": "1",
    "ENABLE_TRANSCRIPT_CACHE": "false",  # else a healthy answer would hide the fault
    "ALERT_COOLDOWN_S": str(COOLDOWN_S),
    "CIRCUIT_BREAKER_OPEN_S": "5",  # recovery within seconds once the fault is gone
    # Never open, however slow the machine: with all breakers open AllCircuitBreakersOpen would
    # rightly inhibit the alert of the one that the tests look at.
    "CIRCUIT_BREAKER_FORCED": "asr=metrics_only",
    "DASHBOARD_CACHE_TTL_S": "1",
    "JOB_DEADLINE_S": "60",  # on a busy machine the page takes twenty seconds
}


# What YouTube refuses, and thereby the stages that it blocks.
CAPTIONS_REFUSED = ("http_429@timedtext:0",)  # youtube_api, timedtext
PANEL_REFUSED = ("http_429@get_panel:0", "http_429@get_transcript:0")  # youtubei


class Emitter:
    """Metrics of the service's own instruments, as a worker that is in trouble sends them."""

    def __init__(self, endpoint: str) -> None:
        exporter = OTLPMetricExporter(f"{endpoint}/v1/metrics")
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=1000)
        # With the SDK's own attributes: Prometheus writes no target_info without any.
        resource = Resource.create({"service.name": JOB, "service.instance.id": "in-trouble"})
        self.provider = MeterProvider([reader], resource, shutdown_on_exit=False)
        i.stop()
        i.start(self.provider.get_meter("tests"))
        self.provider.force_flush()  # the zeros: increase() needs somewhere to begin
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        i.BROWSER_CONTEXTS.add(4, profile="desktop", state="leased")
        i.BROWSER_CONTEXTS_CREATED.add(20, profile="desktop")
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(1.0):
            self._one_second()

    def _one_second(self) -> None:
        i.BROWSER_CONTEXTS_LIMIT.set(4)
        i.BROWSER_MEMORY_USAGE.set(2 * 1024**3)
        i.BROWSER_CONTEXT_WAIT_DURATION.record(12, profile="desktop")
        i.BROWSER_CONTEXTS_CREATED.add(1, profile="desktop")
        i.BROWSER_CONTEXTS_CLOSED.add(1, profile="desktop", reason="crash")
        i.PROXY_POOL_PROXIES.set(0, state="healthy")
        i.PROXY_POOL_PROXIES.set(3, state="quarantined")
        i.PROXY_PREFLIGHT_DURATION.record(5, proxy="p1", outcome="timeout")
        i.TRANSCRIPT_STAGE_DURATION.record(120, stage="asr", outcome="success")
        i.TRANSCRIPT_REQUEST_DURATION.record(50, outcome="success", source="asr")
        i.TRANSCRIPT_REQUESTS.add(40, outcome="error", error_type="internal")
        i.CIRCUIT_BREAKER_TRANSITIONS.add(1, name="asr", from_="half_open", to="closed")
        i.TELEMETRY_REDACTION_FAILURES.add(1, signal="logs")
        i.DASHBOARD_QUERY_DURATION.record(2, query="requests_total", outcome="timeout")

    def stop(self) -> None:
        """Send no more; may be called twice."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._thread.join(10)
        self.provider.shutdown()
        i.stop()


@dataclass
class Scene:
    """The stack and what the tests ask of it."""

    live: LiveStack
    hour: str
    """What the rules' hour is here, over which they count workers."""
    emitter: Emitter | None = None

    def prometheus_alerts(self) -> list[dict[str, Any]]:
        """Pending and firing alerts, straight from Prometheus."""
        answer = requests.get(self.live.layout.engine("prometheus", "/api/v1/alerts"), timeout=10)
        return list(answer.json()["data"]["alerts"])

    def state(self, alertname: str, **labels: str) -> str | None:
        """`pending` or `firing`, `None` where the alert is inactive."""
        for alert in self.prometheus_alerts():
            named = alert["labels"]["alertname"] == alertname
            if named and labels.items() <= alert["labels"].items():
                return str(alert["state"])
        return None

    def lines(self, alertname: str, status: str = "firing", **fields: str) -> list[dict[str, Any]]:
        """The alert's lines in the service's log, oldest first."""
        found = []
        for text in self.live.layout.log("service").read_text().splitlines():
            if '"alert.received"' not in text or f'"{alertname}"' not in text:
                continue
            with suppress(json.JSONDecodeError):
                line = json.loads(text[text.index("{") :])
                if line["status"] == status and fields.items() <= line.items():
                    found.append(line)
        return found

    def block(self) -> Mapping[str, Any]:
        """The data of /api/dashboard/metrics/alerts."""
        data: Mapping[str, Any] = self.live.get("/api/dashboard/metrics/alerts").json()["data"]
        return data

    def in_api(self, part: str, alertname: str, **labels: str) -> dict[str, Any] | None:
        """An alert of `active` or `history`."""
        for alert in self.block()[part]:
            if alert["alertname"] == alertname and labels.items() <= alert["labels"].items():
                return dict(alert)
        return None

    def refuse(self, count: int) -> None:
        """Requests to the dashboard API that look as if they came from outside."""
        for _ in range(count):
            with suppress(requests.RequestException):
                self.live.get("/api/dashboard/metrics", headers={"X-Forwarded-For": "192.0.2.1"})


def _quicken(rules: Path) -> None:
    for file in rules.glob("*.yml"):
        text = file.read_text()
        for slow, quick in QUICK_RULES:
            text = slow.sub(quick, text)
        file.write_text(text)


def faster_alerts(live: LiveStack, *, quick_rules: bool) -> None:
    """Evaluate rules every three seconds, and with `quick_rules` count their minutes as seconds."""
    if quick_rules:
        _quicken(live.layout.config_dir / "prometheus" / "rules")
    change_config(live, "alertmanager", FASTER_NOTIFICATIONS)
    # What Alertmanager missed while it was away it is told after this time.
    file = live.layout.supervisor_config
    flag = "--rules.alert.for-grace-period=1m"
    assert flag in file.read_text(), f"{file.name} no longer says {flag}"
    file.write_text(file.read_text().replace(flag, f"{flag} --rules.alert.resend-delay=5s"))
    supervisor = Supervisor(live.layout)
    for program in supervisor.apply():
        supervisor.launch(program)
    wait_for("another Prometheus", lambda: live.query("vector(1)"))
    faster_clocks(live)


@pytest.fixture(
    scope="module", params=["quick", pytest.param("as-shipped", marks=pytest.mark.slow)]
)
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A running stack with the rules, faster clocks, and healthy load on it."""
    with running_stack("alerts", ENVIRON) as live:
        quick = request.param == "quick"
        scene = Scene(live, hour="200s" if quick else "1h")
        faster_alerts(live, quick_rules=quick)
        videos = live.simulator("GET", "videos")["videos"]
        # No captions, private, removed and live ones included; not those with a fault of their own.
        ordinary = [video["id"] for video in videos if not video["default_fault"]]
        # Two clients are enough, and each refused video costs a speech recognition.
        with Load(live, ordinary, threads=2 if quick else 4, pause_s=2):
            yield scene


def test_no_alert_under_healthy_load_with_youtubes_ordinary_answers(scene: Scene) -> None:
    wait_for(
        "answered requests",
        lambda: (scene.live.number("sum(transcript_requests_total)") or 0) > 20,
    )

    def active() -> set[str]:
        return {alert["labels"]["alertname"] for alert in scene.prometheus_alerts()}

    # In its first seconds a stack lacks what is on its way: pending, and not for long.
    wait_for("the start to be over", lambda: active() == {"Watchdog"})
    began = time.monotonic()
    wait_for("the time to pass", lambda: time.monotonic() > began + SOAK_S, timeout_s=SOAK_S + 30)
    # Pending counts as well: most `for` times are longer than a short soak.
    found = scene.live.query(f"count by (alertname) (count_over_time(ALERTS[{SOAK_S:.0f}s]))")
    seen = {series["metric"]["alertname"] for series in found}
    answered = scene.live.query('sum by (outcome) (transcript_requests_total{outcome!="success"})')
    outcomes = {s["metric"]["outcome"] for s in answered if float(s["value"][1]) > 0}
    assert "no_captions" in outcomes, "the load held no private or captionless video"
    assert seen == {"Watchdog"}


def test_alerting_works_and_says_so(scene: Scene) -> None:
    wait_for("the Watchdog's line", lambda: scene.lines("Watchdog"))
    entry = wait_for("the Watchdog in the API", lambda: scene.in_api("history", "Watchdog"))
    assert entry["state"] == "firing"


@pytest.fixture(scope="module")
def faults(scene: Scene) -> Iterator[Scene]:
    """Much goes wrong at once, but one stage still delivers.

    YouTube refuses the captions and the page's panel, so three stages are blocked and their
    breakers open; the speech stage gets the words from the sound.
    """
    live = scene.live
    scene.emitter = Emitter(live.layout.url("otlp-http"))
    live.simulator("PUT", "faults", {"faults": [*CAPTIONS_REFUSED, *PANEL_REFUSED]})
    Supervisor(live.layout).stop(["victorialogs"])
    scene.emitter.start()
    yield scene
    scene.emitter.stop()


@pytest.fixture(scope="module")
def recovering(faults: Scene) -> Scene:
    """The panel answers again; the worker in trouble has ended and is not replaced.

    The captions are still refused: else the first stage would answer every request, and the
    breakers behind it would never see a probe.
    """
    # For most of the time so far there were two workers, or a missing one would not be missed.
    workers = f"quantile_over_time(0.4, job:telemetry_workers:count[{faults.hour}]) > 1"
    wait_for("two workers to be the rule", lambda: faults.live.number(workers), timeout_s=600)
    faults.live.simulator("PUT", "faults", {"faults": [*CAPTIONS_REFUSED]})
    assert faults.emitter is not None
    faults.emitter.stop()
    return faults


@pytest.fixture(scope="module")
def recovered(recovering: Scene) -> Scene:
    """YouTube answers everything again."""
    recovering.live.simulator("DELETE", "faults")
    return recovering


def test_an_alert_that_fires_while_alertmanager_is_dead_is_told_after_its_restart(
    faults: Scene,
) -> None:
    supervisor = Supervisor(faults.live.layout)

    def fires() -> bool:
        # Over several exports: the first sample of a new series counts for nothing.
        faults.refuse(20)
        return faults.state("DashboardAuthFailures") == "firing"

    supervisor.stop(["alertmanager"])
    try:
        wait_for("the alert to fire", fires)
        wait_for(
            "an attempt that failed",
            lambda: faults.live.number("sum(prometheus_notifications_errors_total) > 0"),
        )
        assert faults.lines("DashboardAuthFailures") == []
    finally:
        supervisor.launch("alertmanager")
    (line,) = wait_for("its line", lambda: faults.lines("DashboardAuthFailures"))
    assert (line["notification"], line["alert_labels"]) == ("new", f"job={JOB}")


def test_a_webhook_that_fails_for_a_while_gets_the_alert_later_and_once(faults: Scene) -> None:
    # Without a token in the file the service answers 503, which Alertmanager tries again.
    token = faults.live.layout.webhook_token
    secret = token.read_text()
    refused = "sum(alertmanager_notification_requests_failed_total) > 0"
    token.write_text("")
    try:
        # An alert that nobody has heard of: what Alertmanager makes of Prometheus' posts.
        _post_alert(faults, "RehearsedAlert")
        wait_for("a refused attempt", lambda: faults.live.number(refused))
        assert faults.lines("RehearsedAlert") == []
    finally:
        token.write_text(secret)
    wait_for("the line", lambda: faults.lines("RehearsedAlert"))
    entry = wait_for("it in the API", lambda: faults.in_api("history", "RehearsedAlert"))
    assert entry["state"] == "firing"
    news = [e for e in faults.lines("RehearsedAlert") if e["notification"] == "new"]
    assert len(news) == 1


def _post_alert(scene: Scene, name: str) -> None:
    labels = {"alertname": name, "severity": "warning", "job": "rehearsal"}
    answer = requests.post(
        scene.live.layout.engine("alertmanager", "/api/v2/alerts"),
        json=[{"labels": labels, "annotations": {"summary": "A rehearsal."}}],
        timeout=10,
    )
    assert answer.status_code == 200, answer.text


def test_two_notifications_of_one_alert_are_never_closer_than_the_cooldown(faults: Scene) -> None:
    wait_for("four notifications", lambda: len(faults.lines("Watchdog")) >= 4)
    wait_for("three of another", lambda: len(faults.lines("RedactionFailing")) >= 3)
    for name in ("Watchdog", "RedactionFailing"):
        at = [datetime.fromisoformat(line["timestamp"]).timestamp() for line in faults.lines(name)]
        gaps = [later - earlier for earlier, later in pairwise(at)]
        # A line comes later on a busy machine; two in one interval would have no gap at all.
        assert min(gaps) >= COOLDOWN_S / 2, (name, gaps)
    told = [e["notification"] for e in faults.lines("RedactionFailing")]
    assert told == ["new"] + ["reminder"] * (len(told) - 1)


def _send_old_samples(scene: Scene) -> None:
    """A sample from two hours ago, as a sender with a wrong clock sends it."""
    at = str(time.time_ns() - 2 * 3600 * 10**9)
    point = {"timeUnixNano": at, "asDouble": 1.0}
    metric = {"name": "late.sample", "gauge": {"dataPoints": [point]}}
    attribute = {"key": "service.name", "value": {"stringValue": "late"}}
    body = {
        "resourceMetrics": [
            {"resource": {"attributes": [attribute]}, "scopeMetrics": [{"metrics": [metric]}]}
        ]
    }
    url = scene.live.layout.url("otlp-http", "/v1/metrics")
    assert requests.post(url, json=body, timeout=10).status_code == 200


# How each alert's fault came about: by a real one in the running stack, or by metrics that the
# service's own instruments sent as a worker in that trouble would.
REAL, SENT = "real", "sent"
TABLE = {
    "Watchdog": (REAL, "always"),
    "TranscriptOutage": (SENT, "40 failed requests a second"),
    "TranscriptErrorBudgetBurnFast": (SENT, "40 failed requests a second"),
    "TranscriptErrorBudgetBurnSlow": (SENT, "40 failed requests a second"),
    "TranscriptErrorBudgetBurnTicket": (SENT, "40 failed requests a second"),
    "TranscriptFailureRatioHigh": (SENT, "40 failed requests a second"),
    "TranscriptStageFailureRatioHigh": (REAL, "YouTube refuses the captions"),
    "UpstreamBlocked": (REAL, "YouTube refuses the captions"),
    "CircuitBreakerOpenTooLong": (REAL, "YouTube refuses the captions"),
    "DashboardAuthFailures": (REAL, "requests from outside without a token"),
    "PrometheusNotificationsFailing": (REAL, "Alertmanager stopped"),
    "AlertmanagerFailingToNotify": (REAL, "the webhook answers 503"),
    "TargetDown": (REAL, "VictoriaLogs stopped"),
    "CollectorExportStalled": (REAL, "VictoriaLogs stopped"),
    "CollectorSendFailed": (REAL, "a sample two hours old"),
    "PrometheusSamplesTooOld": (REAL, "a sample two hours old"),
    "TranscriptInternalErrors": (SENT, "exceptions"),
    "TranscriptLatencyP95High": (SENT, "requests of 50 s"),
    "TranscriptLatencyBudgetBurn": (SENT, "requests of 50 s"),
    "CircuitBreakerFlapping": (SENT, "a closing a second"),
    "SpeechBacklog": (SENT, "120 s of speech a second"),
    "BrowserContextPoolSaturated": (SENT, "4 of 4 contexts leased"),
    "BrowserContextWaitLong": (SENT, "leases after 12 s"),
    "BrowserContextLeak": (SENT, "20 contexts more created than closed"),
    "BrowserContextCrashLoop": (SENT, "a crash a second"),
    "BrowserMemoryHigh": (SENT, "2 GiB"),
    "ProxyPoolEmpty": (SENT, "3 of 3 proxies in quarantine"),
    "ProxyPoolDegraded": (SENT, "3 of 3 proxies in quarantine"),
    "ProxyPreflightFailing": (SENT, "probes that time out"),
    "RedactionFailing": (SENT, "a record a second"),
    "DashboardQueriesFailing": (SENT, "queries that time out"),
}


def test_the_alerts_expressions_find_their_faults(faults: Scene) -> None:
    _send_old_samples(faults)
    # Every state of an alert, pending or firing, means that its expression returned a series.
    query = "count by (alertname) (count_over_time(ALERTS[20m]))"

    def missing() -> set[str]:
        return set(TABLE) - {series["metric"]["alertname"] for series in faults.live.query(query)}

    with suppress(AssertionError):
        wait_for("all of the table", lambda: not missing(), timeout_s=420)
    left = missing()
    for name, (how, fault) in TABLE.items():
        print(f"{'-' if name in left else 'x'} {name:34} {how:5} {fault}")
    assert left == set()
    assert len(TABLE) >= 25


BREAKER = "CircuitBreakerOpenTooLong"


@pytest.mark.parametrize("stage", ["youtubei", "youtube_api"])
def test_a_blocked_stage_is_pending_firing_notified_logged_and_shown(
    faults: Scene, stage: str
) -> None:
    alert = BREAKER
    wait_for(
        "the alert to fire", lambda: faults.state(alert, name=stage) == "firing", timeout_s=420
    )
    # It was pending before: rules, not an accident.
    assert faults.live.query(
        f'count_over_time(ALERTS{{alertname="{alert}", name="{stage}", alertstate="pending"}}[20m])'
    )
    (line, *_) = wait_for("its line", lambda: faults.lines(alert, alert_stage=stage))
    assert (line["severity"], line["level"]) == ("critical", "error")
    assert line["alert_labels"] == f"job={JOB}, name={stage}"
    assert re.fullmatch("[0-9a-f]{32}", line["trace_id"])

    def shown() -> dict[str, Any] | None:
        entry = faults.in_api("active", alert, name=stage)
        return entry if entry and entry["last_notified"] else None

    entry = wait_for("it in the API", shown)
    assert entry["state"] == "firing"
    # The launcher points the links of the rules at this stack's own service.
    assert entry["runbook_url"] == faults.live.layout.url("service", f"/runbooks/{alert}")
    assert entry["dashboard_url"] == faults.live.layout.url("service", f"/dashboard?stage={stage}")
    notified, next_one = (
        datetime.fromisoformat(entry[key]).timestamp()
        for key in ("last_notified", "next_repeat_at_earliest")
    )
    assert next_one - notified == pytest.approx(COOLDOWN_S, abs=1.1)
    runbook = requests.get(entry["runbook_url"], timeout=30)
    assert (runbook.status_code, "First checks" in runbook.text) == (200, True)


def test_a_worker_that_falls_silent_is_noticed(recovering: Scene) -> None:
    wait_for("the alert", lambda: recovering.state("TelemetryWorkerSilent"))


@pytest.mark.timeout(1200)  # as shipped, the alert holds for five minutes after its cause
@pytest.mark.parametrize("stage", ["youtubei", "youtube_api"])
def test_its_recovery_is_told_as_well(
    scene: Scene, request: pytest.FixtureRequest, stage: str
) -> None:
    request.getfixturevalue({"youtubei": "recovering", "youtube_api": "recovered"}[stage])
    wait_for(
        "the line of its end",
        lambda: scene.lines(BREAKER, "resolved", alert_stage=stage),
        timeout_s=900,
    )
    gone = wait_for(
        "its end in the API",
        lambda: (
            (entry := scene.in_api("history", BREAKER, name=stage))
            and entry["state"] == "resolved"
            and entry
        ),
    )
    assert gone["next_repeat_at_earliest"] is None
    assert scene.in_api("active", BREAKER, name=stage) is None
