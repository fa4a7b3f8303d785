"""The service's own metrics as text, for a second Prometheus or for people with `curl`.

Text exposition 0.0.4 and OpenMetrics 1.0 cannot carry native histograms, so they are
written as classic ones. The bounds are powers of 2^(1/4): those of a native histogram of
schema 2, so any histogram of schema 2 or finer is re-bucketed exactly, and a quantile
read from the result is off by less than 10 %.

Series keep `instance` (one per worker), because only per worker do counters reset cleanly.
Formats: https://prometheus.io/docs/instrumenting/exposition_formats/ and
https://prometheus.io/docs/specs/om/open_metrics_spec/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest as generate_text
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector
from werkzeug.datastructures import MIMEAccept

from ..telemetry.instruments import REGISTRY, Instrument
from .prometheus import NativeHistogram, Sample

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
# About 1 ms to 1024 s for durations; counts of uses fit as well.
BOUNDS: Final = tuple(2.0 ** (k / 4) for k in range(-40, 41))


def prefers_openmetrics(accept: MIMEAccept) -> bool:
    """Whether an Accept header wants OpenMetrics rather than text; between equals it is text.

    Parameters such as `version` are not compared: scrapers name several versions of each
    format, and the answer says which one it is in.
    """
    plain = MIMEAccept((media.partition(";")[0].strip(), q) for media, q in accept)
    text, openmetrics = "text/plain", "application/openmetrics-text"
    return plain.best_match([text, openmetrics]) == openmetrics


def expose(found: Mapping[str, Sequence[Sample]], *, openmetrics: bool) -> bytes:
    """The series of instruments, by name, as text in a stable order; without series, no word."""
    families = [
        _family(REGISTRY[name], samples) for name, samples in sorted(found.items()) if samples
    ]
    write = generate_openmetrics if openmetrics else generate_text
    text: bytes = write(_Collected(families))
    return text


class _Collected(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _family(instrument: Instrument, samples: Sequence[Sample]) -> Metric:
    name = instrument.prometheus_name
    # What the registry declares, and the worker: no label that some Prometheus promotes.
    kept = ["instance", *(a.key.replace(".", "_") for a in instrument.attributes.values())]
    labelled = sorted(
        ((sorted((k, v) for k, v in s.labels.items() if k in kept), s) for s in samples),
        key=lambda pair: pair[0],
    )
    kind = instrument.kind.replace("up-down counter", "gauge")
    metric = Metric(name.removesuffix("_total"), instrument.description, kind)
    for pairs, sample in labelled:
        labels = dict(pairs)
        if sample.histogram is not None:
            _add_histogram(metric, labels, sample.histogram)
        elif sample.value is not None:
            metric.add_sample(name, labels, sample.value)
    return metric


def _add_histogram(metric: Metric, labels: dict[str, str], native: NativeHistogram) -> None:
    for bound, count in zip(BOUNDS, cumulative(native, BOUNDS), strict=True):
        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": str(bound)}, count)
    metric.add_sample(f"{metric.name}_bucket", {**labels, "le": "+Inf"}, native.count)
    metric.add_sample(f"{metric.name}_count", labels, native.count)
    metric.add_sample(f"{metric.name}_sum", labels, native.sum)


def cumulative(native: NativeHistogram, bounds: Sequence[float]) -> list[float]:
    """How many observations are at most as large as each of the ascending `bounds`.

    A bucket that is wider than ours counts where it ends.
    """
    counts: list[float] = []
    below, index = 0.0, 0
    for bound in bounds:
        # Prometheus prints bounds as shortest decimals; ours are computed: allow the last digits.
        while index < len(native.buckets) and native.buckets[index][0] <= bound * (1 + 1e-9):
            below += native.buckets[index][1]
            index += 1
        counts.append(below)
    return counts
