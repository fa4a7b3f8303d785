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
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_exponential_jitter

from ..telemetry import get_logger
from .deadline import Deadline, DeadlineExceeded

log = get_logger(__name__)

T = TypeVar("T")

# First wait 0.5 to 1 s: long enough for a hiccup to pass, short beside a 60 s job.
_BACKOFF = wait_exponential_jitter(multiplier=0.5, max=5.0, jitter=0.5)


def retry_call(
    fn: Callable[[], T],
    *,
    deadline: Deadline,
    is_retryable: Callable[[BaseException], bool],
    retry_after: Callable[[BaseException], float | None] = lambda _: None,
    attempts: int = 2,
    sleep: Callable[[float], None] = time.sleep,
    on_attempt: Callable[[int], None] = lambda _: None,
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

    Raises:
        DeadlineExceeded: no time was left for the first try.
        Exception: the last error of `fn`, as it was raised.
    """

    def before(state: RetryCallState) -> None:
        if state.attempt_number == 1:
            deadline.check()
        on_attempt(state.attempt_number)

    def wait(state: RetryCallState) -> float:
        asked = retry_after(_error(state))
        if asked is None:
            return _BACKOFF(state)
        # Not sooner than asked, and not all clients at the same instant.
        return max(0.0, asked) + random.uniform(0.0, 0.5)  # noqa: S311 - no secret

    def no_time_left(state: RetryCallState) -> bool:
        return state.upcoming_sleep >= deadline.remaining()

    def tell(state: RetryCallState) -> None:
        log.info(
            "transcript.stage.retried",
            attempt=state.attempt_number,
            delay_s=round(state.upcoming_sleep, 3),
            error_type=type(_error(state)).__name__,
        )

    retrying = Retrying(
        stop=lambda state: stop_after_attempt(attempts)(state) or no_time_left(state),
        wait=wait,
        retry=retry_if_exception(
            lambda error: not isinstance(error, DeadlineExceeded) and is_retryable(error)
        ),
        sleep=sleep,
        before=before,
        before_sleep=tell,
        reraise=True,
    )
    return retrying(fn)


def _error(state: RetryCallState) -> BaseException:
    error = state.outcome.exception() if state.outcome else None
    if error is None:
        raise AssertionError("tenacity asks for a wait only after an error")
    return error


def parse_retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds to wait according to a `Retry-After` header (RFC 9110, section 10.2.3).

    Returns `None` when the header is absent or is neither seconds nor a date; a date in
    the past is 0.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:  # "-0000" and the obsolete forms: the RFC says GMT
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())
