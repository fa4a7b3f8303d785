"""The demo's programme: healthy for a while, then one announced fault after the other.

Each phase says on the terminal what breaks, what a person will see and which alerts may fire.
The same phases reach Prometheus as the gauge `demo.fault` (1 while a fault is on), so that
charts can mark them and a test can hold every alert of a demo against what was announced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

# Answers take the time that YouTube's usually take, in the healthy phases too.
ALWAYS = ("latency",)


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the programme.

    ``name`` is the value of the gauge's attribute, empty in a healthy phase. ``alerts`` are
    those that may fire from its start until all is green again.
    """

    minutes: float
    says: str
    name: str = ""
    faults: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()


# Faults that leave users their transcripts come first: an outage is remembered by the error
# budget's alerts for half an hour, so it is the last, with a long rest after it.
PROGRAMME: tuple[Phase, ...] = (
    Phase(8, "All is well. Nothing should be red on the dashboard, and no alert fires."),
    Phase(
        7,
        "YouTube refuses every caption download (429). The first two stages are blocked, their "
        "breakers open, and the browser delivers instead: slower, but nobody is turned away. On a "
        "busy machine requests wait for it, and that is an alert too.",
        name="captions refused",
        faults=("http_429@timedtext",),
        alerts=(
            "BrowserContextWaitLong",
            "CircuitBreakerOpenTooLong",
            "CircuitBreakerFlapping",
            "UpstreamBlocked",
            "TranscriptStageFailureRatioHigh",
        ),
    ),
    Phase(
        20,
        "YouTube is itself again. A breaker closes with its next successful probes; its alerts "
        "end a quarter of an hour later.",
    ),
    Phase(
        4,
        "Every answer of YouTube's player is three seconds late. P50 and P95 rise on the charts; "
        "no alert, for that is still within the objective of 30 seconds.",
        name="slow player",
        faults=("slow_headers@player:3",),
    ),
    Phase(6, "YouTube is fast again."),
    Phase(
        8,
        "YouTube takes this machine for a bot: no stage gets through, requests fail with 503, "
        "all breakers open. This is an outage.",
        name="bot check",
        faults=("bot_check",),
        alerts=(
            "AllCircuitBreakersOpen",
            "CircuitBreakerFlapping",
            "CircuitBreakerOpenTooLong",
            "TranscriptErrorBudgetBurnFast",
            "TranscriptErrorBudgetBurnSlow",
            "TranscriptErrorBudgetBurnTicket",
            "TranscriptFailureRatioHigh",
            "TranscriptOutage",
            "TranscriptStageFailureRatioHigh",
            "UpstreamBlocked",
        ),
    ),
    Phase(
        60,
        "The outage is over. Breakers close within a minute; the error budget's alerts look half "
        "an hour back and end when that has passed. Then the tour begins anew.",
    ),
)

Switch = Callable[[Iterable[str]], Awaitable[None]]
"""Makes the simulator's faults exactly these."""


class Marks:
    """Tells Prometheus which fault is on, through the Collector.

    Args:
        endpoint: the Collector's OTLP/HTTP base address; None keeps the marks to oneself.
    """

    def __init__(self, endpoint: str | None) -> None:
        self._on = ""
        self._names = [phase.name for phase in PROGRAMME if phase.name]
        self._provider: MeterProvider | None = None
        if endpoint is None:
            return
        exporter = OTLPMetricExporter(endpoint=f"{endpoint}/v1/metrics", timeout=5)
        self._provider = MeterProvider(
            metric_readers=[PeriodicExportingMetricReader(exporter, export_interval_millis=15_000)],
            resource=Resource({"service.name": "demo"}),
        )
        self._provider.get_meter("simulator").create_observable_gauge(
            "demo.fault",
            callbacks=[self._observe],
            description="1 while the demo's announced fault is on.",
        )

    def set(self, name: str) -> None:
        """The fault that is on from now; empty for none."""
        self._on = name
        if self._provider is not None:
            self._provider.force_flush(5_000)

    def close(self) -> None:
        """Send what is left and stop."""
        if self._provider is not None:
            self._provider.shutdown(5_000)

    def _observe(self, _: CallbackOptions) -> Iterator[Observation]:
        for name in self._names:
            yield Observation(int(name == self._on), {"fault": name})


async def conduct(
    switch: Switch,
    stopped: Callable[[float], Awaitable[bool]],
    marks: Marks,
    programme: tuple[Phase, ...] = PROGRAMME,
    minute_s: float = 60.0,
) -> None:
    """Go through the programme again and again.

    Args:
        switch: sets the simulator's faults.
        stopped: waits so many seconds; true when the load is to end.
        marks: where phases are told to machines.
        programme: the phases.
        minute_s: seconds that a minute of the programme takes.
    """
    while True:
        for phase in programme:
            await switch((*ALWAYS, *phase.faults))
            await asyncio.to_thread(marks.set, phase.name)
            print(f"\n{announcement(phase)}", flush=True)
            if await stopped(phase.minutes * minute_s):
                await switch(())
                return


def announcement(phase: Phase) -> str:
    """What is said at the start of a phase, as a paragraph."""
    title = f"FAULT: {phase.name}" if phase.name else "HEALTHY"
    text = f"{title}, {phase.minutes:g} min. {phase.says}"
    return text + (f" May fire: {', '.join(phase.alerts)}." if phase.alerts else "")


def show() -> None:
    """Print the programme: what the demo does and when."""
    at = 0.0
    for phase in PROGRAMME:
        print(f"{at:4.0f} min  {announcement(phase)}")
        at += phase.minutes
