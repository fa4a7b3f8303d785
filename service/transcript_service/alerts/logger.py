"""Alerts that arrive, as log lines and counts."""

from __future__ import annotations

from typing import Final

from ..telemetry import get_logger
from ..telemetry.instruments import ALERTS_RECEIVED
from .log import Notification
from .webhook import Alert

_LEVELS: Final = {"critical": "error", "warning": "warning"}


class AlertLogger:
    """Writes alerts at the level of their severity, and counts them."""

    def __init__(self) -> None:
        self._log = get_logger("transcript_service.alerts")

    def received(self, alert: Alert, notification: Notification) -> None:
        """One alert of a notification, as Alertmanager has it."""
        labels = dict(alert.labels)
        series = {
            "alertname": labels.pop("alertname"),
            "severity": labels.pop("severity", "none"),
            "status": alert.status,
        }
        ALERTS_RECEIVED.add(1, **series)
        firing = alert.status == "firing"
        write = getattr(self._log, _LEVELS.get(series["severity"], "info") if firing else "info")
        write(
            "alert.received",
            **series,
            notification=notification,
            fingerprint=alert.fingerprint,
            alert_stage=labels.get("stage") or labels.get("name"),
            alert_labels=", ".join(f"{key}={value}" for key, value in sorted(labels.items())),
            summary=alert.annotations.get("summary"),
        )

    def rejected(self, reason: str) -> None:
        """A notification that could not be used."""
        self._log.warning("alert.rejected", reason=reason)
