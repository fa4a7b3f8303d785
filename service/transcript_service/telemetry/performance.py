"""Measure a block, or report a measurement made elsewhere: log line, metric and span at once."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from . import instruments
from .context import log_context
from .instruments import Instrument
from .logs import get_logger
from .spans import set_attributes, span

log = get_logger(__name__)

# Factors to the unit that an instrument has, seconds or bytes, by the words for a unit.
_UNITS: Final = {
    word: (base, factor)
    for base, factor, words in (
        ("s", 1.0, "s sec second seconds"),
        ("s", 1e-3, "ms millisecond milliseconds"),
        ("s", 1e-6, "us µs microsecond microseconds"),
        ("s", 1e-9, "ns nanosecond nanoseconds"),
        ("s", 60.0, "min minute minutes"),
        ("s", 3600.0, "h hour hours"),
        ("By", 1.0, "b by byte bytes"),
        ("By", 1e3, "kb kilobyte kilobytes"),
        ("By", 1e6, "mb megabyte megabytes"),
        ("By", 1e9, "gb gigabyte gigabytes"),
        *(("By", 1024.0**power, f"{prefix}ib") for power, prefix in enumerate("kmg", start=1)),
    )
    for word in words.split()
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
    plain = {
        key: value for key, value in fields.items() if isinstance(value, (str, bool, int, float))
    }
    with log_context(**fields), span(name, **plain) as opened:
        try:
            yield measurement
        except BaseException as error:
            measurement.outcome = "error"
            error_type = {"error_type": type(error).__name__}
            raise
        finally:
            measurement.duration_s = time.perf_counter() - started
            series = {"operation": name, "outcome": measurement.outcome}
            set_attributes(opened, outcome=measurement.outcome)
            # While the span is current, so that the histogram's exemplar points to it.
            instruments.OPERATION_DURATION.record(measurement.duration_s, **series)
            duration_s = round(measurement.duration_s, 6)
            log.info("performance.measured", duration_s=duration_s, **series, **error_type)


def emit_performance_metric(
    metric_type: str,
    value: float,
    labels: Mapping[str, Any] | None = None,
    unit: str | None = None,
    p50: float | None = None,
    p95: float | None = None,
) -> None:
    """Record one measurement under a name of the registry, and log it.

    Args:
        metric_type: an instrument's name, with dots or underscores, with or without the
            suffix Prometheus adds (`transcript_stage_duration_seconds`).
        value: in `unit`.
        labels: the instrument's attributes, with dots or underscores.
        unit: of `value`, such as `ms` or `MiB`; without it, the instrument's own.
        p50: percentile the caller computed, in `unit`. Kept on the log line only: Prometheus
            computes its own from the histogram, and the two are never mixed.
        p95: likewise.

    Never raises. An unknown name, label or unit, or a value that is no finite number, is
    warned about once and counted in `telemetry.unknown`.
    """
    said = {"metric_type": metric_type, "value": value, "unit": unit, "p50": p50, "p95": p95}
    said = {key: item for key, item in said.items() if item is not None}
    try:
        instrument = _instruments().get(str(metric_type).lower().replace(".", "_"))
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
    factor = _factor(instrument, unit)
    if factor is None:
        _unknown("unit", instrument.name, unit)
    elif not instrument.note(float(value) * factor, known):
        _warn_once("value", instrument.name, str(value))


@functools.cache
def _instruments() -> dict[str, Instrument]:
    """By their names with underscores, ours and Prometheus'."""
    return {
        name: instrument
        for instrument in instruments.REGISTRY.values()
        for name in (instrument.name.replace(".", "_"), instrument.prometheus_name)
    }


def _factor(instrument: Instrument, unit: str | None) -> float | None:
    """What to multiply with; `None` when the unit does not fit the instrument."""
    if unit is None or unit == instrument.unit:
        return 1.0
    base, factor = _UNITS.get(unit.strip().lower(), (None, 1.0))
    if base == instrument.unit:
        return factor
    # `request` on a counter of `{request}`, or `1` and `count` on any count.
    counted = instrument.unit.strip("{}")
    if base is None and instrument.unit not in ("s", "By"):
        plain = unit.strip("{}").lower()
        return 1.0 if plain in (counted, f"{counted}s", "1", "count", "") else None
    return None


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


class AlertLogger:
    """Write alerts that arrive, at the level of their severity, and count them."""

    _LEVELS: Final = {"critical": "error", "warning": "warning"}

    def __init__(self) -> None:
        self._log = get_logger("transcript_service.alerts")

    def received(self, alertname: str, severity: str, status: str, /, **fields: Any) -> None:
        """One alert of a notification, as Alertmanager has it; `fields` are for the line only."""
        instruments.ALERTS_RECEIVED.add(1, alertname=alertname, severity=severity, status=status)
        name = self._LEVELS.get(severity, "info") if status == "firing" else "info"
        getattr(self._log, name)(
            "alert.received", alertname=alertname, severity=severity, status=status, **fields
        )

    def rejected(self, reason: str, /, **fields: Any) -> None:
        """A notification that could not be used."""
        self._log.warning("alert.rejected", reason=reason, **fields)
