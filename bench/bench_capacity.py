"""The highest rate at which the pipeline loses nothing for a minute, and who works hardest then.

Synthetic records of the usual size go to the Collector and on to the store, one signal at a time,
at twice the rate before until it does not hold; three steps between the last two rates follow, so
that the rate is known to an eighth. It holds if the sender kept it, nothing was refused, and the
store has every record soon after. All parts and the sender share this machine, so the CPU that one
record takes of each stands beside the rate; where none has used up a core, it is the disk: the
Collector answers when its queue is on it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import psutil
import requests
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench.rows import Row, row
from tests.faults.matrix.rig import Rig, running_rig

_row = partial(row, "capacity")
HELD_S = 60.0
DRAIN_S = 20.0
"""The store may have the last record so much later: the batches of the Collector wait a second."""
STILL_S = 300.0
"""The longest wait for what an earlier step has left in queues."""
PACE = 0.98
"""Of the rate, at least, the sender must have reached."""
STEPS_BETWEEN = 3
SENDERS = 16
SERVICE = "capacity"


@dataclass(frozen=True)
class Signal:
    """One kind of record."""

    name: str
    first_rate: int
    """Records a second."""
    batch: int
    """Records in one export: what the SDK's batch processors send, or one worker's series."""
    worker: float
    """Records a second of a busy worker, which fetches eight transcripts (docs/scaling.md)."""
    store: str
    body: Callable[[int, int], bytes]
    """(number of the export, records in it) → one export."""
    stored: Callable[[Rig], int]
    """Records that the store has."""


def run() -> list[Row]:
    """All rows."""
    rows: list[Row] = []
    for signal in SIGNALS:
        with running_rig(
            "capacity", "otel-collector", signal.store, environ={"otel-collector": {}}
        ) as rig:
            rows += _signal(rig, signal)
    return rows


def _signal(rig: Rig, signal: Signal) -> Iterator[Row]:
    held, failed = None, 0
    rate, between = signal.first_rate, 0
    while between <= STEPS_BETWEEN:
        _wait_until_still(rig, signal)
        found = _hold(rig, signal, rate)
        print(f"bench: capacity: {signal.name}, {rate}/s: {found}", file=sys.stderr, flush=True)
        if found.held:
            held = found
        else:
            failed = rate
        if held is None:
            rate //= 2
        elif not failed:
            rate *= 2
        else:
            between += 1
            rate = (held.rate + failed) // 2
    assert held is not None
    yield _row(
        f"{signal.name}, highest rate that loses nothing for {HELD_S:.0f} s",
        held.rate,
        "1/s",
        "one busy worker",
        signal.worker,
    )
    yield _row(f"{signal.name}, the Collector's answer at that rate", held.answer_ms, "ms")
    for name, cores in held.cores.items():
        yield _row(f"{signal.name}, CPU of the {name} for one record", cores / held.rate * 1e6,
                   "µs CPU")  # fmt: skip


@dataclass(frozen=True)
class Step:
    """What a rate came to."""

    rate: int
    pace: float
    refused: int
    missing: int
    answer_ms: float
    """Median."""
    cores: dict[str, float]

    @property
    def held(self) -> bool:
        return self.pace >= PACE and not self.refused and not self.missing


def _wait_until_still(rig: Rig, signal: Signal) -> None:
    """Until the store gets nothing more of the step before, which may have been too much for it."""
    end = time.monotonic() + STILL_S
    stored, since = -1, time.monotonic()
    while time.monotonic() < end and time.monotonic() - since < DRAIN_S / 2:
        with suppress(requests.RequestException, ValueError):
            if (now := signal.stored(rig)) != stored:
                stored, since = now, time.monotonic()
        time.sleep(1)


def _hold(rig: Rig, signal: Signal, rate: int) -> Step:
    parts = {"Collector": rig.pid("otel-collector"), "store": rig.pid(signal.store)}
    parts["sender"] = os.getpid()
    before = {name: _cpu_s(pid) for name, pid in parts.items()}
    already = signal.stored(rig)
    sending = _Sending(rig, signal, rate)
    took = sending.run()
    cores = {name: (_cpu_s(pid) - before[name]) / took for name, pid in parts.items()}
    end = time.monotonic() + DRAIN_S
    missing = sending.accepted
    while missing and time.monotonic() < end:
        time.sleep(1)
        with suppress(requests.RequestException, ValueError):
            missing = sending.accepted + already - signal.stored(rig)
    pace = sending.accepted / (rate * HELD_S)
    return Step(rate, pace, sending.refused, missing, median(sending.answers_ms), cores)


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


class _Sending:
    """Some threads that keep a rate together for `HELD_S`."""

    def __init__(self, rig: Rig, signal: Signal, rate: int) -> None:
        self._url = rig.layout.engine("otlp-http", f"/v1/{signal.name}")
        self._signal, self._rate = signal, rate
        self._lock = threading.Lock()
        self._next = 0
        self.accepted = 0
        self.refused = 0
        """Records."""
        self.answers_ms: list[float] = []

    def run(self) -> float:
        """Returns how many seconds it took."""
        self._began = time.monotonic()
        threads = [threading.Thread(target=self._send) for _ in range(SENDERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.monotonic() - self._began

    def _send(self) -> None:
        size = self._signal.batch
        with requests.Session() as session:
            while True:
                with self._lock:
                    number, self._next = self._next, self._next + 1
                due = self._began + number * size / self._rate
                # Who is late by more than a twentieth has not kept the pace.
                if due > self._began + HELD_S or time.monotonic() > self._began + HELD_S * 1.05:
                    return
                time.sleep(max(0.0, due - time.monotonic()))
                body = self._signal.body(number, size)
                began = time.perf_counter()
                answer = session.post(
                    self._url,
                    body,
                    headers={"Content-Type": "application/x-protobuf"},
                    timeout=60,
                )
                with self._lock:
                    self.answers_ms.append((time.perf_counter() - began) * 1e3)
                    if answer.ok:
                        self.accepted += size
                    else:
                        self.refused += size


def _describe(message: Any, attributes: Mapping[str, str]) -> None:
    for key, value in attributes.items():
        message.attributes.add(key=key).value.string_value = value


def _spans(number: int, count: int) -> bytes:
    request = ExportTraceServiceRequest()
    batch = request.resource_spans.add()
    _describe(batch.resource, {"service.name": SERVICE})
    scope = batch.scope_spans.add()
    now = time.time_ns()
    trace_id = b""
    for index in range(count):
        if index % 8 == 0:
            trace_id = os.urandom(16)
        span = scope.spans.add(
            trace_id=trace_id,
            span_id=(index + 1).to_bytes(8, "big"),
            name="transcript.stage",
            kind=1,
            start_time_unix_nano=now - 370_000_000,
            end_time_unix_nano=now,
        )
        _describe(span, _ABOUT)
    return bytes(request.SerializeToString())


def _lines(number: int, count: int) -> bytes:
    request = ExportLogsServiceRequest()
    batch = request.resource_logs.add()
    _describe(batch.resource, {"service.name": SERVICE})
    scope = batch.scope_logs.add()
    for _ in range(count):
        now = time.time_ns()
        record = scope.log_records.add(
            time_unix_nano=now,
            observed_time_unix_nano=now,
            severity_number=9,
            severity_text="INFO",
            trace_id=os.urandom(16),
            span_id=os.urandom(8),
            event_name="transcript.stage.finished",
        )
        record.body.string_value = "transcript.stage.finished"
        _describe(record, _ABOUT)
    return bytes(request.SerializeToString())


def _metrics(number: int, count: int) -> bytes:
    request = ExportMetricsServiceRequest()
    batch = request.resource_metrics.add()
    # Every sixteenth export is of one worker, or a series would get two points in a millisecond.
    worker = {"service.instance.id": f"worker-{number % 16}"}
    _describe(batch.resource, {"service.name": SERVICE, **worker})
    metric = batch.scope_metrics.add().metrics.add(name="capacity.value")
    now = time.time_ns()
    for index in range(count):
        point = metric.gauge.data_points.add(time_unix_nano=now, as_int=number)
        _describe(point, {"series": str(index)})
    return bytes(request.SerializeToString())


_ABOUT = {
    "stage": "timedtext",
    "outcome": "success",
    "video_id": "ValvSE_cjzM",
    "transcript.language": "en",
    "server.address": "www.youtube.com",
    "http.response.status_code": "200",
}


def _spans_stored(rig: Rig) -> int:
    # Jaeger cannot count what it holds; it counts what its storage has taken.
    return int(rig.metric("jaeger", "otelcol_exporter_sent_spans_total"))


def _lines_stored(rig: Rig) -> int:
    answer = requests.post(
        rig.layout.engine("victorialogs", "/select/logsql/stats_query"),
        {"query": f'{{"service.name"="{SERVICE}"}} | stats count() n'},
        timeout=30,
    )
    answer.raise_for_status()
    return int(answer.json()["data"]["result"][0]["value"][1])


def _points_stored(rig: Rig) -> int:
    return int(rig.live.number("sum(count_over_time(capacity_value[1h]))") or 0)


SIGNALS = (
    Signal("traces", 16000, 512, 91.0, "jaeger", _spans, _spans_stored),
    Signal("logs", 16000, 512, 15.0, "victorialogs", _lines, _lines_stored),
    Signal("metrics", 16000, 250, 17.0, "prometheus", _metrics, _points_stored),
)
