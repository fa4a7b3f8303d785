"""A retry waits as long as it was asked to, and never past the deadline."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from transcript_service.problem import Problem
from transcript_service.resilience.deadline import Deadline, DeadlineExceeded
from transcript_service.resilience.retries import parse_retry_after, retry_call


class Blocked(Exception):
    def __init__(self, retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s


class Gone(Exception):
    pass


class Source:
    """Raises the given errors one after another, then answers; keeps the time and the tries."""

    def __init__(self, *errors: Exception, takes_s: float = 0.0) -> None:
        self.errors = list(errors)
        self.takes_s = takes_s
        self.now = 0.0
        self.waits: list[float] = []
        self.attempts: list[int] = []
        self.retries: list[tuple[Exception, int, float]] = []
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        self.now += self.takes_s
        if self.errors:
            raise self.errors.pop(0)
        return "captions"

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def retry(self, deadline_s: float = 60.0, attempts: int = 2) -> str:
        return retry_call(
            self,
            deadline=Deadline(deadline_s, lambda: self.now),
            is_retryable=lambda error: isinstance(error, Blocked),
            retry_after=lambda error: error.retry_after_s if isinstance(error, Blocked) else None,
            attempts=attempts,
            sleep=self.sleep,
            on_attempt=self.attempts.append,
            on_retry=lambda *told: self.retries.append(told),
        )


def test_a_call_that_works_is_made_once() -> None:
    source = Source()
    assert source.retry() == "captions"
    assert (source.calls, source.waits, source.attempts) == (1, [], [1])


def test_one_failure_is_followed_by_one_more_try_after_half_a_second_or_more() -> None:
    source = Source(Blocked())
    assert source.retry() == "captions"
    assert source.attempts == [1, 2]
    assert len(source.waits) == 1
    assert 0.5 <= source.waits[0] <= 1.0


def test_a_retry_is_told_with_its_error_its_number_and_its_wait() -> None:
    error = Blocked()
    source = Source(error)
    source.retry()
    assert source.retries == [(error, 1, source.waits[0])]
    failed = Source(Blocked(), Blocked())
    with pytest.raises(Blocked):
        failed.retry()
    assert len(failed.retries) == 1


def test_waits_differ_from_call_to_call() -> None:
    waits = set()
    for _ in range(20):
        source = Source(Blocked())
        source.retry()
        waits.add(source.waits[0])
    assert len(waits) > 10


def test_two_failures_are_enough_and_the_last_error_comes_out_as_it_was() -> None:
    first, last = Blocked(), Blocked()
    source = Source(first, last)
    with pytest.raises(Blocked) as raised:
        source.retry()
    assert raised.value is last
    assert source.calls == 2


def test_more_tries_wait_longer_and_longer() -> None:
    source = Source(*[Blocked() for _ in range(3)])
    assert source.retry(attempts=4) == "captions"
    assert source.attempts == [1, 2, 3, 4]
    assert source.waits[0] < source.waits[2]


def test_an_error_that_a_retry_cannot_change_is_not_tried_again() -> None:
    source = Source(Gone())
    with pytest.raises(Gone):
        source.retry()
    assert source.calls == 1


def test_retry_after_is_waited_for_in_full() -> None:
    source = Source(Blocked(retry_after_s=7))
    assert source.retry() == "captions"
    assert 7 <= source.waits[0] <= 7.5


def test_a_retry_after_beyond_the_deadline_is_not_waited_for_at_all() -> None:
    source = Source(Blocked(retry_after_s=61))
    with pytest.raises(Blocked):
        source.retry(deadline_s=60)
    assert (source.calls, source.waits) == (1, [])


def test_no_try_follows_when_the_first_one_used_up_the_time() -> None:
    source = Source(Blocked(), takes_s=60)
    with pytest.raises(Blocked):
        source.retry(deadline_s=60)
    assert (source.calls, source.waits) == (1, [])


def test_a_retry_begins_before_the_deadline() -> None:
    for takes_s in (58.0, 59.0, 59.3, 59.6):
        source = Source(Blocked(), takes_s=takes_s)
        try:
            source.retry(deadline_s=60)
        except Blocked:
            assert source.waits == []
        else:
            assert takes_s + source.waits[0] < 60


def test_nothing_is_tried_after_the_deadline() -> None:
    source = Source()
    with pytest.raises(DeadlineExceeded):
        source.retry(deadline_s=0)
    assert (source.calls, source.attempts) == (0, [])


def test_an_exceeded_deadline_is_never_tried_again() -> None:
    source = Source(DeadlineExceeded())
    everything: Callable[[BaseException], bool] = lambda _: True  # noqa: E731
    with pytest.raises(DeadlineExceeded):
        retry_call(
            source,
            deadline=Deadline(60, lambda: 0.0),
            is_retryable=everything,
            sleep=source.sleep,
        )
    assert source.calls == 1


NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Fri, 20 Nov 2026 12:00:30 GMT", 30.0),
        ("Friday, 20-Nov-26 12:00:30 GMT", 30.0),
        ("Fri Nov 20 12:00:30 2026", 30.0),
        ("Fri, 20 Nov 2026 11:00:00 GMT", 0.0),
        ("9" * 400, 86_400.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400.0),
        ("Fri, 20 Nov 2026 12:00:30 +" + "9" * 30, None),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("١٢", None),
    ],
)
def test_retry_after_is_read_as_the_rfc_writes_it(
    header: str | None, seconds: float | None
) -> None:
    assert parse_retry_after(header, NOW) == seconds


@pytest.mark.parametrize(
    ("seconds", "header"), [(0.2, "1"), (7.4, "7"), (1e9, "86400"), (float("inf"), "86400")]
)
def test_retry_after_is_told_on_within_a_day(seconds: float, header: str) -> None:
    problem = Problem(503, "ip_blocked", "Not now.", retry_after_s=seconds)
    assert problem.headers == {"Retry-After": header}
