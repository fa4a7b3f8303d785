"""Our exponential histogram is the SDK's, and its exemplars are those that people look for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import Histogram as SdkHistogram
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from opentelemetry.trace import SpanContext, TraceFlags

from transcript_service.telemetry.exponential_histogram import (
    MAX_EXEMPLARS,
    ExponentialHistogram,
)

# The SDK puts what is below the smallest normal number into one bucket; no duration is so short.
VALUES = st.floats(min_value=2.0**-1021, max_value=2.0**1023, allow_infinity=False) | st.just(0.0)
DURATIONS = st.floats(min_value=1e-6, max_value=1e4)
POWERS = st.integers(-40, 40).map(lambda exponent: 2.0**exponent)


def by_the_sdk(values: Iterable[float]) -> Any:
    reader = InMemoryMetricReader(
        preferred_aggregation={SdkHistogram: ExponentialBucketHistogramAggregation()}
    )
    provider = MeterProvider([reader], shutdown_on_exit=False)
    histogram = provider.get_meter("sdk").create_histogram("h")
    for value in values:
        histogram.record(value)
    data = reader.get_metrics_data()
    assert data is not None
    (point,) = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    return point


def ours(values: Iterable[float]) -> ExponentialHistogram:
    histogram = ExponentialHistogram({})
    for value in values:
        histogram.record(value)
    return histogram


def collected(histogram: ExponentialHistogram, *, delta: bool = False) -> Any:
    return histogram.collect(histogram.start_ns + 1, delta=delta)


def numbers(point: Any) -> Any:
    counts = {
        point.positive.offset + place: count
        for place, count in enumerate(point.positive.bucket_counts)
        if count
    }
    return (
        point.count, point.sum, point.min, point.max, point.zero_count,
        point.scale if counts else None, counts,
    )  # fmt: skip


@given(st.lists(DURATIONS | POWERS | VALUES, min_size=1, max_size=60))
@example([0.0])
@example([1.0, 2.0, 4.0, 1024.0])
@example([1e-300, 1e300])
def test_buckets_are_those_of_the_sdk(values: list[float]) -> None:
    assert numbers(collected(ours(values))) == numbers(by_the_sdk(values))


def test_collections_add_up_to_the_same_as_one() -> None:
    values = [0.001 * 1.07**step for step in range(250)]
    histogram = ExponentialHistogram({})
    for value in values:
        histogram.record(value)
        last = collected(histogram)
    assert numbers(last) == numbers(by_the_sdk(values))


def test_a_delta_holds_what_has_come_since_the_last_collection() -> None:
    histogram = ours([1.0, 2.0])
    assert collected(histogram, delta=True).count == 2
    assert collected(histogram, delta=True) is None
    histogram.record(0.5)
    point = collected(histogram, delta=True)
    assert (point.count, point.sum, point.min, point.max) == (1, 0.5, 0.5, 0.5)


def test_a_series_that_is_about_to_get_its_first_measurement_is_not_sent() -> None:
    assert collected(ours([])) is None


def span(number: int) -> SpanContext:
    return SpanContext(number, number, False, TraceFlags(TraceFlags.SAMPLED))


@pytest.mark.parametrize("slowest", [0, 1, 500, 999])
def test_the_slowest_is_always_an_exemplar(slowest: int) -> None:
    histogram = ours([1.0])
    for number in range(1000):
        histogram.offer(9.0 if number == slowest else 0.1 + number / 1e6, span(number + 1))
    exemplars = collected(histogram).exemplars
    assert len(exemplars) == len({exemplar.trace_id for exemplar in exemplars}) == MAX_EXEMPLARS
    assert (9.0, slowest + 1) in [(e.value, e.trace_id) for e in exemplars]
    moments = [exemplar.time_unix_nano for exemplar in exemplars]
    assert moments == sorted(moments)
    assert collected(histogram).exemplars == []  # those of the next interval are others


def test_the_other_exemplars_are_from_all_of_the_interval() -> None:
    seen = [0, 0]
    for _ in range(300):
        histogram = ours([1.0])
        for number in range(200):
            histogram.offer(1.0, span(number + 1))
        for exemplar in collected(histogram).exemplars:
            seen[exemplar.trace_id > 100] += 1
    # 3000 each are expected; the first one, which is as slow as all, always stays.
    assert 2600 < seen[0] < 3500
    assert 2500 < seen[1] < 3400
