"""A typed client for the four questions this service asks Prometheus.

HTTP API: https://prometheus.io/docs/prometheus/latest/querying/api/
Every answer is checked before use: numbers arrive as strings, `NaN` and `Inf` included,
and whatever listens on that port may not be Prometheus at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

import orjson

from ..resilience.deadline import Deadline
from .upstream import Upstream

T = TypeVar("T")
# Far above what any of our queries returns; a runaway label set must not fill our memory.
MAX_SERIES: Final = 2000
_NUMBERS: Final = {int, float, type(None)}


@dataclass(frozen=True)
class NativeHistogram:
    """A native histogram sample: `buckets` are (upper bound, count), lowest first."""

    count: float
    sum: float
    buckets: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Sample:
    """One series at one moment; `value` is `None` for NaN, infinity and histograms."""

    labels: Mapping[str, str]
    value: float | None
    histogram: NativeHistogram | None = None


@dataclass(frozen=True)
class Series:
    """One series over time: a value for each step, `None` where there is no finite one."""

    labels: Mapping[str, str]
    values: Sequence[float | None]


@dataclass(frozen=True)
class Exemplar:
    """One measured request: its value, when it was, and its trace."""

    labels: Mapping[str, str]
    trace_id: str
    value: float
    at: float


def number(text: Any) -> float | None:
    """A sample value; `None` where there is no finite number.

    Raises:
        ValueError, TypeError: not a number at all.
    """
    value = float(text)
    return value if math.isfinite(value) else None


class Prometheus:
    """Questions to one Prometheus, each until a deadline. All raise `UpstreamError`s."""

    def __init__(self, upstream: Upstream, *, timeout_s: float) -> None:
        self._upstream = upstream
        # Prometheus gives up as well, or abandoned queries would pile up there.
        self._limits = {"timeout": f"{timeout_s:g}s", "limit": str(MAX_SERIES)}

    def instant(self, promql: str, *, at: float, deadline: Deadline) -> list[Sample]:
        """The value of every series of `promql` at a Unix time."""
        asked = {"query": promql, "time": str(at), **self._limits}
        return self._ask("query", asked, deadline, partial(_result, "vector", _sample))

    def range(self, promql: str, steps: range, deadline: Deadline) -> list[Series]:
        """Every series of `promql` at each of `steps`, Unix times."""
        raster = {"start": str(steps[0]), "end": str(steps[-1]), "step": str(steps.step)}
        asked = {"query": promql, **raster, **self._limits}
        read = partial(_series, steps)
        return self._ask("query_range", asked, deadline, partial(_result, "matrix", read))

    def exemplars(
        self, promql: str, *, start: float, end: float, deadline: Deadline
    ) -> list[Exemplar]:
        """The exemplars of the series that `promql` selects, those with a trace id."""
        asked = {"query": promql, "start": str(start), "end": str(end)}
        return self._ask("query_exemplars", asked, deadline, lambda data: [*_exemplars(data)])

    def alerts(self, deadline: Deadline) -> list[Mapping[str, Any]]:
        """The alerts that are pending or firing: `labels`, `annotations`, `state`, `since`."""
        return self._ask("alerts", {}, deadline, lambda data: [*map(_alert, data["alerts"])])

    def _ask(
        self,
        path: str,
        parameters: Mapping[str, str],
        deadline: Deadline,
        read: Callable[[Any], list[T]],
    ) -> list[T]:
        def data(body: bytes) -> list[T]:
            answer = orjson.loads(body)
            if answer["status"] != "success":
                raise ValueError(answer["status"])
            return read(answer["data"])

        return self._upstream.get(f"/api/v1/{path}", parameters, deadline, data)


def _result(kind: str, read: Callable[[Any], T], data: Any) -> list[T]:
    result = data["result"]
    if data["resultType"] != kind or len(result) > MAX_SERIES:
        raise ValueError("another type, or too many series")
    return [*map(read, result)]


def _labels(item: Any) -> Mapping[str, str]:
    return {str(name): str(value) for name, value in item.items()}


def _sample(item: Any) -> Sample:
    labels = _labels(item["metric"])
    if "histogram" in item:
        found = item["histogram"][1]
        buckets = tuple(
            # [boundary rule, left, right, count]; the rule does not matter for counts
            (float(right), float(count))
            for _, _, right, count in found.get("buckets", [])
        )
        histogram = NativeHistogram(float(found["count"]), float(found["sum"]), buckets)
        return Sample(labels, None, histogram)
    return Sample(labels, number(item["value"][1]))


def _series(steps: range, item: Any) -> Series:
    times, texts = zip(*item["values"], strict=True) if item.get("values") else ((), ())
    if times != tuple(steps):
        found = dict(zip(times, texts, strict=True))
        texts = tuple([found.get(at, "null") for at in steps])
    try:
        # Thousands of numbers in an answer, which take float() three times as long.
        values = orjson.loads(f"[{','.join(texts)}]")
    except orjson.JSONDecodeError:  # NaN and Inf are no JSON
        values = [None if text == "null" else number(text) for text in texts]
    if len(values) != len(steps) or not {*map(type, values)} <= _NUMBERS:
        raise ValueError("a value that is no number")
    return Series(_labels(item["metric"]), values)


def _exemplars(data: Any) -> Iterator[Exemplar]:
    for series in data:
        labels = _labels(series["seriesLabels"])
        for item in series["exemplars"]:
            trace_id, value = item["labels"].get("trace_id"), number(item["value"])
            if isinstance(trace_id, str) and value is not None:
                yield Exemplar(labels, trace_id, value, float(item["timestamp"]))


def _alert(item: Any) -> Mapping[str, Any]:
    return {
        "labels": _labels(item["labels"]),
        "annotations": _labels(item["annotations"]),
        "state": str(item["state"]),
        "since": datetime.fromisoformat(str(item["activeAt"])).timestamp(),
    }
