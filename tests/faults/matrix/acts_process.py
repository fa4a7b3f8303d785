"""Faults of the process that makes the telemetry."""

from __future__ import annotations

import time

from tests.faults.matrix.scene import Outcome, Scene


def killed(scene: Scene) -> Outcome:
    """kill -9 of a worker, and a new one in its place."""
    rate = 200
    with scene.generating() as generator:
        generator.tell("rate", rate)
        time.sleep(3)
        generator.kill()
    before = len(scene.account.truth().items)
    with scene.generating() as generator:
        generator.tell("make", 50)
    balance = scene.account.settled()
    truth = scene.account.truth()
    held = {
        "traces": set(scene.account.spans(truth.items.values())),
        "logs": set(scene.account.lines()[0]),
    }
    for signal, numbers in held.items():
        missing = sorted(truth.items.keys() - numbers)
        # Only the newest of the killed one, of one delay and one request on its way.
        assert missing == list(range(before - len(missing), before)), (signal, missing, before)
        assert len(missing) <= rate, signal
    # The last collection's interval.
    assert balance.missing["metrics"] <= rate * 1.5
    counters = f'max_over_time(transcript_requests_total{{job="{scene.account.service}"}}[1h])'
    assert scene.rig.live.number(f"count(count by (instance) ({counters}))") == 2
    note = f"counter {balance.missing['metrics']} short"
    return Outcome(balance, note=note)


def forked(scene: Scene) -> Outcome:
    """Children without exec, at bad moments, that count and end."""
    with scene.generating({"OTEL_METRIC_EXPORT_INTERVAL": "50"}) as generator:
        generator.tell("rate", 200)
        for _ in range(10):
            generator.tell("fork", 2)
            time.sleep(0.05)
        generator.tell("rate", 0)
    balance = scene.account.settled()
    assert balance.complete, balance
    return Outcome(balance, note="20 forks")


def stopped(scene: Scene) -> Outcome:
    """SIGTERM under load."""
    with scene.generating() as generator:
        generator.tell("rate", 500)
        time.sleep(2)
        began = time.monotonic()
        generator.end()
        took_s = time.monotonic() - began
    balance = scene.account.settled()
    # What is still being made after the end is counted, not sent.
    late = balance.dropped["traces"].get("already_shutdown", 0)
    assert balance.dropped["traces"].keys() <= {"already_shutdown"}
    assert balance.lost == late <= 1, balance
    assert balance.missing["metrics"] == 0, balance
    assert balance.points == 0, balance
    assert balance.findings == [], balance
    return Outcome(balance, note=f"ended in {took_s:.1f} s")


def exporter_raises(scene: Scene) -> Outcome:
    """Sending raises, and logs while it does."""
    with scene.generating() as generator:
        generator.tell("unencodable")
        for _ in range(30):
            generator.tell("make", 20)
            assert generator.tell("flush", 10)
    balance = scene.account.settled()
    assert balance.dropped["traces"].keys() <= {"unencodable"}
    return Outcome(balance)


def masking_raises(scene: Scene) -> Outcome:
    """The code that masks secrets raises: the record is replaced, counted, and told."""
    with scene.generating() as generator:
        generator.tell("make", 50)
        generator.tell("unmask")
        began = time.monotonic()
        generator.tell("make", 200)
        generator.tell("flush", 10)
        scene.rig.wait_firing("RedactionFailing", job=scene.account.service)
        alert_s = time.monotonic() - began
        counted = scene.rig.live.number(
            f'sum(telemetry_redaction_failures_total{{job="{scene.account.service}"}})'
        )
    balance = scene.account.settled()
    replaced = balance.missing["traces"] + balance.missing["logs"]
    # Replaced records are there, without their number: missed by the account, not lost.
    assert counted
    assert replaced <= counted
    balance.findings = [one for one in balance.findings if "were counted as lost" not in one]
    note = f"{replaced} records replaced, {counted:.0f} counted"
    return Outcome(balance, None, "RedactionFailing", alert_s, note)
