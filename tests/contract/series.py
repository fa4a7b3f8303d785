"""What exists: every time series that a query of this project may name, and its labels.

Three sources: the instrument registry of the service (with the closed lists of label values),
the recording rules, and a committed list of what the engines and libraries export themselves
(`engine_metrics.py` writes it from a live stack).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml

from transcript_service.telemetry.instruments import OTHER, REGISTRY, Instrument

CHECKOUT = Path(__file__).resolve().parent.parent.parent
ENGINE_METRICS = Path(__file__).with_name("engine_metrics.txt")

Kind = Literal["counter", "gauge", "histogram", "unknown"]

# Label name -> the values it can have; None where they are only known at run time.
Labels = dict[str, frozenset[str] | None]

_SUFFIX_OF_UNIT = {"s": "_seconds", "By": "_bytes"}


@dataclass(frozen=True)
class Series:
    """A metric as Prometheus stores it.

    `unit` is `s`, `By`, `ratio`, empty for counts of things, or `?` where nobody says.
    """

    name: str
    kind: Kind
    unit: str
    labels: Labels = field(hash=False)


@lru_cache(maxsize=256)
def _parsed(text: str) -> Any:
    return yaml.safe_load(text)


def read_yaml(file: Path) -> Any:
    """The content of a YAML file; parsed once per text, for PyYAML takes its time."""
    return _parsed(file.read_text())


def prometheus_name(instrument: Instrument) -> str:
    """The name that an instrument gets on its way in (translation with suffixes)."""
    name = instrument.name.replace(".", "_") + _SUFFIX_OF_UNIT.get(instrument.unit, "")
    return f"{name}_total" if instrument.kind == "counter" else name


def promoted_labels(checkout: Path = CHECKOUT) -> Labels:
    """What every pushed series carries: job, instance, and the promoted resource attributes."""
    config = read_yaml(checkout / "prometheus" / "prometheus.yml")
    promoted = config["otlp"]["promote_resource_attributes"]
    return {name.replace(".", "_"): None for name in ("job", "instance", *promoted)}


def service_series(
    registry: Iterable[Instrument] | None = None, checkout: Path = CHECKOUT
) -> dict[str, Series]:
    """The series of the service's own instruments."""
    common = promoted_labels(checkout)
    found = {}
    for instrument in REGISTRY.values() if registry is None else registry:
        labels: Labels = dict(common)
        for attribute in instrument.attributes.values():
            values = frozenset((*attribute.values, OTHER)) if attribute.values else None
            labels[attribute.key.replace(".", "_")] = values
        kind: Kind = {"counter": "counter", "histogram": "histogram"}.get(  # type: ignore[assignment]
            instrument.kind, "gauge"
        )
        unit = instrument.unit if instrument.unit in _SUFFIX_OF_UNIT else ""
        found[prometheus_name(instrument)] = Series(prometheus_name(instrument), kind, unit, labels)
    return found


def engine_series(file: Path = ENGINE_METRICS) -> dict[str, Series]:
    """The series of engines and libraries, one per line: `kind name label label ...`."""
    found = {}
    for line in file.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        kind, name, *labels = line.split()
        found[name] = Series(
            name,
            kind,  # type: ignore[arg-type]
            "s" if "_seconds" in name else "By" if "_bytes" in name else "",
            dict.fromkeys(labels),
        )
    return found
