"""Balances what a generator made against what each hop says of it and what is stored.

    made     = what the export queue was given, or more was lost before it
    accepted = delivered + dropped (by reason) + waiting               in the export queue
    delivered = accepted by the Collector                              (+ duplicates)
    accepted = sent + send_failed + queued                             in the Collector
    sent     = stored                                                  (+ duplicates)

Allowed is loss that somebody counted, and duplicates. Never allowed: loss that nobody counted,
values that are wrong, an acknowledgement without data. `Balance.findings` names what is there.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import requests

from tests.faults.matrix.rig import Rig
from tests.faults.matrix.truth import Truth

# A signal's word in the Collector's metrics, and the exporter that takes it.
_SIGNALS = {
    "traces": ("spans", "otlp_http/jaeger"),
    "logs": ("log_records", "otlp_http/victorialogs"),
    "metrics": ("metric_points", "otlp_http/prometheus"),
}

# From three hours ago, when a soak's ledger may have begun, to two ahead (`offset -2h`).
_REACH = "5h"


@dataclass
class CollectorBooks:
    """The Collector's counters since `open`, over all its lives.

    A life that is killed takes its counters along: call `note` before.
    """

    rig: Rig
    _before: Counter[tuple[str, str]] = field(default_factory=Counter)
    _earlier: Counter[tuple[str, str]] = field(default_factory=Counter)

    @classmethod
    def open(cls, rig: Rig) -> CollectorBooks:
        """Begin with what the counters show now."""
        books = cls(rig)
        books._before = books._read()
        return books

    def _read(self) -> Counter[tuple[str, str]]:
        found: Counter[tuple[str, str]] = Counter()
        for series, value in self.rig.metrics("otel-collector").items():
            name = series.partition("{")[0]
            for signal, (noun, exporter) in _SIGNALS.items():
                for word in ("accepted", "refused", "failed"):
                    if name == f"otelcol_receiver_{word}_{noun}_total":
                        found[signal, word] += int(value)
                for word in ("sent", "send_failed", "enqueue_failed"):
                    if name == f"otelcol_exporter_{word}_{noun}_total":
                        found[signal, word] += int(value)
                if name == "otelcol_exporter_queue_size" and f'exporter="{exporter}"' in series:
                    found[signal, "queued_bytes"] += int(value)
        return found

    def note(self) -> None:
        """The Collector is about to be killed, and what it counted with it."""
        self._earlier.update(self._since())
        self._before = Counter()

    def _since(self) -> Counter[tuple[str, str]]:
        found = self._read()
        found.subtract(self._before)
        for signal in _SIGNALS:
            del found[signal, "queued_bytes"]
        return found

    def counts(self) -> Mapping[tuple[str, str], int]:
        """(signal, word) → how many since `open`."""
        return self._since() + self._earlier

    def queued(self) -> bool:
        """Whether something waits for a store."""
        return any(
            value for (_, word), value in self._read().items() if word == "queued_bytes" and value
        )


@dataclass
class Balance:
    """The account of one service at one moment."""

    made: int
    stored: Mapping[str, int]
    """By signal: how many different items the store holds; of metrics the counter's value."""
    duplicates: int
    dropped: Mapping[str, Mapping[str, int]]
    """By signal and reason, as the export queues counted it."""
    missing: Mapping[str, int]
    """By signal: items that were made and are not stored."""
    points: int
    """Exports of metrics that were acknowledged to the generator, and are not in Prometheus."""
    collector: Mapping[tuple[str, str], int]
    findings: list[str] = field(default_factory=list)
    """What must not be."""

    @property
    def lost(self) -> int:
        """Spans and lines that were made and are not stored."""
        return self.missing["traces"] + self.missing["logs"]

    @property
    def complete(self) -> bool:
        """Whether everything is where it belongs."""
        return not (self.lost or self.missing["metrics"] or self.points or self.findings)


class Account:
    """One service's telemetry in the rig's stores, against its truth."""

    def __init__(self, rig: Rig, service: str) -> None:
        """Open it before the generator starts, while nothing else is on its way."""
        self.rig = rig
        self.service = service
        self.books = CollectorBooks.open(rig)
        self.collector_killed = False
        """Its counters ended with it, under load: the account closes from end to end only."""
        self.beside: list[Account] = []
        """Of services that send at the same time: the Collector counts all together."""
        self._truth = rig.layout.state_dir / "truth" / f"{service}.jsonl"

    def truth(self) -> Truth:
        """What was made so far."""
        return Truth.read(self._truth)

    def spans(self, traces: Iterable[str]) -> Counter[int]:
        """How often Jaeger holds each numbered span."""
        held: Counter[int] = Counter()
        for trace in sorted(set(traces)):
            for span in self.rig.live.spans(trace):
                tags = {tag["key"]: tag["value"] for tag in span["tags"]}
                if "number" in tags:
                    held[int(tags["number"])] += 1
        return held

    def lines(self) -> tuple[Counter[int], int]:
        """How often VictoriaLogs holds each numbered line, and how many lines without number."""
        now = time.time()
        answer = requests.post(
            self.rig.layout.engine("victorialogs", "/select/logsql/query"),
            {
                "query": f'{{"service.name"="{self.service}"}} | fields number, _time',
                "start": str(now - 3 * 3600),
                "end": str(now + 2 * 3600),  # of a clock that is ahead
            },
            timeout=60,
        )
        answer.raise_for_status()
        rows = [json.loads(line) for line in answer.text.splitlines()]
        numbered = Counter(int(row["number"]) for row in rows if row.get("number"))
        return numbered, len(rows) - numbered.total()

    def counter(self) -> int:
        """The counter's end value over all of the service's lives; also of a clock ahead."""
        value = self.rig.live.number(
            f'sum(max_over_time(transcript_requests_total{{job="{self.service}",'
            f'outcome="success",source="youtube_api"}}[{_REACH}] offset -2h))'
        )
        return int(value or 0)

    def points(self) -> set[int]:
        """The numbers of the exports of metrics that Prometheus holds."""
        found = self.rig.live.query(
            f'ledger_collections_total{{job="{self.service}"}}[{_REACH}] offset -2h'
        )
        return {int(value) for series in found for _, value in series["values"]}

    def balance(self) -> Balance:
        """The account as it is now."""
        truth = self.truth()
        spans, (lines, other_lines) = self.spans(truth.items.values()), self.lines()
        counted = self.counter()
        counts = self.books.counts()
        stored = {"traces": len(spans), "logs": len(lines), "metrics": counted}
        balance = Balance(
            made=len(truth.items),
            stored=stored,
            duplicates=spans.total() + lines.total() - len(spans) - len(lines),
            dropped={
                signal: {reason: count for reason, count in queue["dropped"].items() if count}
                for signal, queue in truth.queues.items()
            },
            missing={
                "traces": len(truth.items.keys() - spans.keys()),
                "logs": len(truth.items.keys() - lines.keys()),
                "metrics": max(0, len(truth.items) - counted),
            },
            points=len(truth.taken - self.points()),
            collector=counts,
        )
        # After kill -9 there are no accounts: the last interval's steps went with the process.
        if counted > len(truth.items) or (counted < len(truth.items) and truth.queues):
            balance.findings.append(f"the counter says {counted}, made were {len(truth.items)}")
        for signal, held in (("traces", spans), ("logs", lines)):
            if unknown := held.keys() - truth.items.keys():
                balance.findings.append(f"{signal}: {len(unknown)} stored that were never made")
            if queue := truth.queues.get(signal):
                others = other_lines if signal == "logs" else 0
                for account in self.beside if signal == "logs" else ():
                    numbered, rest = account.lines()
                    others += numbered.total() + rest
                self._hops(balance, signal, queue, held.total() + others)
        failed = counts.get(("metrics", "send_failed"), 0)
        if balance.points and not failed:
            balance.findings.append(
                f"metrics: {balance.points} acknowledged exports are not stored, none was counted"
            )
        return balance

    def _hops(self, balance: Balance, signal: str, queue: Mapping[str, Any], stored: int) -> None:
        """Every hop of one signal, from its two sides."""
        dropped = sum(queue["dropped"].values())
        counts = {word: balance.collector.get((signal, word), 0) for word in _COUNTED}
        made, missing = balance.made, balance.missing[signal]
        counted = dropped + counts["send_failed"]
        if queue["accepted"] < made:
            lost = made - queue["accepted"]
            balance.findings.append(f"{signal}: {lost} made never came to the export queue")
        if queue["accepted"] != queue["delivered"] + dropped + queue["waiting"]:
            balance.findings.append(f"{signal}: the export queue's account is open: {queue}")
        if queue["delivered"] > counts["accepted"] and not self.collector_killed:
            lost = queue["delivered"] - counts["accepted"]
            balance.findings.append(f"{signal}: {lost} acknowledged never came to the Collector")
        lost = counts["accepted"] - counts["sent"] - counts["send_failed"]
        if lost > 0 and not self.collector_killed:
            balance.findings.append(f"{signal}: {lost} went into the Collector and not out")
        # Jaeger keeps a span that comes twice once.
        if (lost := counts["sent"] - stored) > 0 and signal == "logs":
            balance.findings.append(f"{signal}: {lost} that the store took are not there")
        if missing > counted:
            balance.findings.append(
                f"{signal}: {missing} of {made} are missing, {counted} were counted as lost"
            )

    def settled(self, patience_s: float = 5.0, timeout_s: float = 60.0) -> Balance:
        """The account once it is complete, or has not changed for `patience_s` and nothing waits.

        Raises:
            AssertionError: the Collector still holds something after `timeout_s`.
        """
        end = time.monotonic() + timeout_s
        last: object = None
        since = time.monotonic()
        while time.monotonic() < end:
            try:
                found = self.balance()
                queued = self.books.queued()
            except (requests.RequestException, ValueError):  # an engine that is not back yet
                time.sleep(0.3)
                continue
            if found.complete and not queued:
                return found
            # Not the Collector's counters: its metrics of spans never end.
            state = (found.stored, found.missing, found.points, found.duplicates)
            if state != last or queued:
                last, since = state, time.monotonic()
            elif time.monotonic() - since > patience_s:
                return found
            time.sleep(0.5)
        raise AssertionError(f"not settled after {timeout_s:.0f} s: {self.balance()}")


_COUNTED = ("accepted", "refused", "failed", "sent", "send_failed", "enqueue_failed")
