"""Try a call again, a little later, once: retries that cannot make things worse.

Two tries by default, because four stages stand behind one another and each retry is
time that the next stage does not have. The wait has jitter (see "Exponential Backoff And
Jitter", AWS Architecture Blog, 2015), follows the server's `Retry-After`, and a wait that
would pass the deadline is not begun: the caller gets the error it has, at once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar

from .deadline import Deadline, DeadlineExceeded

T = TypeVar("T")

# First wait 0.5 to 1 s: long enough for a hiccup to pass, short beside a 60 s job.
_FIRST_WAIT_S: Final = 0.5
_JITTER_S: Final = 0.5
_MOST_WAIT_S: Final = 5.0
# Nobody waits for longer than a day, whatever a server says: infinity cannot be told on.
_MOST_ASKED_S: Final = 86_400.0


def retry_call(
    fn: Callable[[], T],
    *,
    deadline: Deadline,
    is_retryable: Callable[[Exception], bool],
    retry_after: Callable[[Exception], float | None] = lambda _: None,
    attempts: int = 2,
    sleep: Callable[[float], None] = time.sleep,
    on_attempt: Callable[[int], None] = lambda _: None,
    on_retry: Callable[[Exception, int, float], None] = lambda *_: None,
) -> T:
    """Call `fn` until it returns, up to `attempts` times, and return its result.

    Args:
        fn: the call; it takes its own timeouts from the deadline.
        deadline: no try begins and no wait ends after it.
        is_retryable: whether trying again can help with this error.
        retry_after: seconds the server asked to wait, if the error says so.
        attempts: tries in all, the first one included.
        sleep: how to wait; tests pass their own.
        on_attempt: told the number of each try (from 1) before it begins.
        on_retry: told the error, the number of the try that raised it and the seconds
            until the next one.

    Raises:
        DeadlineExceeded: no time was left for the first try.
        Exception: the last error of `fn`, as it was raised.
    """
    deadline.check()
    attempt = 1
    while True:
        on_attempt(attempt)
        try:
            return fn()
        except DeadlineExceeded:
            raise
        except Exception as error:
            if not is_retryable(error) or attempt >= attempts:
                raise
            wait_s = _wait_s(attempt, retry_after(error))
            if wait_s >= deadline.remaining():
                raise
            on_retry(error, attempt, wait_s)
        sleep(wait_s)
        attempt += 1


def _wait_s(attempt: int, asked_s: float | None) -> float:
    # Also where the server said when: not all clients come back at the same instant.
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
