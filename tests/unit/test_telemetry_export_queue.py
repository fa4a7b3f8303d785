"""The queue between the request path and the exporter loses nothing uncounted."""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import count, pairwise
from types import FrameType
from typing import Any

import pytest

from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.telemetry import export_queue
from transcript_service.telemetry.export_queue import Answer, Delivery, ExportQueue, Ledger
from transcript_service.telemetry.providers import OutageLog


class Exporter:
    """Takes batches; what it answers is set by the test."""

    def __init__(self) -> None:
        self.answer = Delivery.DELIVERED
        self.got: list[int] = []
        self.attempts = 0
        self.changed = threading.Condition()
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, batch: Sequence[int]) -> Delivery:
        with self.changed:
            self.attempts += 1
            self.changed.notify_all()
        self.gate.wait(30)
        answer = self.answer
        if answer is Delivery.DELIVERED:
            self.got.extend(batch)
        return answer

    def wait_attempts(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.attempts >= count, 10)


def balance(ledger: Ledger) -> int:
    return ledger.accepted - ledger.delivered - ledger.lost - ledger.waiting - ledger.in_flight


@pytest.fixture
def exporter() -> Exporter:
    return Exporter()


def make(exporter: Exporter, capacity: int = 100, batch_size: int = 10) -> ExportQueue[int]:
    return ExportQueue("logs", exporter, capacity=capacity, batch_size=batch_size, delay_s=0.01)


def test_records_arrive_in_order_and_are_counted(exporter: Exporter) -> None:
    queue = make(exporter)
    for number in range(35):
        queue.put(number)
    assert queue.flush(5)
    assert exporter.got == list(range(35))
    assert queue.ledger() == Ledger(accepted=35, delivered=35)


def test_a_record_alone_is_delivered_though_nobody_asks(exporter: Exporter) -> None:
    queue = make(exporter)
    queue.put(1)
    exporter.wait_attempts(1)
    assert queue.flush(60)
    assert exporter.got == [1]


def test_what_is_left_after_a_batch_waits_for_others_to_share_the_next() -> None:
    batches: list[list[int]] = []
    answered = threading.Event()

    def deliver(batch: Sequence[int]) -> Delivery:
        batches.append(list(batch))
        return Delivery.DELIVERED

    queue = ExportQueue(
        "logs", deliver, batch_size=2, delay_s=3600, on_answer=lambda *_: answered.set()
    )
    for number in (1, 2, 3):
        queue.put(number)
    assert answered.wait(60)
    queue.put(4)
    assert queue.flush(60)
    assert batches == [[1, 2], [3, 4]]


def test_a_failed_batch_is_kept_and_delivered_when_the_collector_is_back(
    exporter: Exporter,
) -> None:
    exporter.answer = Delivery.RETRY
    queue = make(exporter)
    for number in range(50):
        queue.put(number)
    exporter.wait_attempts(2)
    exporter.answer = Delivery.DELIVERED
    assert queue.flush(10)
    assert exporter.got == list(range(50))
    assert queue.ledger().lost == 0


def test_beyond_its_capacity_the_oldest_is_dropped_and_counted(exporter: Exporter) -> None:
    exporter.answer = Delivery.RETRY
    queue = make(exporter, capacity=20)
    for number in range(70):
        queue.put(number)
    exporter.wait_attempts(2)
    exporter.answer = Delivery.DELIVERED
    assert queue.flush(10)
    assert exporter.got == list(range(50, 70))
    assert queue.ledger() == Ledger(accepted=70, delivered=20, dropped={"queue_full": 50})


def test_a_batch_in_flight_counts_towards_the_capacity(exporter: Exporter) -> None:
    exporter.gate.clear()
    queue = make(exporter, capacity=10, batch_size=10)
    for number in range(10):
        queue.put(number)
    exporter.wait_attempts(1)
    for number in range(10, 15):
        queue.put(number)
    ledger = queue.ledger()
    assert ledger.in_flight + ledger.waiting <= 10
    assert balance(ledger) == 0
    exporter.gate.set()
    queue.close(5)


@pytest.mark.parametrize("answer", [Delivery.REFUSED, Delivery.UNENCODABLE])
def test_a_batch_that_will_never_be_taken_does_not_block_the_next(
    exporter: Exporter, answer: Delivery
) -> None:
    exporter.answer = answer
    queue = make(exporter)
    queue.put(1)
    assert queue.flush(5)
    exporter.answer = Delivery.DELIVERED
    queue.put(2)
    assert queue.flush(5)
    assert exporter.got == [2]
    assert queue.ledger().dropped == {answer.value: 1}


def test_a_record_that_cannot_be_encoded_costs_nobody_else() -> None:
    got: list[int] = []

    def deliver(batch: Sequence[int]) -> Delivery:
        if 13 in batch:
            raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")
        got.extend(batch)
        return Delivery.DELIVERED

    queue = ExportQueue("logs", deliver, batch_size=50, delay_s=0.01)
    for number in range(50):
        queue.put(number)
    assert queue.flush(5)
    assert got == [number for number in range(50) if number != 13]
    assert queue.ledger() == Ledger(accepted=50, delivered=49, dropped={"unencodable": 1})


def test_nothing_is_lost_between_threads(exporter: Exporter) -> None:
    queue = make(exporter, capacity=500)
    exporter.answer = Delivery.RETRY

    def produce(start: int) -> None:
        for number in range(start, start + 1000):
            queue.put(number)

    threads = [threading.Thread(target=produce, args=(n * 1000,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    exporter.answer = Delivery.DELIVERED
    assert queue.flush(10)
    ledger = queue.ledger()
    assert ledger.accepted == 8000
    assert balance(ledger) == 0
    assert len(set(exporter.got)) == ledger.delivered == 8000 - ledger.dropped["queue_full"]


def test_closing_delivers_what_is_queued(exporter: Exporter) -> None:
    queue = make(exporter)
    for number in range(25):
        queue.put(number)
    queue.close(5)
    assert queue.ledger().lost == 0
    assert exporter.got == list(range(25))


def test_each_pause_between_tries_is_twice_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_queue, "_FIRST_RETRY_S", 0.002)
    exporter, tried = Exporter(), list[float]()
    exporter.answer = Delivery.RETRY

    def deliver(batch: Sequence[int]) -> Delivery:
        tried.append(time.monotonic())
        return exporter(batch)

    queue = ExportQueue[int]("logs", deliver, delay_s=0.01)
    queue.put(1)
    exporter.wait_attempts(9)  # half a second; it gives up after ten
    pauses = [after - before for before, after in pairwise(tried[:9])]
    for number, pause in enumerate(pauses):
        assert pause >= 0.002 * 2**number
    queue.close(5)


@pytest.mark.parametrize("line", range(1, 21))
def test_closing_delivers_what_is_queued_whatever_is_going_on(line: int) -> None:
    exporter, lines = Exporter(), count(1)
    closers: list[threading.Thread] = []

    def interrupt(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename != export_queue.__file__ or frame.f_code.co_name != "_loop":
            return None
        if event == "line" and next(lines) == line:
            closer = threading.Thread(target=queue.close, args=(20,))
            closer.start()
            closers.append(closer)
            time.sleep(0.01)  # as far as it gets: the exporting thread may have the lock
        return interrupt

    queue, before = make(exporter), threading.gettrace()
    threading.settrace(interrupt)
    try:
        for number in range(15):
            queue.put(number)
        exporter.wait_attempts(1)
    finally:
        threading.settrace(before)
    while not closers:
        time.sleep(0.001)
    closers[0].join()
    assert queue.ledger() == Ledger(accepted=15, delivered=15)


def test_closing_gives_up_at_the_deadline_and_counts_the_rest(exporter: Exporter) -> None:
    exporter.gate.clear()
    queue = make(exporter)
    for number in range(25):
        queue.put(number)
    exporter.wait_attempts(1)
    queue.close(0.05)
    assert queue.ledger().dropped == {"shutdown": 25}
    exporter.gate.set()
    assert balance(queue.ledger()) == 0


def test_closing_without_a_collector_tries_once_and_counts_the_rest(exporter: Exporter) -> None:
    exporter.answer = Delivery.RETRY
    queue = make(exporter)
    for number in range(25):
        queue.put(number)
    queue.close(5)
    assert queue.ledger().dropped == {"shutdown": 25}
    assert balance(queue.ledger()) == 0


def test_records_after_closing_are_counted(exporter: Exporter) -> None:
    queue = make(exporter)
    queue.close(1)
    queue.put(1)
    assert queue.ledger().dropped == {"already_shutdown": 1}


def outages(telemetry: InMemoryTelemetry) -> list[Mapping[str, Any]]:
    return [line for line in telemetry.lines() if line["event"].startswith("telemetry.export.")]


def test_an_outage_is_told_once_and_its_end_with_what_it_cost(
    exporter: Exporter, telemetry: InMemoryTelemetry
) -> None:
    queue = ExportQueue(
        "logs", exporter, capacity=10, batch_size=10, delay_s=0.01, on_answer=OutageLog()
    )
    exporter.answer = Delivery.RETRY
    for number in range(30):
        queue.put(number)
    exporter.wait_attempts(3)
    exporter.answer = Delivery.DELIVERED
    assert queue.flush(10)
    queue.close(5)
    failing, recovered = outages(telemetry)
    assert (failing["event"], recovered["event"]) == (
        "telemetry.export.failing",
        "telemetry.export.recovered",
    )
    assert recovered["dropped"] <= 20


def test_of_several_signals_in_one_outage_one_line_tells_and_one_ends(
    telemetry: InMemoryTelemetry,
) -> None:
    log, away, back = OutageLog(), Answer(Delivery.RETRY, "away"), Answer(Delivery.DELIVERED)
    for of, answer, lost in (
        ("traces", away, 3),
        ("metrics", away, 0),
        ("logs", away, 5),
        ("traces", away, 9),
        ("traces", back, 10),
        ("metrics", back, 0),
        ("logs", back, 5),
        ("logs", back, 5),
    ):
        log(of, answer, lost)
    assert [(line["signal"], line.get("dropped")) for line in outages(telemetry)] == [
        ("traces", None),
        ("logs", 7),
    ]


def test_a_forked_child_neither_hangs_nor_delivers_its_parents_records(exporter: Exporter) -> None:
    exporter.gate.clear()
    queue = make(exporter)
    for number in range(10):
        queue.put(number)
    exporter.wait_attempts(1)  # the fork happens during an export
    child = os.fork()
    if child == 0:
        exporter.gate.set()
        exporter.got.clear()
        queue.put(99)
        delivered = queue.flush(5)
        os._exit(0 if delivered and exporter.got == [99] else 1)
    _, status = os.waitpid(child, 0)
    exporter.gate.set()
    assert queue.flush(5)
    assert os.waitstatus_to_exitcode(status) == 0
    assert exporter.got == list(range(10))


def test_a_record_put_in_the_middle_of_another_call_waits_for_nothing(exporter: Exporter) -> None:
    """As `__del__` and signal handlers do, on the thread that holds the lock."""
    queue = make(exporter, capacity=100, batch_size=1000)
    before = signal.signal(signal.SIGALRM, lambda *_: queue.put(-1))
    signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
    done = threading.Timer(20, faulthandler.dump_traceback_later, (1,), {"exit": True})
    done.start()
    try:
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            queue.put(1)
            queue.ledger()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        done.cancel()
    assert queue.flush(5)
    assert balance(queue.ledger()) == 0


class LogsWhenItGoes:
    """A record whose end, which comes while the queue drops it, waits for another's lock."""

    def __init__(self, handler: threading.RLock, going: threading.Event) -> None:
        self._handler, self._going = handler, going

    def __del__(self) -> None:
        self._going.set()
        with self._handler:
            pass


def test_a_logging_handler_may_log_while_a_finaliser_in_the_queue_waits_for_it() -> None:
    """Two locks in two orders: the handler's is held by who puts, the queue's by who drops."""
    queue: ExportQueue[object] = ExportQueue("logs", lambda _: Delivery.RETRY, capacity=2)
    handler, going, held = threading.RLock(), threading.Event(), threading.Event()

    def handle() -> None:
        with handler:
            held.set()
            assert going.wait(10)
            queue.put("from the handler")

    queue.put(LogsWhenItGoes(handler, going))
    queue.put("second")
    handling = threading.Thread(target=handle, daemon=True)
    handling.start()
    assert held.wait(10)

    def drop() -> None:
        queue.put("third, for which the first has to go")
        queue.ledger()

    dropping = threading.Thread(target=drop, daemon=True)
    dropping.start()
    for thread in (handling, dropping):
        thread.join(10)
        assert not thread.is_alive(), "they wait for each other"
    assert balance(queue.ledger()) == 0
    assert queue.ledger().accepted == 4


def test_the_wait_that_was_asked_for_is_kept(exporter: Exporter) -> None:
    times: list[float] = []

    def deliver(batch: Sequence[int]) -> Answer:
        times.append(time.monotonic())
        return Answer(Delivery.RETRY if len(times) == 1 else Delivery.DELIVERED, retry_after_s=1.5)

    queue = ExportQueue("logs", deliver, delay_s=0.01)
    queue.put(1)
    while queue.ledger().delivered == 0:
        time.sleep(0.05)
    assert 1.4 < times[1] - times[0] < 15


def test_what_is_rejected_of_a_batch_and_what_is_refused_is_lost_and_told(
    telemetry: InMemoryTelemetry,
) -> None:
    answers = [
        Answer(Delivery.DELIVERED, "rejected 2", rejected=2),
        Answer(Delivery.DELIVERED),
        Answer(Delivery.REFUSED, "answers 401"),
        Answer(Delivery.DELIVERED),
    ]
    queue: ExportQueue[int] = ExportQueue(
        "logs", lambda _: answers.pop(0), delay_s=0.01, on_answer=OutageLog()
    )
    for _ in range(4):
        for number in range(3):
            queue.put(number)
        assert queue.flush(5)
    assert queue.ledger() == Ledger(accepted=12, delivered=7, dropped={"refused": 5})
    queue.close(5)
    assert [(line.get("reason"), line.get("dropped")) for line in outages(telemetry)] == [
        ("rejected 2", None),
        (None, 2),
        ("answers 401", None),
        (None, 3),
    ]


def test_after_a_failure_one_record_is_tried_before_batches_grow_again() -> None:
    sizes: list[int] = []
    all_put = threading.Event()

    def deliver(batch: Sequence[int]) -> Delivery:
        assert all_put.wait(60)
        sizes.append(len(batch))
        return Delivery.RETRY if len(sizes) < 3 else Delivery.DELIVERED

    # Full, but not over: what could not be delivered has a place to come back to.
    queue = ExportQueue("logs", deliver, capacity=60, batch_size=16, delay_s=0.01)
    for number in range(60):
        queue.put(number)
    all_put.set()
    assert queue.flush(60)
    assert sizes[1:3] == [1, 1]
    assert sizes[3:7] == [2, 4, 8, 16]
    assert queue.ledger() == Ledger(accepted=60, delivered=60)
