"""The SDK's self metrics for spans and logs, read from the queues' ledgers.

Same names as the SDK's own (`otel.sdk.*`, semantic conventions), but exact, and free for the
request path: they are read at collection instead of counted per record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from .export_queue import ExportQueue, Ledger

_REASONS: Final = ("queue_full", "refused", "unencodable", "shutdown")
_NOUNS: Final = {"traces": "span", "logs": "log"}


def _processed(ledger: Ledger) -> dict[str | None, int]:
    # Every reason exists from the start: the first drop must be visible to increase().
    counts: dict[str | None, int] = dict.fromkeys(_REASONS, 0)
    counts.update(ledger.dropped)
    counts[None] = ledger.delivered
    return counts


def observe(meter: Meter, queue: ExportQueue[Any]) -> None:
    """Report one queue: created, processed and exported (failures by `error.type`), size."""
    noun = _NOUNS[queue.signal]
    component = {
        "otel.component.type": "transcript_service.export_queue",
        "otel.component.name": f"transcript_service.export_queue/{noun}",
    }

    def reading(
        read: Callable[[Ledger], Mapping[str | None, int]],
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def callback(_: CallbackOptions) -> Iterable[Observation]:
            return [
                Observation(value, {**component, "error.type": error} if error else component)
                for error, value in read(queue.ledger()).items()
            ]

        return callback

    def unit(name: str) -> dict[str, str]:
        return {"unit": f"{{{noun}}}", "description": name}

    created = "otel.sdk.span.ended" if noun == "span" else "otel.sdk.log.created"
    meter.create_observable_counter(
        created,
        [reading(lambda ledger: {None: ledger.accepted})],
        **unit("Records made; equals exported + dropped + waiting."),
    )
    meter.create_observable_counter(
        f"otel.sdk.processor.{noun}.processed",
        [reading(_processed)],
        **unit("Records finished; with `error.type` those that were dropped, and why."),
    )
    meter.create_observable_counter(
        f"otel.sdk.exporter.{noun}.exported",
        [
            reading(
                lambda ledger: {
                    None: ledger.delivered,
                    "refused": ledger.dropped.get("refused", 0),
                    "unencodable": ledger.dropped.get("unencodable", 0),
                }
            )
        ],
        **unit("Records the Collector took; with `error.type` those it will never take."),
    )
    meter.create_observable_up_down_counter(
        f"otel.sdk.processor.{noun}.queue.size",
        [reading(lambda ledger: {None: ledger.waiting + ledger.in_flight})],
        **unit("Records waiting or in flight."),
    )
    meter.create_observable_up_down_counter(
        f"otel.sdk.processor.{noun}.queue.capacity",
        [reading(lambda _: {None: queue.capacity})],
        **unit("Records that can wait before the oldest is dropped."),
    )
