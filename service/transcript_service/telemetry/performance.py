"""Measure a block, or report a measurement made elsewhere: log line, metric and span at once."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from . import instruments
from .context import log_context, span
from .instruments import Instrument
from .logs import get_logger

log = get_logger(__name__)

# Words for units, by the factor to the unit that an instrument has.
# fmt: off
_FACTORS: Final = {
    "s": {
        1.0: "s sec second seconds", 1e-3: "ms millisecond milliseconds",
        1e-6: "us µs microsecond microseconds", 1e-9: "ns nanosecond nanoseconds",
        60.0: "min minute minutes", 3600.0: "h hour hours",
    },
    "By": {
        1.0: "b by byte bytes", 1e3: "kb kilobyte kilobytes", 1e6: "mb megabyte megabytes",
        1e9: "gb gigabyte gigabytes", 2.0**10: "kib", 2.0**20: "mib", 2.0**30: "gib",
    },
}
# fmt: on

# By their names with underscores, ours and Prometheus'.
_INSTRUMENTS: Final = {
    name: instrument
    for instrument in instruments.REGISTRY.values()
    for name in (instrument.name.replace(".", "_"), instrument.prometheus_name)
}


@dataclass
class Measurement:
    """What `log_performance` yields: say how it went, read how long it took."""

    operation: str
    outcome: str = "success"
    duration_s: float | None = None
    """Seconds, set when the block has ended."""


@contextmanager
def log_performance(name: str, /, **fields: Any) -> Iterator[Measurement]:
    """Measure the block: one span, one line `performance.measured`, one `operation.duration`.

        with log_performance("captions.parse", video_id=video_id):
            ...

    Also a decorator. `name` is a constant of the code; what varies goes into `fields`, which
    all lines inside get too (`log_context`). An exception makes the outcome `error` and goes on.
    """
    measurement, started = Measurement(name), time.perf_counter()
    error_type: dict[str, str] = {}
    plain = {key: fields[key] for key in fields if isinstance(fields[key], (str, int, float))}
    with log_context(**fields), span(name, **plain) as opened:
        try:
            yield measurement
        except BaseException as error:
            measurement.outcome = "error"
            error_type = {"error_type": type(error).__name__}
            raise
        finally:
            took_s = measurement.duration_s = time.perf_counter() - started
            series = {"operation": name, "outcome": measurement.outcome}
            opened.set_attribute("outcome", measurement.outcome)
            # While the span is current, so that the histogram's exemplar points to it.
            instruments.OPERATION_DURATION.record(took_s, **series)
            log.info("performance.measured", duration_s=round(took_s, 6), **series, **error_type)


def emit_performance_metric(
    metric_type: str,
    value: float,
    labels: Mapping[str, Any] | None = None,
    unit: str | None = None,
    p50: float | None = None,
    p95: float | None = None,
) -> None:
    """Record one measurement under a name of the registry, and log it. Never raises.

    `metric_type` is an instrument's name, with dots or underscores, with or without the suffix
    Prometheus adds (`transcript_stage_duration_seconds`), and `labels` are its attributes. `value`
    and percentiles are in `unit`, such as `ms` or `MiB`; without it, in the instrument's own.
    `p50` and `p95`, which the caller computed, are kept on the log line only: Prometheus computes
    its own from the histogram, and the two are never mixed.

    An unknown name, label or unit, or a value that is no finite number, is warned about once and
    counted in `telemetry.unknown`.
    """
    said = {"metric_type": metric_type, "value": value, "unit": unit, "p50": p50, "p95": p95}
    said = {key: item for key, item in said.items() if item is not None}
    try:
        instrument = _INSTRUMENTS.get(str(metric_type).lower().replace(".", "_"))
        if instrument is None:
            _unknown("metric", str(metric_type), None)
        else:
            said["metric_type"] = instrument.name
            _record(instrument, value, labels or {}, unit)
        log.info("performance.metric", **{**(labels or {}), **said})
    except Exception as error:  # a measurement must not break what it measures
        _unknown("value", str(metric_type), type(error).__name__)


def _record(
    instrument: Instrument, value: float, labels: Mapping[str, Any], unit: str | None
) -> None:
    known = {}
    for label, said in labels.items():
        plain = str(label).replace(".", "_")
        parameter = plain if plain in instrument.attributes else f"{plain}_"
        if parameter not in instrument.attributes:
            _unknown("label", instrument.name, str(label))
        elif said is not None:
            known[parameter] = str(said).lower() if isinstance(said, bool) else str(said)
    factor = _factor(instrument, str(unit)) if unit and unit != instrument.unit else 1.0
    if factor is None:
        _unknown("unit", instrument.name, unit)
    elif not instrument.note(float(value) * factor, known):
        _warn_once("value", instrument.name, str(value))


def _factor(instrument: Instrument, unit: str) -> float | None:
    """What to multiply with; `None` when the unit does not fit the instrument."""
    # `request` on a counter of `{request}`, or `1` and `count` on any count.
    counted = instrument.unit.strip("{}")
    factors = _FACTORS.get(instrument.unit, {1.0: f"1 count {counted} {counted and counted + 's'}"})
    plain = unit.strip(" {}").lower()
    return next((factor for factor, words in factors.items() if plain in words.split()), None)


def _unknown(kind: str, metric_type: str, label: str | None) -> None:
    instruments.TELEMETRY_UNKNOWN.add(1, kind=kind)
    _warn_once(kind, metric_type, label)


@functools.lru_cache(maxsize=500)
def _warn_once(kind: str, metric_type: str, label: str | None) -> None:
    log.warning("telemetry.metric.unknown", kind=kind, metric_type=metric_type, label=label)


class PerformanceLogger:
    """`log_performance` and `emit_performance_metric` with fields given once."""

    def __init__(self, component: str, **fields: Any) -> None:
        """`component` begins every operation's name; `fields` are on every line."""
        self._component = component
        self._fields = fields
        self._log = get_logger(component, **fields)

    def measure(self, operation: str, **fields: Any) -> AbstractContextManager[Measurement]:
        """Measure a block named `component.operation`."""
        return log_performance(f"{self._component}.{operation}", **{**self._fields, **fields})

    def metric(self, metric_type: str, value: float, *args: Any, **kwargs: Any) -> None:
        """`emit_performance_metric` inside this logger's fields."""
        with log_context(**self._fields):
            emit_performance_metric(metric_type, value, *args, **kwargs)

    def event(self, event: str, **fields: Any) -> None:
        """One line of an event of the catalogue."""
        self._log.info(event, **fields)
