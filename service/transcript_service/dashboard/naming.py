"""How the registry's instruments are called in Prometheus.

The OTLP receiver's default translation, `UnderscoreEscapingWithSuffixes`
(prometheus/otlptranslator): dots become underscores, the unit is appended in full words,
units in braces are annotations and are not, monotonic sums end in `_total`.
"""

from __future__ import annotations

from typing import Final

from ..telemetry.instruments import Counter, Instrument

_UNITS: Final = {"s": "seconds", "By": "bytes"}


def metric_name(instrument: Instrument) -> str:
    """The series name of an instrument."""
    name = instrument.name.replace(".", "_")
    unit = _UNITS.get(instrument.unit)
    if unit is not None and not name.endswith(f"_{unit}"):
        name = f"{name}_{unit}"
    return f"{name}_total" if isinstance(instrument, Counter) else name


def label_name(key: str) -> str:
    """The label of an attribute."""
    return key.replace(".", "_")
