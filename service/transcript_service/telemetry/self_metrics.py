"""The SDK's self metrics for spans and logs, read from the queues' ledgers.

Same names as the SDK's own (`otel.sdk.*`, semantic conventions), but exact, and free for the
request path: they are read at collection instead of counted per record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from .export_queue import ExportQueue, Ledger

# A value, by `error.type`.
_Read = Callable[[Ledger], Mapping[str, int]]
_NEVER_TAKEN: Final = ("refused", "unencodable")
# Every reason exists from the start: the first drop must be visible to increase().
_DROPPED: Final = dict.fromkeys(("queue_full", *_NEVER_TAKEN, "shutdown"), 0)


def observe(meter: Meter, queue: ExportQueue[Any]) -> None:
    """Report one queue: created, processed and exported (failures by `error.type`), size."""
    noun = "span" if queue.signal == "traces" else "log"
    component = {
        "otel.component.type": "transcript_service.export_queue",
        "otel.component.name": f"transcript_service.export_queue/{noun}",
    }
    counter, level = meter.create_observable_counter, meter.create_observable_up_down_counter

    def report(create: Callable[..., object], name: str, said: str, read: _Read) -> None:
        def callback(_: CallbackOptions) -> list[Observation]:
            return [
                Observation(count, {**component, "error.type": error} if error else component)
                for error, count in read(queue.ledger()).items()
            ]

        create(f"otel.sdk.{name}", [callback], f"{{{noun}}}", said)

    # fmt: off
    report(counter, "span.ended" if noun == "span" else "log.created",
           "Records made; equals exported + dropped + waiting.",
           lambda ledger: {"": ledger.accepted})
    report(counter, f"processor.{noun}.processed",
           "Records finished; with `error.type` those that were dropped, and why.",
           lambda ledger: {"": ledger.delivered, **_DROPPED, **ledger.dropped})
    report(counter, f"exporter.{noun}.exported",
           "Records the Collector took; with `error.type` those it will never take.",
           lambda ledger: {"": ledger.delivered,
                           **{why: ledger.dropped.get(why, 0) for why in _NEVER_TAKEN}})
    report(level, f"processor.{noun}.queue.size", "Records waiting or in flight.",
           lambda ledger: {"": ledger.waiting + ledger.in_flight})
    report(level, f"processor.{noun}.queue.capacity",
           "Records that can wait before the oldest is dropped.", lambda _: {"": queue.capacity})
    # fmt: on
