"""The answer cache: fresh, shared, stale when asking fails, never poisoned by a failure."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.dashboard.cache import NEGATIVE_TTL_S, AnswerCache


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Source:
    """Counts how often it is asked; fails while `broken`."""

    def __init__(self) -> None:
        self.asked = 0
        self.broken = False

    def __call__(self) -> str:
        self.asked += 1
        if self.broken:
            raise ConnectionError(f"attempt {self.asked}")
        return f"answer {self.asked}"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def cache(clock: Clock) -> AnswerCache[str]:
    return AnswerCache(ttl_s=30, stale_s=300, size=3, clock=clock)


def test_an_answer_is_served_again_until_its_time_is_up(
    cache: AnswerCache[str], clock: Clock, source: Source
) -> None:
    assert cache.get("q", source).result == "miss"
    clock.now += 26  # 30 s less 10 % of jitter is 27 s
    again = cache.get("q", source)
    assert (again.result, again.value, again.age_s) == ("hit", "answer 1", 26)
    clock.now += 8  # 34 s: past 30 s and 10 %
    assert cache.get("q", source).value == "answer 2"


def test_a_failed_refresh_serves_the_old_answer_and_says_so(
    cache: AnswerCache[str], clock: Clock, source: Source
) -> None:
    cache.get("q", source)
    source.broken = True
    clock.now += 60
    old = cache.get("q", source)
    assert (old.value, old.stale, old.result, old.age_s) == ("answer 1", True, "stale", 60)
    assert isinstance(old.failure, ConnectionError)


def test_an_answer_too_old_to_stand_in_is_not_served(
    cache: AnswerCache[str], clock: Clock, source: Source
) -> None:
    cache.get("q", source)
    source.broken = True
    clock.now += 34 + 300
    with pytest.raises(ConnectionError):
        cache.get("q", source)


def test_a_failure_is_remembered_briefly_so_that_a_dead_upstream_is_not_hammered(
    cache: AnswerCache[str], clock: Clock, source: Source
) -> None:
    source.broken = True
    for _ in range(10):
        with pytest.raises(ConnectionError):
            cache.get("q", source)
    assert source.asked == 1
    clock.now += NEGATIVE_TTL_S
    source.broken = False
    assert cache.get("q", source).value == "answer 2"


def test_a_failure_never_replaces_a_good_answer(
    cache: AnswerCache[str], clock: Clock, source: Source
) -> None:
    cache.get("q", source)
    source.broken = True
    clock.now += 60
    cache.get("q", source)
    source.broken = False
    clock.now += NEGATIVE_TTL_S
    back = cache.get("q", source)
    assert (back.value, back.stale, back.result) == ("answer 3", False, "miss")


def test_what_is_known_can_be_had_without_waiting_for_a_refresh(
    cache: AnswerCache[str], clock: Clock, source: Source
) -> None:
    late = TimeoutError()
    assert cache.last("q", late) is None
    cache.get("q", source)
    fresh = cache.last("q", late)
    assert fresh is not None
    assert not fresh.stale
    clock.now += 60
    old = cache.last("q", late)
    assert old is not None
    assert (old.value, old.stale, old.failure) == ("answer 1", True, late)
    clock.now += 600
    assert cache.last("q", late) is None
    assert source.asked == 1


def test_an_incomplete_answer_is_asked_for_again_soon(clock: Clock, source: Source) -> None:
    cache = AnswerCache[str](ttl_s=30, stale_s=300, clock=clock, brief=lambda value: "1" in value)
    cache.get("q", source)
    clock.now += NEGATIVE_TTL_S * 1.1
    assert cache.get("q", source).value == "answer 2"


def test_a_thousand_callers_at_once_ask_upstream_once(cache: AnswerCache[str]) -> None:
    asked = []
    first_is_asking = threading.Event()
    may_answer = threading.Event()

    def slow() -> str:
        asked.append(1)
        first_is_asking.set()
        may_answer.wait(10)
        return "answer"

    with ThreadPoolExecutor(32) as pool:
        callers = [pool.submit(cache.get, "q", slow) for _ in range(1000)]
        assert first_is_asking.wait(10)
        may_answer.set()
        assert {caller.result(10).value for caller in callers} == {"answer"}
    assert len(asked) == 1


def test_different_questions_do_not_wait_for_each_other(cache: AnswerCache[str]) -> None:
    held = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(cache.get, "slow", lambda: str(held.wait(10)))
        assert cache.get("quick", lambda: "now").value == "now"
        held.set()
        waiting.result(10)


def test_the_least_recently_asked_question_is_forgotten_first(
    cache: AnswerCache[str], source: Source
) -> None:
    for key in ("a", "b", "c"):
        cache.get(key, source)
    cache.get("a", source)
    cache.get("d", source)  # size is 3: forgets b
    asked = source.asked
    assert cache.get("a", source).result == "hit"
    assert source.asked == asked
    assert cache.get("b", source).result == "miss"


def test_lookups_are_counted_by_result(
    cache: AnswerCache[str], clock: Clock, source: Source, telemetry: InMemoryTelemetry
) -> None:
    cache.get("q", source)
    cache.get("q", source)
    source.broken = True
    clock.now += 60
    cache.get("q", source)
    counts = {
        result: telemetry.metric("dashboard.cache.lookups", result=result)
        for result in ("hit", "miss", "stale")
    }
    assert counts == {"hit": 1, "miss": 1, "stale": 1}
