"""Work for one key runs once at a time, and its result or error is everybody's."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from transcript_service.resilience.deadline import Deadline, DeadlineExceeded
from transcript_service.resilience.single_flight import Flown, SingleFlight


class Work:
    """Work that ends when the test says so, and counts how often it ran."""

    def __init__(self, *ends: str | BaseException) -> None:
        self._ends = iter(ends)
        self.runs = 0
        self.began = threading.Event()
        self.may_end = threading.Event()

    def __call__(self) -> str:
        self.runs += 1
        self.began.set()
        assert self.may_end.wait(10)
        end = next(self._ends)
        if isinstance(end, BaseException):
            raise end
        return end


class Waiting(Deadline):
    """A deadline that says when somebody has begun to wait under it."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.asked = threading.Event()

    def remaining(self) -> float:
        self.asked.set()
        return super().remaining()


def fly(
    work: Callable[[], str], followers: int, alone: Callable[[Exception], bool] = lambda _: False
) -> tuple[list[Flown[str]], list[BaseException]]:
    """A leader and some who join it; what each one got. `work` ends once all wait."""
    flights: SingleFlight[str, str] = SingleFlight()
    assert isinstance(work, Work)
    with ThreadPoolExecutor(followers + 1) as threads:
        calls = [threads.submit(flights.run, "key", work, concerns_first_alone=alone)]
        assert work.began.wait(10)
        deadlines = [Waiting(10) for _ in range(followers)]
        calls += [
            threads.submit(flights.run, "key", work, deadline, concerns_first_alone=alone)
            for deadline in deadlines
        ]
        for deadline in deadlines:
            assert deadline.asked.wait(10)
        work.may_end.set()
        errors = [error for call in calls if (error := call.exception(10)) is not None]
        return [call.result() for call in calls if call.exception() is None], errors


def test_all_who_ask_meanwhile_share_one_result() -> None:
    work = Work("value")
    results, errors = fly(work, followers=4)
    assert work.runs == 1
    assert not errors
    assert [result.value for result in results] == ["value"] * 5
    assert sorted(result.led for result in results) == [False] * 4 + [True]


def test_an_error_is_shared_too() -> None:
    failure = ValueError("no")
    work = Work(failure)
    results, errors = fly(work, followers=2)
    assert (work.runs, results, errors) == (1, [], [failure] * 3)


@pytest.mark.parametrize("end", [DeadlineExceeded("over"), SystemExit()])
def test_an_end_that_concerns_the_first_alone_hands_its_place_on(end: BaseException) -> None:
    work = Work(end, "value")
    results, errors = fly(work, followers=1)
    assert (work.runs, results, errors) == (2, [Flown("value", led=True)], [end])


def test_the_caller_says_which_errors_concern_the_first_alone() -> None:
    mine, ours = ValueError("no place for me"), KeyError("no such thing")
    work = Work(mine, ours)
    results, errors = fly(work, followers=1, alone=lambda error: isinstance(error, ValueError))
    assert (work.runs, results, errors) == (2, [], [mine, ours])


def test_who_waits_waits_no_longer_than_its_own_deadline() -> None:
    flights: SingleFlight[str, str] = SingleFlight()
    work = Work("value")
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(flights.run, "key", work)
        assert work.began.wait(10)
        with pytest.raises(DeadlineExceeded):
            flights.run("key", work, Deadline(0.05))
        work.may_end.set()
        assert first.result(10) == Flown("value", led=True)


def test_nothing_is_remembered_and_other_keys_do_not_wait() -> None:
    flights: SingleFlight[str, str] = SingleFlight()
    work = Work("value")
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(flights.run, "key", work)
        assert work.began.wait(10)
        assert flights.run("another", lambda: "other") == Flown("other", led=True)
        work.may_end.set()
        first.result(10)
    assert flights.run("key", lambda: "again") == Flown("again", led=True)
