"""One series of a histogram: buckets that fit the values, and requests that stand for them.

The SDK takes 9 to 17 µs for each measurement, most of it on the way to the series; here it is
one or two. The buckets are those of the metrics data model (base-2 exponential); a property
test holds them to the SDK's.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import floor, frexp, inf, ldexp, log
from operator import itemgetter
from random import random
from time import time_ns
from typing import Final

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import Buckets, ExponentialHistogramDataPoint
from opentelemetry.trace import SpanContext

# The SDK specification's defaults for this aggregation, and its size of the reservoir.
MAX_SCALE: Final = 20
MAX_BUCKETS: Final = 160
MAX_EXEMPLARS: Final = 20
_NO_BUCKETS: Final = Buckets(0, [])


class ExponentialHistogram:
    """Not safe for threads: the caller holds a lock.

    Bucket i holds values in (b^i, b^(i+1)] with b = 2^(2^-scale). The scale begins at its
    finest and is lowered whenever the values no longer fit into `MAX_BUCKETS`.
    """

    __slots__ = (
        "_exemplars", "_factor", "_offered", "attributes", "buckets", "count", "max", "min",
        "scale", "start_ns", "sum", "zero_count",
    )  # fmt: skip

    def __init__(self, attributes: Mapping[str, str]) -> None:
        self.attributes = attributes
        self._start_over(time_ns())

    def _start_over(self, now_ns: int) -> None:
        self.start_ns = now_ns
        self.count = self.zero_count = 0
        self.sum = 0.0
        self.min, self.max = inf, -inf
        self.buckets: dict[int, int] = {}
        self._rescale(MAX_SCALE)
        self._forget_exemplars()

    def _forget_exemplars(self) -> None:
        self._exemplars: list[tuple[float, int, SpanContext]] = []
        self._offered = 0

    def _rescale(self, scale: int) -> None:
        self.scale = scale
        self._factor = ldexp(1 / log(2), scale)

    def record(self, value: float) -> None:
        """Take one measurement, finite and not negative."""
        self.count += 1
        self.sum += value
        if value < self.min:
            self.min = value
        if value > self.max:
            self.max = value
        if value == 0:
            self.zero_count += 1
            return
        index = self._index(value)
        if index in self.buckets:
            self.buckets[index] += 1
        else:
            self.buckets[index] = 1
            self._fit()

    def _index(self, value: float) -> int:
        half, exponent = frexp(value)  # value = half * 2^exponent, 0.5 <= half < 1
        # A power of two is the upper end of its bucket, which the logarithm would miss.
        if half == 0.5:
            index, scale = exponent - 2, self.scale
            return ((index + 1) << scale) - 1 if scale > 0 else index >> -scale
        if self.scale > 0:
            return floor(log(value) * self._factor)
        return (exponent - 1) >> -self.scale

    def _fit(self) -> None:
        low, high = min(self.buckets), max(self.buckets)
        change = 0
        while (high >> change) - (low >> change) >= MAX_BUCKETS:
            change += 1
        if change:
            finer, self.buckets = self.buckets, {}
            for index, count in finer.items():
                self.buckets[index >> change] = self.buckets.get(index >> change, 0) + count
            self._rescale(self.scale - change)

    def offer(self, value: float, span: SpanContext) -> None:
        """Let a measurement of just now stand as an example until the next collection.

        The largest value always does, because it is the one that is looked for; the others
        are a random sample.
        """
        offered = (value, time_ns(), span)
        kept = self._exemplars
        if kept and value > kept[0][0]:
            offered, kept[0] = kept[0], offered
        if len(kept) < MAX_EXEMPLARS:
            kept.append(offered)
        elif (place := 1 + int(random() * self._offered)) < MAX_EXEMPLARS:  # noqa: S311 - a sample
            kept[place] = offered
        self._offered += 1

    def collect(self, now_ns: int, *, delta: bool) -> ExponentialHistogramDataPoint | None:
        """What has come since the start, or for `delta` since the last collection, if any."""
        if not self.count:
            return None
        low, high = min(self.buckets, default=0), max(self.buckets, default=-1)
        point = ExponentialHistogramDataPoint(
            attributes=self.attributes,
            start_time_unix_nano=self.start_ns,
            time_unix_nano=now_ns,
            count=self.count,
            sum=self.sum,
            scale=self.scale if self.buckets else 0,
            zero_count=self.zero_count,
            positive=Buckets(low, [self.buckets.get(i, 0) for i in range(low, high + 1)]),
            negative=_NO_BUCKETS,
            flags=0,
            min=self.min,
            max=self.max,
            exemplars=[
                Exemplar(None, value, at_ns, span.span_id, span.trace_id)
                for value, at_ns, span in sorted(self._exemplars, key=itemgetter(1))
            ],
        )
        if delta:
            self._start_over(now_ns)
        else:
            self._forget_exemplars()
        return point
