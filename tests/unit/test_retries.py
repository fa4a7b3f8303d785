"""A retry waits as long as it was asked to, and never past the deadline."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.problem import Problem
from transcript_service.resilience.deadline import Deadline, DeadlineExceeded
from transcript_service.transcripts import pipeline
from transcript_service.transcripts.http import parse_retry_after
from transcript_service.transcripts.model import TranscriptError
from transcript_service.transcripts.stages.base import Notes


def failed(retry_after_s: float | None = None) -> TranscriptError:
    return TranscriptError("http_5xx", "It failed.", retry_after_s=retry_after_s)


class Source:
    """A stage that raises the given errors one after another, then answers; keeps the time."""

    def __init__(
        self, *errors: Exception, takes_s: float = 0.0, attempts: int = 2, deadline_s: float = 60.0
    ) -> None:
        self.errors = list(errors)
        self.takes_s = takes_s
        self.attempts = attempts
        self.now = 0.0
        self.waits: list[float] = []
        self.calls = 0
        self.job: Any = SimpleNamespace(
            deadline=Deadline(deadline_s, lambda: self.now), notes=Notes(), proxy=None
        )

    def fetch(self, _: object) -> str:
        self.calls += 1
        self.now += self.takes_s
        if self.errors:
            raise self.errors.pop(0)
        return "captions"

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def answer(self) -> Any:
        stage: Any = self
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("time.sleep", self.sleep)
            return pipeline._tries(stage, self.job)


def test_a_call_that_works_is_made_once() -> None:
    source = Source()
    assert source.answer() == "captions"
    assert (source.calls, source.waits, source.job.notes.tries) == (1, [], 1)


def test_one_failure_is_followed_by_one_more_try_after_half_a_second_or_more() -> None:
    source = Source(failed())
    assert source.answer() == "captions"
    assert source.job.notes.tries == 2
    assert len(source.waits) == 1
    assert 0.5 <= source.waits[0] <= 1.0


def test_a_retry_is_told_with_its_error_its_number_and_its_wait(
    telemetry: InMemoryTelemetry,
) -> None:
    source = Source(failed(), failed())
    with pytest.raises(TranscriptError):
        source.answer()
    (told,) = telemetry.events("transcript.stage.retried")
    assert (told["error_type"], told["attempt"]) == ("http_5xx", 1)
    assert told["delay_s"] == round(source.waits[0], 3)


def test_waits_differ_from_call_to_call() -> None:
    waits = set()
    for _ in range(20):
        source = Source(failed())
        source.answer()
        waits.add(source.waits[0])
    assert len(waits) > 10


def test_two_failures_are_enough_and_the_last_error_comes_out_as_it_was() -> None:
    first, last = failed(), failed()
    source = Source(first, last)
    with pytest.raises(TranscriptError) as raised:
        source.answer()
    assert raised.value is last
    assert source.calls == 2


def test_more_tries_wait_longer_and_longer() -> None:
    source = Source(*[failed() for _ in range(3)], attempts=4)
    assert source.answer() == "captions"
    assert source.job.notes.tries == 4
    assert source.waits[0] < source.waits[2]


@pytest.mark.parametrize(
    "error", [TranscriptError("video_removed_by_uploader", "Gone."), KeyError("mine")]
)
def test_an_error_that_a_retry_cannot_change_is_not_tried_again(error: Exception) -> None:
    source = Source(error)
    with pytest.raises(type(error)):
        source.answer()
    assert source.calls == 1


def test_retry_after_is_waited_for_in_full() -> None:
    source = Source(failed(retry_after_s=7))
    assert source.answer() == "captions"
    assert 7 <= source.waits[0] <= 7.5


@pytest.mark.parametrize(
    ("errors", "takes_s"), [([failed(retry_after_s=61)], 0.0), ([failed()], 60.0)]
)
def test_no_try_follows_that_the_deadline_has_no_time_for(
    errors: Sequence[Exception], takes_s: float
) -> None:
    source = Source(*errors, takes_s=takes_s)
    with pytest.raises(TranscriptError):
        source.answer()
    assert (source.calls, source.waits) == (1, [])


def test_a_retry_begins_before_the_deadline() -> None:
    for takes_s in (58.0, 59.0, 59.3, 59.6):
        source = Source(failed(), takes_s=takes_s)
        try:
            source.answer()
        except TranscriptError:
            assert source.waits == []
        else:
            assert takes_s + source.waits[0] < 60


def test_nothing_is_tried_after_the_deadline() -> None:
    source = Source(deadline_s=0)
    with pytest.raises(DeadlineExceeded):
        source.answer()
    assert (source.calls, source.job.notes.tries) == (0, 0)


def test_an_exceeded_deadline_is_never_tried_again() -> None:
    source = Source(DeadlineExceeded())
    with pytest.raises(DeadlineExceeded):
        source.answer()
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
        ("Fri, 20 Nov 2026 12:00:30 +" + "9" * 30, 0.0),
        ("9" * 5000, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("١٢", None),
    ],
)
def test_retry_after_is_read_as_the_rfc_writes_it(
    header: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", NOW.timestamp)
    assert parse_retry_after(header) == seconds


@pytest.mark.parametrize(
    ("seconds", "header"), [(0.2, "1"), (7.4, "7"), (1e9, "86400"), (float("inf"), "86400")]
)
def test_retry_after_is_told_on_within_a_day(seconds: float, header: str) -> None:
    problem = Problem(503, "ip_blocked", "Not now.", retry_after_s=seconds)
    assert problem.headers == {"Retry-After": header}
