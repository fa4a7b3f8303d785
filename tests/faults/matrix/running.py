"""Runs rows inside pytest, judges what they found and notes what they measured."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator

import pytest
from _pytest.mark.structures import ParameterSet

from tests.faults.matrix.acts import ACTS
from tests.faults.matrix.rig import ENGINES, MountingForbidden, Rig, running_rig
from tests.faults.matrix.rows import ROWS, Row
from tests.faults.matrix.scene import Outcome, Scene
from tests.faults.matrix.take import MEASURED

# (row, thorough) that take minutes of waiting: in a file of their own, beside the others.
_LONG = (("9", True), ("18", True))


def runs(*, long: bool) -> list[ParameterSet]:
    """A parameter for each run of each row, of the long ones or of all others."""
    made = []
    for row in ROWS:
        times = {"quick": [False], "both": [False, True], "thorough": [True]}.get(row.run, [])
        for thorough in times:
            if ((row.number, thorough) in _LONG) is long:
                name = f"{row.number}{'-thorough' if thorough and row.run == 'both' else ''}"
                marks = [pytest.mark.slow] if thorough else []
                made.append(pytest.param(row, thorough, id=name, marks=marks))
    return made


def engines(name: str) -> Iterator[Rig]:
    """All engines, each with a small disk where that is permitted."""
    disks = [engine for engine in ENGINES if engine != "alertmanager"]
    with running_rig(name, disks=disks) as running:
        yield running


def heal(rig: Rig) -> None:
    """Let all engines run and be connected, whatever the row before has done."""
    for hop in rig.hops.values():
        hop.script()
        if hop.mode != "pass":
            hop.mode = "pass"
    rig.webhook.status = 200
    ended = [name for name in ENGINES if not rig.running(name)]
    if "otel-collector" in ended:  # what a failed row left there is not the next one's fault
        shutil.rmtree(rig.layout.data("otel-collector") / "queue", ignore_errors=True)
    rig.start(*ended)


def run_row(rig: Rig, row: Row, thorough: bool) -> None:
    """Run one row; skip it where its fault cannot be made."""
    heal(rig)
    began = time.monotonic()
    try:
        outcome = ACTS[row.number](Scene(rig, row.number, thorough))
    except MountingForbidden as reason:
        pytest.skip(str(reason))
    _note(row, outcome, time.monotonic() - began)
    if balance := outcome.balance:
        unexplained = [
            one for one in balance.findings if not any(word in one for word in row.allows)
        ]
        assert not unexplained, balance


def _note(row: Row, outcome: Outcome, took_s: float) -> None:
    """Add what was measured to the file of this run."""
    measured = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    entry: dict[str, object] = {"took_s": round(took_s, 1)}
    if balance := outcome.balance:
        entry |= {
            "made": balance.made,
            "lost": {signal: count for signal, count in balance.missing.items() if count},
            "points": balance.points,
            "counted": {signal: sum(of.values()) for signal, of in balance.dropped.items() if of},
            "send_failed": sum(
                count for (_, word), count in balance.collector.items() if word == "send_failed"
            ),
            "duplicates": balance.duplicates,
            "findings": balance.findings,
        }
    if outcome.recovery_s is not None:
        entry["recovery_s"] = round(outcome.recovery_s, 1)
    if outcome.alert:
        entry["alert"] = outcome.alert
    if outcome.alert_s is not None:
        entry["alert_s"] = round(outcome.alert_s, 1)
    if outcome.note:
        entry["note"] = outcome.note
    measured[row.number] = entry
    MEASURED.write_text(json.dumps(measured, indent=1) + "\n")
