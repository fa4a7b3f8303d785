"""The SDK's self metrics for spans and logs, read from the queues' ledgers.

Same names as the SDK's own (`otel.sdk.*`, semantic conventions), but exact, and free for the
request path: they are read at collection instead of counted per record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from .export_queue import ExportQueue, Ledger

_REASONS: Final = ("queue_full", "refused", "unencodable", "shutdown")
_NOUNS: Final = {"traces": "span", "logs": "log"}


def observe(meter: Meter, queue: ExportQueue[Any]) -> None:
    """Report one queue: created, processed and exported (failures by `error.type`), size."""
    noun = _NOUNS[queue.signal]
    component = {
        "otel.component.type": "transcript_service.export_queue",
        "otel.component.name": f"transcript_service.export_queue/{noun}",
    }

    def report(
        kind: str, name: str, said: str, read: Callable[[Ledger], Mapping[str, int]]
    ) -> None:
        def callback(_: CallbackOptions) -> list[Observation]:
            return [
                Observation(value, {**component, "error.type": error} if error else component)
                for error, value in read(queue.ledger()).items()
            ]

        getattr(meter, f"create_observable_{kind}")(name, [callback], f"{{{noun}}}", said)

    report(
        "counter",
        "otel.sdk.span.ended" if noun == "span" else "otel.sdk.log.created",
        "Records made; equals exported + dropped + waiting.",
        lambda ledger: {"": ledger.accepted},
    )
    report(
        "counter",
        f"otel.sdk.processor.{noun}.processed",
        "Records finished; with `error.type` those that were dropped, and why.",
        # Every reason exists from the start: the first drop must be visible to increase().
        lambda ledger: {"": ledger.delivered, **dict.fromkeys(_REASONS, 0), **ledger.dropped},
    )
    report(
        "counter",
        f"otel.sdk.exporter.{noun}.exported",
        "Records the Collector took; with `error.type` those it will never take.",
        lambda ledger: {
            "": ledger.delivered,
            **{reason: ledger.dropped.get(reason, 0) for reason in ("refused", "unencodable")},
        },
    )
    report(
        "up_down_counter",
        f"otel.sdk.processor.{noun}.queue.size",
        "Records waiting or in flight.",
        lambda ledger: {"": ledger.waiting + ledger.in_flight},
    )
    report(
        "up_down_counter",
        f"otel.sdk.processor.{noun}.queue.capacity",
        "Records that can wait before the oldest is dropped.",
        lambda _: {"": queue.capacity},
    )
