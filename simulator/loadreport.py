"""What came of a load: counted, and shown as a live line and as a summary."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field

from simulator.requestlog import percentile

RECENT_S = 15.0
"""The live line's rate and latency are those of the last so many seconds."""
KEPT = 100_000
"""Answers that the summary's percentiles look back on: a load may run for days."""


@dataclass(frozen=True, slots=True)
class Answer:
    """When a request ended (monotonic clock) and how long it took, both in seconds."""

    at: float
    latency_s: float


@dataclass(slots=True)
class Results:
    """The outcomes of all requests, and the latest answers."""

    outcomes: Counter[str] = field(default_factory=Counter)
    answers: deque[Answer] = field(default_factory=lambda: deque(maxlen=KEPT))
    in_flight: int = 0
    not_sent: int = 0
    """Requests that were due while every slot was busy."""

    def add(self, outcome: str, latency_s: float | None) -> None:
        """Count a request; ``latency_s`` is None where no answer came."""
        self.outcomes[outcome] += 1
        if latency_s is not None:
            self.answers.append(Answer(time.monotonic(), latency_s))

    def line(self, now: float, started: float) -> str:
        """The live line: seconds since the start, rate, outcomes by code, latency, in flight."""
        window_s = min(RECENT_S, max(now - started, 0.001))
        recent: list[float] = []
        for answer in reversed(self.answers):
            if answer.at < now - window_s:
                break
            recent.append(answer.latency_s)
        codes = "  ".join(f"{code} {count}" for code, count in sorted(self.outcomes.items()))
        p50, p95 = (_ms(percentile(recent, share)) for share in (0.5, 0.95))
        return (
            f"{now - started:6.0f} s  {len(recent) / window_s:5.1f}/s  {codes or 'no answer yet'}  "
            f"p50 {p50}  p95 {p95}  in flight {self.in_flight}"
        )

    def table(self, elapsed_s: float) -> str:
        """The summary at the end."""
        done = sum(self.outcomes.values())
        latencies = [answer.latency_s for answer in self.answers]
        p50, p95 = (_ms(percentile(latencies, share)) for share in (0.5, 0.95))
        rows = [
            f"requests   {done} in {elapsed_s:.1f} s ({done / max(elapsed_s, 0.001):.2f}/s)",
            f"latency    p50 {p50}, p95 {p95}, max {_ms(max(latencies, default=None))}",
        ]
        rows += [
            f"{code:32} {count:6}  {count / done:6.1%}"
            for code, count in self.outcomes.most_common()
        ]
        if self.not_sent:
            rows.append(f"{'not sent, all slots busy':32} {self.not_sent:6}")
        return "\n".join(rows)


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1000:.0f} ms"
