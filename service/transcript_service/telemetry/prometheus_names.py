"""What an instrument is called once it is in Prometheus.

The rules are those of Prometheus' OTLP receiver with its default translation strategy,
UnderscoreEscapingWithSuffixes: dots become underscores, the unit and, for counters,
`_total` are appended; annotations such as `{request}` are no unit.
"""

from __future__ import annotations

from typing import Final

from .instruments import Counter, Instrument

_UNITS: Final = {"s": "seconds", "By": "bytes"}


def prometheus_name(instrument: Instrument) -> str:
    """The metric name in PromQL."""
    parts = [instrument.name.replace(".", "_")]
    if not instrument.unit.startswith("{") and instrument.unit:
        parts.append(_UNITS[instrument.unit])
    if isinstance(instrument, Counter):
        parts.append("total")
    return "_".join(parts)


def prometheus_label(key: str) -> str:
    """The label name of an attribute."""
    return key.replace(".", "_")
