"""Times as callers read them: RFC 3339 in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, overload


@overload
def rfc3339(at: float, timespec: Literal["seconds", "milliseconds"] = ...) -> str: ...
@overload
def rfc3339(at: None, timespec: Literal["seconds", "milliseconds"] = ...) -> None: ...
def rfc3339(
    at: float | None, timespec: Literal["seconds", "milliseconds"] = "seconds"
) -> str | None:
    """A Unix time in seconds as text, cut to `timespec`; `None` stays `None`.

    Raises:
        ValueError, OverflowError: before the year 1 or after 9999.
    """
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec=timespec).removesuffix("+00:00") + "Z"
