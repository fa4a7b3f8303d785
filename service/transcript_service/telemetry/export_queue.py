"""A bounded queue between the request path and one exporter, that loses nothing uncounted.

The SDK's own batch processors give a batch up after one export timeout, so a Collector that
is away for ten seconds costs records although the queue is nearly empty; they count drops
without a lock and count answers such as 503 as delivered. Here a batch stays queued until it
was delivered or refused for good, and at any time

    accepted = delivered + dropped (by reason) + waiting + in flight
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from queue import Empty, SimpleQueue
from typing import Final, Generic, TypeVar

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import suppress_instrumentation

T = TypeVar("T")

# Seconds between two attempts while nothing can be delivered: this, doubled up to that.
_FIRST_RETRY_S: Final = 0.5
_LAST_RETRY_S: Final = 5.0
LONGEST_WAIT_S: Final = 300.0


class Delivery(Enum):
    """What became of a batch."""

    DELIVERED = "delivered"
    RETRY = "retry"  # nobody has it; it may work later
    REFUSED = "refused"  # it will never be taken
    UNENCODABLE = "unencodable"  # it cannot even be sent


@dataclass(frozen=True)
class Answer:
    """What became of a batch, with what the other side said about it."""

    delivery: Delivery
    reason: str = ""
    rejected: int = 0
    """Records of a delivered batch that were not taken (OTLP's partial success)."""
    retry_after_s: float = 0.0
    """How long the other side wants to be left alone."""

    @property
    def failed(self) -> bool:
        """Whether the other side is away or does not want what it gets."""
        return self.delivery in (Delivery.RETRY, Delivery.REFUSED) or self.rejected > 0


@dataclass
class Ledger:
    """Where every record went. Numbers of records."""

    accepted: int = 0
    delivered: int = 0
    in_flight: int = 0
    waiting: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def lost(self) -> int:
        """Dropped for whatever reason."""
        return sum(self.dropped.values())


class ExportQueue(Generic[T]):
    """Take records from any thread, deliver them in batches from one."""

    def __init__(
        self,
        signal: str,
        deliver: Callable[[Sequence[T]], Delivery | Answer],
        *,
        capacity: int = 10_000,
        batch_size: int = 512,
        delay_s: float = 1.0,
        on_answer: Callable[[str, Answer, int], None] = lambda *_: None,
    ) -> None:
        """Start with nothing queued; the thread starts with the first record.

        Args:
            signal: `traces` or `logs`.
            deliver: sends one batch, may block for a few seconds; what it raises counts as
                `UNENCODABLE`.
            capacity: records held at most; beyond it the oldest is dropped.
            batch_size: records sent at once at most; after a failure one is tried first.
            delay_s: longest time a record waits for others to share its batch.
            on_answer: told (on the export thread) of the signal what became of a batch and how
                many records had been dropped before it.
        """
        self.signal = signal
        self.capacity = capacity
        self._deliver = deliver
        self._batch_size = min(batch_size, capacity)
        self._delay_s = delay_s
        self._on_answer = on_answer
        self._reset()
        reset = weakref.WeakMethod(self._reset)
        os.register_at_fork(after_in_child=lambda: (alive := reset()) and alive())

    def _reset(self) -> None:
        """Begin empty, also in a forked child: the parent delivers what it has queued."""
        # What was put and is not counted yet: `put` may run in a finaliser or signal handler in
        # the middle of all this, or below a lock that whoever is here waits for.
        self._arrived: deque[T] = deque()
        self._records: deque[T] = deque()
        self._lock = threading.RLock()
        self._busy = False
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._idle = threading.Condition(self._lock)
        self._ledger = Ledger()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._give_up = False
        # Records of the next attempt. One after a failed attempt, then twice as many each time:
        # masking and encoding whole batches in vain would take the processor from requests.
        self._attempt_size = self._batch_size
        self._retry_after_s = 0.0
        self._failing = False

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Alone with the counts, of all that has arrived."""
        with self._lock:
            inside, self._busy = self._busy, True
            try:
                while self._arrived and not inside:
                    self._accept(self._arrived.popleft())
                yield
            finally:
                self._busy = inside

    def put(self, record: T) -> None:
        """Queue one record. Never waits for anything, never raises."""
        self._arrived.append(record)
        if self._thread is not None and len(self._arrived) < self._batch_size:
            return
        # Where somebody has the lock, they or the next record see to it.
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._busy:  # in the middle of another call of this thread
                return
            with self._exclusively():
                full_batch = len(self._records) >= self._batch_size
        finally:
            self._lock.release()
        if full_batch and not self._failing:
            self._rouse()

    def _rouse(self) -> None:
        if self._wake.empty():
            self._wake.put(None)

    def _accept(self, record: T) -> None:
        self._ledger.accepted += 1
        if self._closing:
            self._drop(1, "already_shutdown")
            return
        if len(self._records) + self._ledger.in_flight >= self.capacity:
            self._drop(1, "queue_full")
            if not self._records:  # everything is in flight: then this is the oldest left
                return
            self._records.popleft()
        self._records.append(record)
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name=f"telemetry-{self.signal}", daemon=True
            )
            self._thread.start()

    def ledger(self) -> Ledger:
        """A consistent copy of the counts."""
        with self._exclusively():
            dropped = dict(self._ledger.dropped)
            return replace(self._ledger, waiting=len(self._records), dropped=dropped)

    def flush(self, timeout_s: float) -> bool:
        """Wait until nothing is queued or in flight. Returns whether that happened in time."""
        with self._exclusively():
            self._rouse()
        with self._idle:
            return self._idle.wait_for(
                lambda: not (self._arrived or self._records or self._ledger.in_flight), timeout_s
            )

    def close(self, timeout_s: float) -> None:
        """Deliver what is queued, trying each batch once, then stop: the rest is dropped."""
        deadline = time.monotonic() + timeout_s
        with self._exclusively():
            self._closing = True
            thread = self._thread
        self._rouse()
        if thread is not None:
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._exclusively():
            self._give_up = True
            # A batch still in flight may arrive yet; it counts as lost, the safe side.
            left = len(self._records) + self._ledger.in_flight
            self._records.clear()
            self._ledger.in_flight = 0
            if left:
                self._drop(left, "shutdown")

    def _drop(self, count: int, reason: str) -> None:
        self._ledger.dropped[reason] = self._ledger.dropped.get(reason, 0) + count

    def _run(self) -> None:
        # This thread was started by some request, whose context is not ours; and exporting must
        # not make telemetry of its own (the exporter uses requests).
        otel_context.attach(Context())
        with suppress_instrumentation():
            self._loop()

    def _loop(self) -> None:
        retry_s = _FIRST_RETRY_S
        wait_s = self._delay_s
        while True:
            # As it was before the last batch is taken: what comes later still wants to be taken.
            if not (closing := self._closing):
                with suppress(Empty):
                    self._wake.get(timeout=wait_s)
            batch = self._take()
            while batch and self._send(batch) is not Delivery.RETRY:
                batch = self._take(only_full=not closing)
            if closing:
                return
            if self._failing:
                wait_s = max(retry_s, self._retry_after_s)
                retry_s = min(retry_s * 2, _LAST_RETRY_S)
            else:
                wait_s, retry_s = self._delay_s, _FIRST_RETRY_S

    def _take(self, *, only_full: bool = False) -> list[T]:
        with self._exclusively():
            if self._give_up or (only_full and len(self._records) < self._attempt_size):
                return []
            count = min(self._attempt_size, len(self._records))
            batch = [self._records.popleft() for _ in range(count)]
            self._ledger.in_flight = count
            return batch

    def _send(self, batch: list[T]) -> Delivery:
        answer = self._attempt(batch)
        if answer.delivery is Delivery.UNENCODABLE and len(batch) > 1:
            # One bad record must not cost the others: halve until it stands alone.
            middle = len(batch) // 2
            results = (self._send(batch[:middle]), self._send(batch[middle:]))
            return Delivery.RETRY if Delivery.RETRY in results else Delivery.DELIVERED
        self._settle(batch, answer)
        return answer.delivery

    def _attempt(self, batch: Sequence[T]) -> Answer:
        try:
            answer = self._deliver(batch)
        except Exception as error:
            return Answer(Delivery.UNENCODABLE, type(error).__name__)
        return answer if isinstance(answer, Answer) else Answer(answer)

    def _settle(self, batch: list[T], answer: Answer) -> None:
        result = answer.delivery
        again = result is Delivery.RETRY
        self._attempt_size = 1 if again else min(2 * self._attempt_size, self._batch_size)
        # The wait is over when it stops being asked for; no more than five minutes at a time.
        self._retry_after_s = min(answer.retry_after_s, LONGEST_WAIT_S)
        self._failing = answer.failed
        with self._exclusively():
            if self._give_up:
                return
            lost = self._ledger.lost
            self._ledger.in_flight -= len(batch)
            if result is Delivery.DELIVERED:
                rejected = min(answer.rejected, len(batch))
                self._ledger.delivered += len(batch) - rejected
                if rejected:
                    self._drop(rejected, Delivery.REFUSED.value)
            elif result is not Delivery.RETRY:
                self._drop(len(batch), result.value)
            elif self._closing:
                self._drop(len(batch) + len(self._records), "shutdown")
                self._records.clear()
            else:
                room = self.capacity - len(self._records)
                if room < len(batch):
                    self._drop(len(batch) - room, "queue_full")
                    batch = batch[len(batch) - room :]
                self._records.extendleft(reversed(batch))
            self._idle.notify_all()
        self._on_answer(self.signal, answer, lost)
