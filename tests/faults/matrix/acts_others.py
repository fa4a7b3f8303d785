"""Faults of Alertmanager, VictoriaLogs and Jaeger."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import requests

from tests.faults.matrix.scene import Outcome, Scene
from tests.live import wait_for

ALERTMANAGER = "alertmanager"


def _silences(scene: Scene) -> set[str]:
    answer = requests.get(scene.rig.layout.engine(ALERTMANAGER, "/api/v2/silences"), timeout=10)
    return {silence["id"] for silence in answer.json()}


def notifications(scene: Scene) -> Outcome:
    """Alertmanager is killed between evaluation and sending; the webhook answers 500."""
    webhook = scene.rig.webhook
    wait_for("the Watchdog's first notification", lambda: webhook.times("Watchdog"))
    now = datetime.now(UTC)
    silence = {
        "matchers": [{"name": "alertname", "value": "NoSuchAlert", "isRegex": False}],
        "startsAt": now.isoformat(),
        "endsAt": (now + timedelta(hours=1)).isoformat(),
        "createdBy": "tests",
        "comment": "survives",
    }
    url = scene.rig.layout.engine(ALERTMANAGER, "/api/v2/silences")
    made = requests.post(url, json=silence, timeout=10).json()["silenceID"]
    # Written at the orderly end and every 15 minutes: kill -9 costs the silences of that time.
    scene.rig.stop(ALERTMANAGER)
    scene.rig.start(ALERTMANAGER)
    assert made in _silences(scene)

    webhook.status = 500
    refused = webhook.refused
    wait_for("refused notifications", lambda: webhook.refused > refused)
    scene.rig.kill(ALERTMANAGER)
    scene.rig.start(ALERTMANAGER)
    webhook.status = 200
    began, told = time.monotonic(), len(webhook.times("Watchdog"))
    wait_for("the Watchdog again", lambda: len(webhook.times("Watchdog")) > told)
    assert made in _silences(scene)
    return Outcome(recovery_s=time.monotonic() - began, alert="Watchdog")


def watchdog(scene: Scene) -> Outcome:
    """The Watchdog's notifications stop coming; a listener notices by the time."""
    webhook = scene.rig.webhook
    told = len(webhook.times("Watchdog"))
    wait_for("two more", lambda: len(webhook.times("Watchdog")) >= told + 3)
    *_, before, last = webhook.times("Watchdog")
    interval_s = last - before
    scene.rig.kill(ALERTMANAGER)
    try:
        wait_for("silence", lambda: time.time() - webhook.times("Watchdog")[-1] > 2 * interval_s)
        noticed_s = time.time() - webhook.times("Watchdog")[-1]
    finally:
        scene.rig.start(ALERTMANAGER)
    return Outcome(note=f"noticed after {noticed_s:.0f} s of an interval of {interval_s:.0f} s")


def stores_killed(scene: Scene) -> Outcome:
    """kill -9 of both stores while records come in."""
    with scene.generating() as generator:
        generator.tell("rate", 200)
        for store in ("victorialogs", "jaeger"):
            time.sleep(2)
            scene.rig.kill(store)
            scene.rig.start(store)
        time.sleep(1)
    balance, recovery_s = scene.recovered()
    assert not balance.missing["traces"]
    assert not balance.missing["metrics"]
    note = f"VictoriaLogs lost {balance.missing['logs']} lines at 200 a second"
    assert balance.missing["logs"] < 200 * 5
    return Outcome(balance, recovery_s, note=note)


def stores_full(scene: Scene) -> Outcome:
    """No room for lines and spans."""
    with scene.generating() as generator:
        with scene.rig.full("victorialogs"), scene.rig.full("jaeger"):
            began = time.monotonic()
            scene.rig.wait_firing("VictoriaLogsReadOnly")
            alert_s = time.monotonic() - began
            generator.tell("make", 200, 2000)
            scene.delivered(generator)
            ended = [name for name in ("victorialogs", "jaeger") if not scene.rig.running(name)]
        for name in ("victorialogs", "jaeger"):
            if not scene.rig.running(name):
                scene.rig.start(name)
        generator.tell("make", 20)
    balance, recovery_s = scene.recovered()
    note = f"ended by it: {', '.join(ended) or 'none'}"
    return Outcome(balance, recovery_s, "VictoriaLogsReadOnly", alert_s, note)
