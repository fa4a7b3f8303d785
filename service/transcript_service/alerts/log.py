"""The history of alert notifications: one SQLite file that all workers share.

An alert is known by its fingerprint (a hash of its labels) and the moment it began. What
Alertmanager says about it again is either a reminder, after the cooldown, or the same
delivery once more, because our answer to the first got lost.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal

import orjson

from ..private_files import open_shared
from ..rfc3339 import rfc3339
from ..settings import Settings
from ..telemetry import get_logger
from .webhook import Alert

log = get_logger(__name__)

# Alertmanager tries a delivery again with growing pauses for as long as its group_interval
# lasts; a reminder comes no sooner than after it. Half of it therefore tells them apart,
# whatever the cooldown is set to.
_SAME_DELIVERY: Final = 0.5
# A firing alert is repeated once per cooldown. After three without a word (Alertmanager is gone,
# the alert is silenced or inhibited) the last thing heard is no longer news.
_FORGOTTEN_AFTER: Final = 3.0
# A delivery that Alertmanager has given up (`timeout` of the webhook in alertmanager.yml) may
# still arrive behind the next one. What fires later than this after its end has come back: an
# alert that lapsed, as while Prometheus was away, does so with the same start.
_OVERTAKEN_S: Final = 10.0
# How long a worker waits for another one's write: they take milliseconds.
_BUSY_TIMEOUT_S: Final = 5.0

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS alerts (
    fingerprint TEXT NOT NULL,
    starts_at REAL NOT NULL,
    state TEXT NOT NULL,
    labels BLOB NOT NULL,
    annotations BLOB NOT NULL,
    last_notified REAL NOT NULL,
    notifications INTEGER NOT NULL,
    PRIMARY KEY (fingerprint, starts_at)
);
CREATE INDEX IF NOT EXISTS alerts_by_time ON alerts (last_notified);
"""


# What a delivered alert was to us.
Notification = Literal["new", "reminder", "resolved", "duplicate"]


class AlertLog:
    """What Alertmanager told us, bounded and kept across restarts.

    Args:
        settings: `state_dir`, and those that begin with `alert_`. The folder is made when first
            written to.
        clock: Unix seconds.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._path = settings.state_dir / "alerts.sqlite"
        self._limit = settings.alert_history_limit
        self._cooldown_s = settings.alert_cooldown_s
        self._clock = clock

    @contextmanager
    def receiving(self, alerts: Iterable[Alert]) -> Iterator[Iterator[tuple[Alert, Notification]]]:
        """Record alerts and say what each was; kept only when the block ends without error.

        So a line written inside the block is written at least once, even across a crash.
        All alerts of a notification share one transaction: 5,000 take a second, not a minute.

        Raises:
            sqlite3.Error: the history cannot be written; the sender should try again.
        """
        with self._connection() as connection:
            # Take the write lock first: two workers must not both find the alert new.
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                yield ((alert, self._record(connection, alert)) for alert in alerts)
                connection.execute(
                    "DELETE FROM alerts WHERE rowid IN"
                    " (SELECT rowid FROM alerts ORDER BY last_notified DESC LIMIT -1 OFFSET ?)",
                    (self._limit,),
                )

    def _record(self, connection: sqlite3.Connection, alert: Alert) -> Notification:
        now = self._clock()
        key = (alert.fingerprint, alert.starts_at.timestamp())
        known = connection.execute(
            "SELECT state, last_notified FROM alerts WHERE fingerprint = ? AND starts_at = ?", key
        ).fetchone()
        if known is not None:
            since_last_s = now - known["last_notified"]
            match known["state"], alert.status:
                case "resolved", "resolved":
                    return "duplicate"
                case "firing", "firing" if since_last_s < self._cooldown_s * _SAME_DELIVERY:
                    return "duplicate"
                case "resolved", "firing" if since_last_s < _OVERTAKEN_S:
                    return "duplicate"
        connection.execute(
            "INSERT INTO alerts (fingerprint, starts_at, state, labels, annotations, last_notified,"
            " notifications) VALUES (?, ?, ?, ?, ?, ?, 1)"
            " ON CONFLICT DO UPDATE SET state = excluded.state, labels = excluded.labels,"
            " annotations = excluded.annotations, last_notified = excluded.last_notified,"
            " notifications = notifications + 1",
            (*key, alert.status, orjson.dumps(alert.labels), orjson.dumps(alert.annotations), now),
        )
        if alert.status == "resolved":
            return "resolved"
        fired_before = known is not None and known["state"] == "firing"
        return "reminder" if fired_before else "new"

    def recent(self, limit: int) -> Sequence[Mapping[str, Any]]:
        """The last `limit` alerts heard of, newest first.

        Each has `labels`, `state` (`firing`, `resolved`, or `unknown` for one that fired and was
        not heard of for three cooldowns), `since`, `last_notified`, `next_repeat_at_earliest`
        (while firing), `notifications`, `runbook_url` and `dashboard_url`. Times are RFC 3339 in
        UTC.
        """
        if not self._path.exists():
            return []
        try:
            with self._connection() as connection:
                rows = connection.execute(
                    "SELECT * FROM alerts ORDER BY last_notified DESC, starts_at DESC LIMIT ?",
                    (limit,),
                )
                return [self._entry(row) for row in rows]
        except (sqlite3.Error, OSError, ValueError) as error:
            # Active alerts, which Prometheus knows, are worth showing without their history.
            log.warning("alert.history.unreadable", error_type=type(error).__name__)
            return []

    def _entry(self, row: sqlite3.Row) -> dict[str, Any]:
        annotations = orjson.loads(row["annotations"])
        state, notified = row["state"], row["last_notified"]
        if state == "firing" and self._clock() - notified > self._cooldown_s * _FORGOTTEN_AFTER:
            state = "unknown"
        return {
            "labels": orjson.loads(row["labels"]),
            "state": state,
            "since": rfc3339(row["starts_at"], "milliseconds"),
            "last_notified": rfc3339(notified, "milliseconds"),
            "next_repeat_at_earliest": (
                rfc3339(notified + self._cooldown_s, "milliseconds") if state == "firing" else None
            ),
            "notifications": row["notifications"],
            "runbook_url": annotations.get("runbook_url"),
            "dashboard_url": annotations.get("dashboard_url"),
        }

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection of this call alone: SQLite's may not cross threads or a fork."""
        connection = open_shared(self._path, _BUSY_TIMEOUT_S)
        try:
            connection.row_factory = sqlite3.Row
            connection.executescript(_SCHEMA)
            yield connection
        finally:
            connection.close()
