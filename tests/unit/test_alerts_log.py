"""The alert history: what is new, what is a reminder, what came twice, what is forgotten."""

from __future__ import annotations

import multiprocessing
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.alerts import Alert, AlertLog, Notification
from transcript_service.settings import Settings

COOLDOWN_S = 900.0
START = 1_800_000_000.0  # 2027-01-15T08:00:00Z

OPEN = Alert(
    fingerprint="00aa",
    status="firing",
    labels={"alertname": "CircuitBreakerOpenTooLong", "severity": "critical", "name": "youtubei"},
    annotations={
        "summary": "A circuit breaker stays open.",
        "runbook_url": "http://127.0.0.1:5000/runbooks/CircuitBreakerOpenTooLong",
        "dashboard_url": "http://127.0.0.1:5000/dashboard?stage=youtubei",
    },
    starts_at=datetime.fromtimestamp(START, UTC),
)


def changed(**changes: Any) -> Alert:
    """`OPEN`, but for some fields."""
    return OPEN.model_copy(update=changes)


CLOSED = changed(status="resolved")


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = START + 10

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def settings_of(folder: Path, limit: int) -> Settings:
    return Settings(state_dir=folder, alert_history_limit=limit, alert_cooldown_s=COOLDOWN_S)


@pytest.fixture
def log(tmp_path: Path, clock: Clock) -> AlertLog:
    return AlertLog(settings_of(tmp_path / "made", limit=5), clock)


def receive(log: AlertLog, alert: Alert) -> Notification:
    with log.receiving([alert]) as received:
        return next(received)[1]


def test_an_alert_is_new_then_a_reminder_then_resolved(log: AlertLog, clock: Clock) -> None:
    assert receive(log, OPEN) == "new"
    clock.now += COOLDOWN_S
    assert receive(log, OPEN) == "reminder"
    clock.now += COOLDOWN_S
    assert receive(log, CLOSED) == "resolved"


def test_what_is_delivered_twice_is_a_duplicate(log: AlertLog, clock: Clock) -> None:
    receive(log, OPEN)
    clock.now += 60  # Alertmanager tries again because our answer got lost
    assert receive(log, OPEN) == "duplicate"
    receive(log, CLOSED)
    clock.now += 5
    assert receive(log, OPEN) == "duplicate"  # overtaken by its own end
    clock.now += 2 * COOLDOWN_S  # the end is told once, however late it is told again
    assert receive(log, CLOSED) == "duplicate"
    assert log.recent(1)[0]["notifications"] == 2


def test_the_same_labels_at_another_time_are_another_alert(log: AlertLog) -> None:
    receive(log, OPEN)
    receive(log, CLOSED)
    again = changed(starts_at=datetime.fromtimestamp(START + 500, UTC))
    assert receive(log, again) == "new"
    assert [entry["state"] for entry in log.recent(9)] == ["firing", "resolved"]


def test_an_alert_that_lapsed_and_came_back_with_the_same_start_is_firing_again(
    log: AlertLog, clock: Clock
) -> None:
    receive(log, OPEN)
    clock.now += 400
    receive(log, CLOSED)
    clock.now += 31  # Alertmanager waits group_wait before it tells of a new group
    assert receive(log, OPEN) == "new"
    (entry,) = log.recent(9)
    assert (entry["state"], entry["notifications"]) == ("firing", 3)
    clock.now += COOLDOWN_S
    assert receive(log, OPEN) == "reminder"
    assert receive(log, CLOSED) == "resolved"


def test_an_entry_says_since_when_and_when_it_may_be_repeated(log: AlertLog, clock: Clock) -> None:
    receive(log, OPEN)
    assert log.recent(9) == [
        {
            "labels": OPEN.labels,
            "state": "firing",
            "since": "2027-01-15T08:00:00.000Z",
            "last_notified": "2027-01-15T08:00:10.000Z",
            "next_repeat_at_earliest": "2027-01-15T08:15:10.000Z",
            "notifications": 1,
            "runbook_url": "http://127.0.0.1:5000/runbooks/CircuitBreakerOpenTooLong",
            "dashboard_url": "http://127.0.0.1:5000/dashboard?stage=youtubei",
        }
    ]
    clock.now += 390
    receive(log, CLOSED)
    (entry,) = log.recent(9)
    assert (entry["state"], entry["next_repeat_at_earliest"]) == ("resolved", None)


def test_an_alert_that_nobody_repeats_is_no_longer_called_firing(
    log: AlertLog, clock: Clock
) -> None:
    receive(log, OPEN)
    clock.now += 3 * COOLDOWN_S + 1
    assert log.recent(1)[0]["state"] == "unknown"


def test_before_the_first_alert_there_is_no_file_and_no_history(log: AlertLog) -> None:
    assert log.recent(9) == []


def test_the_history_survives_a_restart(log: AlertLog, tmp_path: Path, clock: Clock) -> None:
    receive(log, OPEN)
    after = AlertLog(settings_of(tmp_path / "made", limit=5), clock)
    assert after.recent(9) == log.recent(9) != []
    assert receive(after, OPEN) == "duplicate"


def test_a_file_with_a_column_more_is_used_on(log: AlertLog, tmp_path: Path) -> None:
    receive(log, OPEN)
    with sqlite3.connect(tmp_path / "made" / "alerts.sqlite") as file:
        file.execute("ALTER TABLE alerts ADD COLUMN ended_at REAL")  # as earlier versions had
    assert receive(log, OPEN) == "duplicate"
    assert receive(log, CLOSED) == "resolved"
    assert [entry["state"] for entry in log.recent(9)] == ["resolved"]


def test_the_alerts_not_heard_of_for_longest_are_forgotten_first(
    log: AlertLog, clock: Clock
) -> None:
    for number in range(8):  # the limit is 5
        clock.now += 1
        receive(log, changed(fingerprint=f"{number:04x}", labels={"alertname": f"A{number}"}))
    assert [entry["labels"]["alertname"] for entry in log.recent(99)] == [
        "A7", "A6", "A5", "A4", "A3",
    ]  # fmt: skip


def test_what_fails_while_an_alert_is_handled_leaves_it_new(log: AlertLog) -> None:
    with pytest.raises(RuntimeError, match="no line"), log.receiving([OPEN]):
        raise RuntimeError("no line could be written")
    assert receive(log, OPEN) == "new"


def test_a_damaged_file_is_said_to_be_damaged_and_shows_nothing(
    log: AlertLog, tmp_path: Path, telemetry: InMemoryTelemetry
) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "alerts.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(sqlite3.Error), log.receiving([OPEN]):
        pass
    assert log.recent(9) == []
    (line,) = telemetry.events("alert.history.unreadable")
    assert line["error_type"] == "DatabaseError"


def _worker(folder: Path, barrier: object, results: object) -> None:
    log = AlertLog(settings_of(folder, limit=1000))
    barrier.wait(30)  # type: ignore[attr-defined]
    for number in range(10):
        alert = changed(fingerprint=f"{number:04x}")
        results.put(receive(log, alert))  # type: ignore[attr-defined]


def test_workers_that_get_the_same_alert_at_once_agree_on_who_was_first(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    barrier, results = spawn.Barrier(2), spawn.Queue()
    workers = [spawn.Process(target=_worker, args=(tmp_path, barrier, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    said = [results.get(timeout=60) for _ in range(20)]
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert (said.count("new"), said.count("duplicate")) == (10, 10)
