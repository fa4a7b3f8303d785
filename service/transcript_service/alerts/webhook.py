"""Alertmanager's webhook document (version 4), as far as it is used here.

https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import AwareDatetime, BaseModel, Field, StringConstraints, ValidationError

from .log import Alert

# A thousand alerts of 1 kB each. Alertmanager sends a group, and groups here are single alerts.
MAX_BODY_BYTES: Final = 1024 * 1024

_Text = Annotated[str, StringConstraints(max_length=4096)]
_Texts = Annotated[dict[_Text, _Text], Field(max_length=64)]
# No alert began before there were clocks of this kind, and what lies in the last year of the
# calendar cannot be written in every time zone.
_Moment = Annotated[
    AwareDatetime,
    Field(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(9999, 1, 1, tzinfo=UTC)),
]


class NotUnderstood(ValueError):
    """The body is not a notification; the text says why, without quoting it."""


class _Alert(BaseModel):
    status: Literal["firing", "resolved"]
    labels: _Texts
    annotations: _Texts = Field(default_factory=dict)
    starts_at: _Moment = Field(alias="startsAt")
    ends_at: AwareDatetime | None = Field(None, alias="endsAt")
    fingerprint: str = Field(pattern=r"^[0-9a-f]{1,32}$")


def parse(body: bytes) -> tuple[list[Alert], list[NotUnderstood]]:
    """The alerts of a notification, and for each that cannot be used, the reason.

    Raises:
        NotUnderstood: the body as a whole is not a notification.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise NotUnderstood("not JSON") from None
    if not isinstance(document, dict) or document.get("version") != "4":
        raise NotUnderstood("not a notification of version 4")
    alerts = document.get("alerts")
    if not isinstance(alerts, list):
        raise NotUnderstood("without a list of alerts")
    found = [_alert(item) for item in alerts]
    return (
        [alert for alert in found if isinstance(alert, Alert)],
        [reason for reason in found if isinstance(reason, NotUnderstood)],
    )


def _alert(item: Any) -> Alert | NotUnderstood:
    try:
        alert = _Alert.model_validate(item)
    except ValidationError as error:
        fields = {".".join(str(part) for part in problem["loc"][:1]) for problem in error.errors()}
        return NotUnderstood(f"bad or missing: {', '.join(sorted(fields)) or 'the alert'}")
    if "alertname" not in alert.labels:
        return NotUnderstood("without an alertname")
    return Alert(
        fingerprint=alert.fingerprint,
        status=alert.status,
        labels=alert.labels,
        annotations=alert.annotations,
        starts_at=alert.starts_at.timestamp(),
        ends_at=_end(alert.ends_at),
    )


def _end(at: datetime | None) -> float | None:
    """Alertmanager writes year 1 where it knows no end."""
    return at.timestamp() if at is not None and 1970 <= at.year < 9999 else None
