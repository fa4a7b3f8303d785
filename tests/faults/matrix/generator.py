"""Numbered telemetry through the service's own providers and queues, with the truth on disk.

    python -m tests.faults.matrix.generator TRUTH

One item is one span, one log line and one step of a counter, all with the item's number, and
one line of the truth, which is written before the item is made and outlives kill -9. Commands
come on stdin, one a line, each answered by one line of JSON:

    make N [BYTES]   N items at once, each line BYTES long; answers with the slowest item's time
    rate N           N items a second from now on, 0 ends it
    flush S          send everything, at most S seconds
    fork N           N children without exec, each of which counts and ends
    skip N SIGNAL    N items that lack their span, line or count: loss put there on purpose
    miscount N       N steps of the counter that stand for no item
    bomb N           N values of a span's and an instrument's attribute that no list knows
    unmask           masking raises from now on, for every tenth span and line
    unencodable      sending raises, and logs, for every tenth batch
    ledger           what the export queues account for

SIGTERM ends it as it ends a worker.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

# The clock of a machine that goes wrong, in seconds; before anything has imported it.
if _AHEAD := float(os.environ.get("LEDGER_CLOCK_AHEAD_S", "0")):
    _time, _time_ns = time.time, time.time_ns
    time.time = lambda: _time() + _AHEAD
    time.time_ns = lambda: _time_ns() + int(_AHEAD * 1e9)

from opentelemetry import context, metrics, trace
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from tests.faults.matrix.truth import Truth
from transcript_service.settings import Settings
from transcript_service.telemetry import (
    Telemetry,
    get_logger,
    instruments,
    redacting,
    span,
    start,
)
from transcript_service.telemetry.export_queue import Answer, Delivery
from transcript_service.telemetry.providers import OutageLog

# Spans of one trace: a trace is the unit in which Jaeger is asked.
TRACE = 100
ITEM = "ledger.item"
COUNTED = {"outcome": "success", "source": "youtube_api"}

log = get_logger("ledger")


class Generator:
    """Makes items and keeps the truth about them."""

    def __init__(self, truth: Path, telemetry: Telemetry) -> None:
        # A later life goes on with the numbers of the one before.
        earlier = Truth.read(truth) if truth.exists() else Truth()
        self._truth = truth.open("a", buffering=1)
        self._telemetry = telemetry
        self._number = len(earlier.items)
        self._trace_id = 0
        self._rate = 0.0
        self._steady = threading.Lock()
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._collections = len(earlier.collections)
        metrics.get_meter("ledger").create_observable_counter(
            "ledger.collections", [self._collected], description="Numbers each export of metrics."
        )
        self._note_answers()
        self._write(life=os.getpid())
        threading.Thread(target=self._steadily, daemon=True).start()

    def _note_answers(self) -> None:
        """Write down which exports of metrics were taken: the outage log is told each answer."""
        told = OutageLog.__call__

        def noted(outages: OutageLog, signal: str, answer: Answer, lost: int = 0) -> None:
            if signal == "metrics":  # on the thread that collected and exported
                taken = answer.delivery is Delivery.DELIVERED
                self._write(exported=self._collections, taken=taken)
            told(outages, signal, answer, lost)

        OutageLog.__call__ = noted  # type: ignore[method-assign,assignment]

    def _collected(self, _: CallbackOptions) -> Sequence[Observation]:
        self._collections += 1
        self._write(collection=self._collections, at=time.time())
        return [Observation(self._collections)]

    def _write(self, **what: Any) -> None:
        with self._writing:
            self._truth.write(json.dumps(what) + "\n")

    def item(self, size: int = 0, *, without: str = "") -> None:
        """The next one, its line `size` bytes long; `without` one signal."""
        with self._lock:
            number, self._number = self._number, self._number + 1
            if number % TRACE == 0 or not self._trace_id:
                self._trace_id = RandomIdGenerator().generate_trace_id()
            trace_id = self._trace_id
            self._write(item=number, trace=f"{trace_id:032x}")
        sampled = trace.TraceFlags(trace.TraceFlags.SAMPLED)
        parent = trace.NonRecordingSpan(trace.SpanContext(trace_id, 1, True, sampled))
        token = context.attach(trace.set_span_in_context(parent))
        try:
            with nullcontext() if without == "traces" else span(ITEM, number=number):
                if without != "metrics":
                    instruments.TRANSCRIPT_REQUESTS.add(1, **COUNTED)
                if without != "logs":
                    log.info(ITEM, number=number, filler=os.urandom(size // 2).hex() or None)
        finally:
            context.detach(token)

    def _steadily(self) -> None:
        while True:
            with self._steady:
                if rate := self._rate:
                    self.item()
            time.sleep(1 / rate if rate else 0.05)

    def command(self, name: str, *arguments: str) -> object:
        """Do what one line says; the answer."""
        match name:
            case "make":
                count, *size = map(int, arguments)
                slowest_s = 0.0
                for _ in range(count):
                    began = time.perf_counter()
                    self.item(*size)
                    slowest_s = max(slowest_s, time.perf_counter() - began)
                return slowest_s
            case "rate":
                with self._steady:  # at 0 no item is half made any more
                    self._rate = float(arguments[0])
                return None
            case "flush":
                assert self._telemetry.meter_provider is not None
                sent = [queue.flush(float(arguments[0])) for queue in self._telemetry.queues]
                metrics_sent = self._telemetry.meter_provider.force_flush(
                    float(arguments[0]) * 1000
                )
                return metrics_sent and all(sent)
            case "fork":
                for _ in range(int(arguments[0])):
                    self._fork()
                return None
            case "skip":
                for _ in range(int(arguments[0])):
                    self.item(without=arguments[1])
                return None
            case "miscount":
                instruments.TRANSCRIPT_REQUESTS.add(int(arguments[0]), **COUNTED)
                return None
            case "bomb":
                for number in range(int(arguments[0])):
                    with span(f"bomb {number}", stage=f"stage-{number}"):
                        instruments.TRANSCRIPT_STAGE_DURATION.record(
                            1, stage=f"stage-{number}", outcome=f"outcome-{number}"
                        )
                return None
            case "unmask":
                for name in ("_redact_span", "_redact_log"):
                    vars(redacting)[name] = _now_and_then(vars(redacting)[name], "masking")
                return None
            case "unencodable":
                for queue in self._telemetry.queues:
                    queue._deliver = _now_and_then(queue._deliver, "sending")
                return None
            case "ledger":
                return self.ledger()
        raise ValueError(name)

    def ledger(self) -> object:
        """Of each signal, as the export queues have it."""
        return {
            queue.signal: {
                "accepted": (found := queue.ledger()).accepted,
                "delivered": found.delivered,
                "waiting": found.waiting + found.in_flight,
                "dropped": found.dropped,
            }
            for queue in self._telemetry.queues
        }

    def _fork(self) -> None:
        child = os.fork()
        if child == 0:
            instruments.TRANSCRIPT_REQUESTS.add(1000, **COUNTED)
            os._exit(0)
        os.waitpid(child, 0)

    def end(self) -> None:
        """As a worker ends, and write the accounts of it into the truth."""
        self._rate = 0
        self._telemetry.shutdown()
        self._write(ledger=self.ledger())
        self._truth.flush()
        os.fsync(self._truth.fileno())


def _now_and_then(function: Callable[..., Any], what: str) -> Callable[..., Any]:
    """The same, but every tenth call logs and raises."""
    calls = 0

    def failing(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls % 10 == 0:
            log.warning("ledger.fault", what=what)
            raise RuntimeError(f"{what} fails")
        return function(*arguments, **named)

    return failing


def main(truth: Path) -> None:
    """Run until stdin or SIGTERM ends it."""

    def stop(*_: object) -> None:
        raise SystemExit

    signal.signal(signal.SIGTERM, stop)
    generator = Generator(truth, start(Settings()))
    try:
        for line in sys.stdin:
            print(json.dumps(generator.command(*line.split())), flush=True)
    finally:
        generator.end()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
