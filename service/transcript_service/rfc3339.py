"""Times as callers read them: RFC 3339 in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal


def rfc3339(at: float, timespec: Literal["seconds", "milliseconds"] = "seconds") -> str:
    """A Unix time in seconds as text, cut to `timespec`.

    Raises:
        ValueError, OverflowError: before the year 1 or after 9999.
    """
    return datetime.fromtimestamp(at, UTC).isoformat(timespec=timespec).removesuffix("+00:00") + "Z"
