"""Faults of the Collector and of the ways to and from it."""

from __future__ import annotations

import random
import time
from functools import partial

from tests.faults.matrix.hop import Hop, Scripted
from tests.faults.matrix.scene import Outcome, Scene, small_queues
from tests.live import wait_for

COLLECTOR = "otel-collector"
STORES = ("prometheus", "victorialogs", "jaeger")


def _until_queued(scene: Scene) -> None:
    """Wait until the Collector holds something for every store."""

    def all_queued() -> bool:
        sizes = [
            scene.rig.metric(COLLECTOR, "otelcol_exporter_queue_size", exporter=f"otlp_http/{name}")
            for name in STORES
        ]
        return all(sizes)

    wait_for("queues in the Collector", all_queued, 30)


def _cut_off(scene: Scene, *stores: str) -> None:
    for store in stores:
        scene.rig.hops[store].mode = "refuse"


def _connect(scene: Scene) -> None:
    for hop in scene.rig.hops.values():
        hop.mode = "pass"


def collector_away(scene: Scene) -> Outcome:
    """The Collector is down when the application starts, and long enough to overflow."""
    scene.account.books.note()
    scene.rig.stop(COLLECTOR)
    with scene.generating(small_queues(200)) as generator:
        slowest_s = generator.tell("make", 500)
        scene.rig.start(COLLECTOR)
        recovery_s = scene.delivered(generator)
        alert_s = scene.rig.wait_firing("SdkDroppingTelemetry", job=scene.account.service)
    balance = scene.account.settled()
    for signal in ("traces", "logs"):
        assert balance.dropped[signal].keys() == {"queue_full"}
        assert balance.missing[signal] >= 250
    note = f"slowest item {slowest_s * 1000:.1f} ms"
    return Outcome(balance, recovery_s, "SdkDroppingTelemetry", alert_s, note)


def collector_hangs(scene: Scene) -> Outcome:
    """Connections are taken, answers never come."""
    hop = scene.rig.hops[COLLECTOR]
    with scene.generating({"OTEL_EXPORTER_OTLP_TIMEOUT": "5"}) as generator:
        hop.mode = "silent"
        slowest_s = max(generator.tell("make", 200) for _ in range(5))
        time.sleep(2)
        hop.mode = "pass"
        recovery_s = scene.delivered(generator)
    assert slowest_s < 4, "an item waited for the exporter"
    balance = scene.account.settled()
    assert not balance.lost
    return Outcome(balance, recovery_s, note=f"slowest item {slowest_s * 1000:.1f} ms")


def _kill_with_full_queue(scene: Scene) -> None:
    """Ends the Collector while 200 items wait in it for stores that cannot be reached."""
    with scene.generating() as generator:
        _cut_off(scene, *STORES)
        generator.tell("make", 200)
        scene.delivered(generator)
        _until_queued(scene)
    scene.account.books.note()
    scene.rig.kill(COLLECTOR)


def killed_with_full_queue(scene: Scene) -> Outcome:
    """kill -9 while everything waits in the Collector."""
    recovery_s = 0.0
    for _ in range(10):
        _kill_with_full_queue(scene)
        scene.rig.start(COLLECTOR)
        _connect(scene)
        balance, took_s = scene.recovered()
        assert balance.complete, balance
        recovery_s = max(recovery_s, took_s)
    return Outcome(balance, recovery_s)


def killed_while_writing(scene: Scene) -> Outcome:
    """kill -9 at random instants under load: no crash loop, everything arrives."""
    dice = random.Random(25)
    scene.account.collector_killed = True
    times = 50
    with scene.generating() as generator:
        generator.tell("rate", 300)
        for _ in range(times):
            time.sleep(dice.uniform(0.1, 0.7))
            scene.rig.kill(COLLECTOR)
            scene.rig.start(COLLECTOR)
        generator.tell("rate", 0)
        scene.delivered(generator)
    balance, recovery_s = scene.recovered(300)
    assert balance.complete, balance
    assert "panic:" not in scene.rig.log(COLLECTOR)
    return Outcome(balance, recovery_s, note=f"{times} kills")


def queue_file_broken(scene: Scene) -> Outcome:
    """The file of one queue loses its end while the Collector is down."""
    queues = scene.rig.layout.data(COLLECTOR) / "queue"
    _kill_with_full_queue(scene)
    (of_logs,) = queues.glob("*victorialogs_logs")
    content = of_logs.read_bytes()
    of_logs.write_bytes(content[: len(content) // 2])
    scene.rig.launch(COLLECTOR)
    try:
        scene.rig.wait_ready(COLLECTOR)
        note = "it started by itself"
    except AssertionError:
        of_logs.unlink()  # what the runbook of TargetDown says
        scene.rig.start(COLLECTOR)
        note = "it started when the file was moved"
    _connect(scene)
    balance, recovery_s = scene.recovered()
    # Of the 200 lines perhaps not all: what lay in the first half may be whole.
    assert not balance.missing["traces"]
    assert not balance.missing["metrics"]
    return Outcome(balance, recovery_s, note=note)


def queue_disk_full(scene: Scene) -> Outcome:
    """No room for the Collector's queues."""
    with scene.generating(small_queues(300)) as generator:
        with scene.rig.full(COLLECTOR):
            began = time.monotonic()
            generator.tell("make", 400, 20_000)
            scene.rig.wait_firing("CollectorEnqueueFailed")
            alert_s = time.monotonic() - began
        recovery_s = scene.delivered(generator)
        generator.tell("make", 50)
    balance = scene.account.settled()
    return Outcome(balance, recovery_s, "CollectorEnqueueFailed", alert_s)


def partition(scene: Scene) -> Outcome:
    """Nothing gets through between the Collector and Prometheus."""
    hop = scene.rig.hops["prometheus"]
    alert, alert_s = "", None
    with scene.generating() as generator:
        generator.tell("rate", 50)
        time.sleep(1)
        hop.mode = "silent"
        began = time.monotonic()
        if scene.thorough:
            alert = "CollectorExportStalled"
            scene.rig.wait_firing(alert, 300, exporter="otlp_http/prometheus")
            alert_s = time.monotonic() - began
            wait = "five minutes and ten seconds"
            wait_for(wait, lambda: time.monotonic() - began > 310, 330)
        else:
            time.sleep(6)
        hop.mode = "pass"
    balance, recovery_s = scene.recovered()
    assert balance.complete, balance
    return Outcome(balance, recovery_s, alert, alert_s, f"{310 if scene.thorough else 6} s")


def answers(scene: Scene) -> Outcome:
    """Every answer of OTLP's retry table, to the generator and to the Collector."""
    again = [
        Scripted(429, [("Retry-After", "2")]),
        Scripted(503),
        Scripted(503, body=b"x" * 50, broken=True),
        Scripted(502, body=b"slow", drip_s=0.01),
    ]
    for_good = [Scripted(400), Scripted(413), Scripted(500)]
    with scene.generating() as generator:
        # The Collector's first: of what is answered to the generator it writes lines of its own.
        for name in ("victorialogs", COLLECTOR):
            hop = scene.rig.hops[name]
            asked = len(hop.asked)
            hop.script(*again, only="/v1/logs")
            generator.tell("make", 10)
            wait_for("the retries", partial(_asked, hop), 60)
            # Whoever was told to stay away for two seconds did.
            assert hop.asked[asked + 1] - hop.asked[asked] >= 1.9, name
            scene.delivered(generator)
        assert not any(queue["dropped"] for queue in generator.tell("ledger").values())
        # To the generator about its spans, to the Collector about lines: one batch each, of some or
        # all of the seven.
        for answer in for_good:
            for name, signal in ((COLLECTOR, "traces"), ("victorialogs", "logs")):
                hop = scene.rig.hops[name]
                hop.script(answer, only=f"/v1/{signal}")
                generator.tell("make", 7)
                wait_for("the answer", partial(_asked, hop), 30)
                scene.delivered(generator)
    balance = scene.account.settled()
    assert balance.missing["traces"] == balance.dropped["traces"]["refused"] >= len(for_good)
    failed = balance.collector["logs", "send_failed"]
    # The service's own lines about it may be in the same batch.
    assert len(for_good) <= balance.missing["logs"] <= failed, balance
    assert not balance.missing["metrics"]
    return Outcome(balance)


def _asked(hop: Hop) -> bool:
    """Whether every scripted answer was given."""
    return not hop.answers
