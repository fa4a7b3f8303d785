"""How long to wait before a retry, so that it cannot make things worse."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

# First wait 0.5 to 1 s: long enough for a hiccup to pass, short beside a 60 s job.
_FIRST_WAIT_S: Final = 0.5
_JITTER_S: Final = 0.5
_MOST_WAIT_S: Final = 5.0
# Nobody waits for longer than a day, whatever a server says: infinity cannot be told on.
_MOST_ASKED_S: Final = 86_400.0


def wait_before_retry(attempt: int, asked_s: float | None) -> float:
    """Seconds to wait after a failed try.

    The wait has jitter (see "Exponential Backoff And Jitter", AWS Architecture Blog, 2015),
    also where the server said when: not all clients come back at the same instant.

    Args:
        attempt: the number of the try that failed, from 1.
        asked_s: what the server asked for (`Retry-After`), if it did.
    """
    jitter_s = random.uniform(0.0, _JITTER_S)  # noqa: S311 - no secret
    if asked_s is not None:
        return max(0.0, asked_s) + jitter_s
    return min(_MOST_WAIT_S, _FIRST_WAIT_S * 2.0 ** (attempt - 1) + jitter_s)


def parse_retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds to wait according to a `Retry-After` header (RFC 9110, section 10.2.3).

    Returns `None` when the header is absent or is neither seconds nor a date; a date in
    the past is 0, and more than a day is a day.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value), _MOST_ASKED_S)
    try:
        date = parsedate_to_datetime(value)
        if date.tzinfo is None:  # "-0000" and the obsolete forms: the RFC says GMT
            date = date.replace(tzinfo=UTC)
        wait_s = (date - (now or datetime.now(UTC))).total_seconds()
    except (ValueError, OverflowError):  # the latter of absurd numbers
        return None
    return min(max(0.0, wait_s), _MOST_ASKED_S)
