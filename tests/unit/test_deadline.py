"""A deadline is one point in time for everything below it."""

from __future__ import annotations

import pytest

from transcript_service.resilience.deadline import Deadline, DeadlineExceeded


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_time_runs_down_to_zero_and_not_below(clock: Clock) -> None:
    deadline = Deadline(10, clock)
    assert deadline.remaining() == 10
    clock.now += 4
    assert deadline.remaining() == 6
    clock.now += 60
    assert deadline.remaining() == 0
    assert deadline.expired


def test_check_raises_only_when_nothing_is_left(clock: Clock) -> None:
    deadline = Deadline(10, clock)
    clock.now += 9.999
    deadline.check()
    clock.now += 0.001
    with pytest.raises(DeadlineExceeded):
        deadline.check()


@pytest.mark.parametrize(
    ("limit_s", "passed_s", "timeout_s"), [(3, 0, 3), (30, 0, 10), (3, 8, 2), (3, 7, 3)]
)
def test_a_call_gets_its_own_limit_or_what_is_left(
    clock: Clock, limit_s: float, passed_s: float, timeout_s: float
) -> None:
    deadline = Deadline(10, clock)
    clock.now += passed_s
    assert deadline.timeout(limit_s) == timeout_s


def test_a_timeout_of_zero_is_never_handed_out(clock: Clock) -> None:
    deadline = Deadline(0, clock)
    with pytest.raises(DeadlineExceeded):
        deadline.timeout(3)


def test_work_that_is_left_behind_is_ended_once() -> None:
    ended: list[str] = []
    deadline = Deadline(60)
    with deadline.ending(lambda: ended.append("done")):
        pass
    with deadline.ending(lambda: ended.append("hanging")):
        deadline.leave_behind()
        deadline.leave_behind()
    assert ended == ["hanging"]
    with deadline.ending(lambda: ended.append("late")):  # began after nobody waited any more
        assert ended == ["hanging", "late"]
