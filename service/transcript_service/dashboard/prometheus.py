"""A typed client for the four questions this service asks Prometheus.

HTTP API: https://prometheus.io/docs/prometheus/latest/querying/api/
Every answer is checked before use: numbers arrive as strings, `NaN` and `Inf` included,
and whatever listens on that port may not be Prometheus at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

import orjson

from ..resilience.deadline import Deadline
from .upstream import Upstream, understanding

T = TypeVar("T")
# Far above what any of our queries returns; a runaway label set must not fill our memory.
MAX_SERIES: Final = 2000
_NUMBERS: Final = {int, float, type(None)}


@dataclass(frozen=True)
class NativeHistogram:
    """A native histogram sample: `buckets` are (lower, upper, count), lowest first."""

    count: float
    sum: float
    buckets: tuple[tuple[float, float, float], ...]


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
        parameters = {"query": promql, "time": str(at), **self._limits}
        return self._asked(
            "/api/v1/query",
            parameters,
            deadline,
            lambda data: [_sample(item) for item in _result(data, "vector")],
        )

    def range(self, promql: str, steps: range, deadline: Deadline) -> list[Series]:
        """Every series of `promql` at each of `steps`, Unix times."""
        parameters = {
            "query": promql,
            "start": str(steps[0]),
            "end": str(steps[-1]),
            "step": str(steps.step),
            **self._limits,
        }
        return self._asked(
            "/api/v1/query_range",
            parameters,
            deadline,
            lambda data: [_series(item, steps) for item in _result(data, "matrix")],
        )

    def exemplars(
        self, promql: str, *, start: float, end: float, deadline: Deadline
    ) -> list[Exemplar]:
        """The exemplars of the series that `promql` selects, those with a trace id."""
        parameters = {"query": promql, "start": str(start), "end": str(end)}
        return self._asked(
            "/api/v1/query_exemplars",
            parameters,
            deadline,
            lambda data: [
                found
                for series in data
                for item in series["exemplars"]
                if (found := _exemplar(series["seriesLabels"], item)) is not None
            ],
        )

    def alerts(self, deadline: Deadline) -> list[Mapping[str, Any]]:
        """The alerts that are pending or firing: `labels`, `annotations`, `state`, `activeAt`."""
        return self._asked(
            "/api/v1/alerts", {}, deadline, lambda data: [*map(_alert, data["alerts"])]
        )

    def _asked(
        self,
        path: str,
        parameters: Mapping[str, str],
        deadline: Deadline,
        read: Callable[[Any], list[T]],
    ) -> list[T]:
        answer = self._upstream.json(path, parameters, deadline)
        with understanding(path):
            if answer["status"] != "success":
                raise ValueError(answer["status"])
            return read(answer["data"])


def _result(data: Any, kind: str) -> list[Any]:
    if data["resultType"] != kind:
        raise ValueError(data["resultType"])
    result: list[Any] = data["result"]
    if len(result) > MAX_SERIES:
        raise ValueError("too many series")
    return result


def _labels(item: Any) -> Mapping[str, str]:
    return {str(name): str(value) for name, value in item.items()}


def _sample(item: Any) -> Sample:
    labels = _labels(item["metric"])
    if "histogram" in item:
        found = item["histogram"][1]
        buckets = tuple(
            # [boundary rule, left, right, count]; the rule does not matter for counts
            (float(bucket[1]), float(bucket[2]), float(bucket[3]))
            for bucket in found.get("buckets", [])
        )
        histogram = NativeHistogram(float(found["count"]), float(found["sum"]), buckets)
        return Sample(labels, None, histogram)
    return Sample(labels, number(item["value"][1]))


def _series(item: Any, steps: range) -> Series:
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


def _exemplar(series_labels: Any, item: Any) -> Exemplar | None:
    labels = item["labels"]
    trace_id = labels.get("trace_id")
    value = number(item["value"])
    if not isinstance(trace_id, str) or value is None:
        return None
    return Exemplar(_labels(series_labels), trace_id, value, float(item["timestamp"]))


def _alert(item: Any) -> Mapping[str, Any]:
    return {
        "labels": _labels(item["labels"]),
        "annotations": _labels(item["annotations"]),
        "state": str(item["state"]),
        "since": datetime.fromisoformat(str(item["activeAt"])).timestamp(),
    }
