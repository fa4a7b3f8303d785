"""Alertmanager's webhook document (version 4), as far as it is used here.

https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

# A thousand alerts of 1 kB each. Alertmanager sends a group, and groups here are single alerts.
MAX_BODY_BYTES: Final = 1024 * 1024

_Text = Annotated[str, StringConstraints(max_length=4096)]
_Texts = Annotated[dict[_Text, _Text], Field(max_length=64)]


class NotUnderstood(ValueError):
    """The body is not a notification; the text says why, without quoting it."""


class Alert(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True)

    fingerprint: str = Field(pattern=r"^[0-9a-f]{1,32}$")
    status: Literal["firing", "resolved"]
    labels: _Texts
    annotations: _Texts = Field(default_factory=dict)
    # No alert began before there were clocks of this kind, and what lies in the last year of the
    # calendar cannot be written in every time zone.
    starts_at: AwareDatetime = Field(
        alias="startsAt", ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(9999, 1, 1, tzinfo=UTC)
    )


def parse(body: bytes) -> list[Alert | NotUnderstood]:
    """The alerts of a notification, and in the place of each that cannot be used, the reason.

    Raises:
        NotUnderstood: the body as a whole is not a notification.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise NotUnderstood("not JSON") from None
    if not isinstance(document, dict) or document.get("version") != "4":
        raise NotUnderstood("not a notification of version 4")
    if not isinstance(document.get("alerts"), list):
        raise NotUnderstood("without a list of alerts")
    return [_alert(item) for item in document["alerts"]]


def _alert(item: Any) -> Alert | NotUnderstood:
    try:
        alert = Alert.model_validate(item)
    except ValidationError as error:
        fields = {str(part) for problem in error.errors() for part in problem["loc"][:1]}
        return NotUnderstood(f"bad or missing: {', '.join(sorted(fields)) or 'the alert'}")
    return alert if "alertname" in alert.labels else NotUnderstood("without an alertname")
