"""Alerts: what is active by Prometheus, silenced by Alertmanager, notified by our own log."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from datetime import datetime
from functools import partial
from typing import Any, Final

import orjson

from ..resilience.deadline import Deadline
from ..rfc3339 import rfc3339
from .engines import Engines
from .shapes import ActiveAlert, Alerts, LoggedAlert
from .upstream import Upstream, UpstreamError, gather, worst

ALERTS: Final = "alerts"
ALERTS_SCOPE: Final = "alerts:read"
_HISTORY: Final = 50
# The last alerts that Alertmanager notified us of, as many as asked for, newest first: see
# `alerts.log.AlertLog.recent`, which raises nothing.
History = Callable[[int], Sequence[Mapping[str, Any]]]


def fetch_alerts(
    engines: Engines, history: History | None
) -> tuple[Alerts, dict[str, UpstreamError]]:
    """The data of the block, and the sources that failed.

    No alert at all is an answer (an empty list), not a lack of data.

    Raises:
        UpstreamError: neither Prometheus nor Alertmanager answered.
    """
    work: dict[str, tuple[Executor, Callable[[Deadline], Any]]] = {
        "prometheus_alerts": (engines.queries, engines.prometheus.alerts),
        "alertmanager_alerts": (engines.others, partial(_managed, engines.alertmanager)),
        "alert_log": (engines.others, lambda _: history(_HISTORY) if history else []),
    }
    found, failures = gather(work, engines.deadline())
    active, managed = found.get("prometheus_alerts"), found.get("alertmanager_alerts")
    logged = found.get("alert_log", ())
    if active is None and managed is None:
        raise worst(failures.values())
    shown = [_active(alert, managed, logged) for alert in active or managed or []]
    shown.sort(key=_urgency)
    return {
        "active": shown,
        # without the alert that always fires, to show that alerting works
        "firing": sum(a["state"] == "firing" and a["severity"] != "none" for a in shown),
        "history": [_logged(entry) for entry in logged],
    }, failures


_SEVERITIES: Final = ("critical", "warning", "info", None, "none")


def _urgency(alert: ActiveAlert) -> tuple[int, bool, str]:
    severity = alert["severity"] if alert["severity"] in _SEVERITIES else None
    return _SEVERITIES.index(severity), alert["state"] != "firing", alert["since"] or ""


def _managed(alertmanager: Upstream, deadline: Deadline) -> list[Mapping[str, Any]]:
    """Alertmanager's view, API v2: who is silenced or inhibited."""

    def read(body: bytes) -> list[Mapping[str, Any]]:
        return [
            {
                "labels": dict(item["labels"]),
                "annotations": dict(item["annotations"]),
                "state": "firing",
                "since": datetime.fromisoformat(item["startsAt"]).timestamp(),
                "silenced": bool(item["status"]["silencedBy"]),
                "inhibited": bool(item["status"]["inhibitedBy"]),
            }
            for item in orjson.loads(body)
        ]

    return alertmanager.get("/api/v2/alerts", {}, deadline, read)


def _active(
    alert: Mapping[str, Any],
    managed: Sequence[Mapping[str, Any]] | None,
    history: Sequence[Mapping[str, Any]],
) -> ActiveAlert:
    labels, annotations = alert["labels"], alert["annotations"]
    # Prometheus shows its rule's labels; Alertmanager may have added external ones.
    manager = next((m for m in managed or () if labels.items() <= m["labels"].items()), None)
    logged = next((e for e in history if labels.items() <= e["labels"].items()), {})
    now = {
        **logged,
        "labels": labels,
        "state": alert["state"],
        "since": rfc3339(alert["since"]),
        "runbook_url": annotations.get("runbook_url"),
        "dashboard_url": annotations.get("dashboard_url"),
    }
    return {
        **_logged(now),
        "summary": annotations.get("summary"),
        "description": annotations.get("description"),
        "silenced": None if managed is None else bool(manager and manager["silenced"]),
        "inhibited": None if managed is None else bool(manager and manager["inhibited"]),
    }


def _logged(entry: Mapping[str, Any]) -> LoggedAlert:
    labels = entry["labels"]
    return {
        "alertname": labels.get("alertname", ""),
        "severity": labels.get("severity"),
        "state": entry.get("state"),
        "since": entry.get("since"),
        "labels": {k: v for k, v in labels.items() if k not in ("alertname", "severity")},
        "last_notified": entry.get("last_notified"),
        "next_repeat_at_earliest": entry.get("next_repeat_at_earliest"),
        "runbook_url": entry.get("runbook_url"),
        "dashboard_url": entry.get("dashboard_url"),
    }
