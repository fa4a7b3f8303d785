"""Faults of Prometheus and of what is sent to it."""

from __future__ import annotations

import math
import time

import requests
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    Gauge,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from tests.faults.matrix.generating import generating
from tests.faults.matrix.ledger import Account
from tests.faults.matrix.rig import running_rig
from tests.faults.matrix.scene import Outcome, Scene
from tests.live import wait_for

PROMETHEUS = "prometheus"


def killed(scene: Scene) -> Outcome:
    """kill -9 while metrics come in."""
    with scene.generating() as generator:
        generator.tell("rate", 200)
        time.sleep(2)
        scene.rig.kill(PROMETHEUS)
        time.sleep(1)
        scene.rig.start(PROMETHEUS)
        time.sleep(1)
    balance, recovery_s = scene.recovered()
    assert balance.complete, balance
    return Outcome(balance, recovery_s)


def disk_full(scene: Scene) -> Outcome:
    """Prometheus cannot write its log, and says 200 all the same."""
    if not scene.thorough:
        return _disk_full(scene)
    # Rules, scrapes and all as they are shipped.
    engines = ("otel-collector", PROMETHEUS, "victorialogs", "jaeger")
    with running_rig("disk-full", *engines, shipped_rules=True, disks=[PROMETHEUS]) as rig:
        outcome = _disk_full(Scene(rig, "7", thorough=True))
    assert outcome.alert_s is not None
    assert outcome.alert_s < 120
    return outcome


def _disk_full(scene: Scene) -> Outcome:
    hop, rig = scene.rig.hops[PROMETHEUS], scene.rig
    chunks = rig.layout.data(PROMETHEUS) / "chunks_head"
    with scene.generating() as generator:
        generator.tell("rate", 20)
        wait_for("first points", lambda: len(scene.account.points()) > 2)
        wait_for("a first scrape", lambda: rig.live.number("count(up)"))
        if scene.thorough:  # it has its place on disk then, and will not end for want of one
            wait_for("a file of chunks", lambda: any(chunks.iterdir()), 400)
        wait_for("no alarm", lambda: rig.alert("PrometheusStoresNothing") is None)
        hop.statuses.clear()
        with rig.full(PROMETHEUS):
            began = time.monotonic()

            def noticed() -> str:
                if not rig.running(PROMETHEUS):
                    return "Prometheus ended, what came then waited in the Collector"
                return "alert" if rig.alert("PrometheusStoresNothing") == "firing" else ""

            how = wait_for("PrometheusStoresNothing", noticed, 180)
            alert_s = time.monotonic() - began
            told = dict(hop.statuses)
        if how != "alert":
            rig.start(PROMETHEUS)
        resumed = len(scene.account.points())
        wait_for("points again", lambda: len(scene.account.points()) > resumed + 2)
    balance, recovery_s = scene.recovered()
    assert not balance.missing["metrics"], "counters must be right with the next push"
    note = f"answers {told}" if how == "alert" else how
    if how != "alert":
        assert not scene.thorough, how
        return Outcome(balance, recovery_s, note=note)
    assert balance.points, "everything was stored: the fault did not happen, or it is mended"
    return Outcome(balance, recovery_s, "PrometheusStoresNothing", alert_s, note)


def log_broken(scene: Scene) -> Outcome:
    """A byte of the write-ahead log is flipped while Prometheus is down."""
    with scene.generating() as generator:
        generator.tell("rate", 50)
        time.sleep(3)
        generator.tell("rate", 0)
        generator.tell("flush", 10)
        scene.account.settled()
        scene.rig.kill(PROMETHEUS)
        segments = sorted((scene.rig.layout.data(PROMETHEUS) / "wal").glob("0*"))
        content = bytearray(segments[-1].read_bytes())
        content[len(content) * 9 // 10] ^= 0xFF
        segments[-1].write_bytes(content)
        began = time.monotonic()
        scene.rig.start(PROMETHEUS)
        recovery_s = time.monotonic() - began
        found = scene.rig.metric(PROMETHEUS, "prometheus_tsdb_wal_corruptions_total")
        assert found == 1
        scene.rig.wait_firing("PrometheusWalTrouble")
        alert_s = time.monotonic() - began
        generator.tell("make", 10)
    balance = scene.account.settled()
    assert not balance.missing["metrics"], "counters must be right with the next push"
    note = f"{balance.points} of {len(scene.account.truth().collections)} pushes lost"
    return Outcome(balance, recovery_s, "PrometheusWalTrouble", alert_s, note)


def _send(scene: Scene, service: str, *metrics: Metric) -> None:
    """One request of a sender of its own to the Collector."""
    name = KeyValue(key="service.name", value=AnyValue(string_value=service))
    resource = Resource(attributes=[name])
    made = ResourceMetrics(resource=resource, scope_metrics=[ScopeMetrics(metrics=metrics)])
    answer = requests.post(
        scene.rig.layout.url("otlp-http", "/v1/metrics"),
        ExportMetricsServiceRequest(resource_metrics=[made]).SerializeToString(),
        headers={"Content-Type": "application/x-protobuf"},
        timeout=10,
    )
    assert answer.status_code == 200


def poisoned(scene: Scene) -> Outcome:
    """Metrics that nobody can store, in one request with one that anybody can."""
    now, hour = time.time_ns(), 3_600_000_000_000

    def gauge(name: str, *points: tuple[int, float]) -> Metric:
        made = [NumberDataPoint(time_unix_nano=at, as_double=value) for at, value in points]
        return Metric(name=name, gauge=Gauge(data_points=made))

    harmless = (
        gauge("poison.empty"),
        gauge("poison.twice", (now, 1.0), (now, 2.0)),
        gauge("poison.order", (now, 1.0), (now - 60_000_000_000, 2.0)),
        gauge("poison.nan", (now, math.nan)),
    )
    deadly = (
        gauge("poison.old", (now - hour, 1.0)),
        gauge("poison.ahead", (now + hour, 1.0)),
        Metric(name="poison.no.kind"),
    )
    good = gauge("poison.good", (now, 42.0))
    with scene.generating() as generator:
        generator.tell("rate", 50)
        time.sleep(1)
        _send(scene, "harmless", *harmless, good)
        for number, one in enumerate(deadly):
            _send(scene, f"deadly-{number}", one, good)
        held = "poison_good == 42"
        wait_for("the good one", lambda: scene.rig.live.number(f"count({held})") == 1)
        time.sleep(1)
    balance = scene.account.settled()

    # The generator's own requests, sent at the same time, have nothing to do with it.
    assert balance.complete, balance
    failed = balance.collector["metrics", "send_failed"]
    assert failed >= len(deadly), "what Prometheus rejects is counted"
    return Outcome(balance, note=f"{failed} points of {len(deadly)} requests in `send_failed`")


def clocks(scene: Scene) -> Outcome:
    """A worker whose clock is an hour behind, one an hour ahead, and one that is right."""
    began = time.monotonic()
    wrong = {
        word: Account(scene.rig, f"{scene.account.service}-{word}") for word in ("behind", "ahead")
    }
    with scene.generating() as right:
        right.tell("rate", 40)
        for word, account in wrong.items():
            seconds = "-3600" if word == "behind" else "3600"
            environ = {"LEDGER_CLOCK_AHEAD_S": seconds}
            with generating(scene.rig, account.service, environ) as generator:
                generator.tell("make", 40)
                time.sleep(2)
        scene.rig.wait_firing("CollectorSendFailed")
        alert_s = time.monotonic() - began
    scene.account.beside = list(wrong.values())
    balance = scene.account.settled()
    assert balance.complete, "the right clock's telemetry suffers from the wrong ones"
    notes = []
    for word, account in wrong.items():
        other = account.balance()
        assert not other.lost, (word, other)
        notes.append(f"an hour {word}: {other.missing['metrics']} of 40 counts not stored")
    return Outcome(balance, None, "CollectorSendFailed", alert_s, "; ".join(notes))


def restarted_while_pending(scene: Scene) -> Outcome:
    """Prometheus restarts when an alert has been pending for a while."""
    rules = scene.rig.layout.config_dir / "prometheus/rules/pending.yml"
    rules.write_text(
        "groups: [{name: pending, rules: [{alert: Pending, expr: vector(1), for: 2m}]}]"
    )
    scene.rig.stop(PROMETHEUS)
    scene.rig.start(PROMETHEUS)
    try:
        wait_for("the alert to be pending", lambda: scene.rig.alert("Pending") == "pending")
        began = time.monotonic()
        wait_for("most of its time", lambda: time.monotonic() - began > 90, 120)
        scene.rig.kill(PROMETHEUS)
        scene.rig.start(PROMETHEUS)
        scene.rig.wait_firing("Pending", 150)
        fired_s = time.monotonic() - began
    finally:
        rules.unlink()
        scene.rig.stop(PROMETHEUS)
        scene.rig.start(PROMETHEUS)
    # Of two minutes 90 s had passed: one minute of grace makes 150. Forgotten, it would be 210.
    assert fired_s < 200, "the time before the restart was forgotten"
    return Outcome(note=f"`for: 2m` fired after {fired_s:.0f} s, with a restart at 90 s")


def cardinality(scene: Scene) -> Outcome:
    """Thousands of values that no list knows."""
    series = "prometheus_tsdb_head_series"
    with scene.generating() as generator:
        generator.tell("make", 50)
        generator.tell("flush", 10)
        before = scene.rig.metric(PROMETHEUS, series)
        generator.tell("bomb", 3000)
        generator.tell("flush", 30)
        time.sleep(3)
        grown = scene.rig.metric(PROMETHEUS, series) - before
    balance = scene.account.settled()
    # span_metrics keeps at most 2000 combinations of all spans (otel-collector/config.yaml).
    assert grown < 3 * 2000
    stages = f'transcript_stage_duration_seconds{{job="{scene.account.service}"}}'
    assert scene.rig.live.number(f"count(count by (stage) ({stages}))") == 1, (
        "unknown stages are one"
    )
    return Outcome(balance, note=f"{grown:.0f} series more after 3000 values")
