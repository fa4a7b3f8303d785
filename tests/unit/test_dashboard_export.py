"""Native histograms as classic ones, and the text they are written in."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from transcript_service.dashboard.export import (
    BOUNDS,
    cumulative,
    expose,
    prefers_openmetrics,
)
from transcript_service.dashboard.prometheus import NativeHistogram, Sample
from transcript_service.telemetry.instruments import (
    CIRCUIT_BREAKER_STATE,
    TRANSCRIPT_REQUEST_DURATION,
    TRANSCRIPT_REQUESTS,
)


def native(values: list[float], schema: int) -> NativeHistogram:
    """What Prometheus would hold: bucket i covers (base^(i-1), base^i], base = 2^(2^-schema)."""
    base = 2.0 ** (2.0**-schema)
    counts: dict[int, int] = {}
    for value in values:
        index = math.ceil(math.log2(value) * 2**schema)
        counts[index] = counts.get(index, 0) + 1
    buckets = tuple((base**i, float(n)) for i, n in sorted(counts.items()))
    return NativeHistogram(float(len(values)), sum(values), buckets)


def quantile(bounds: list[tuple[float, float]], q: float) -> float:
    """`histogram_quantile` of a classic histogram given as (bound, cumulative count)."""
    total = bounds[-1][1]
    rank, before, lower = q * total, 0.0, 0.0
    for bound, count in bounds:
        if count >= rank:
            return lower + (bound - lower) * (rank - before) / (count - before)
        before, lower = count, bound
    return bounds[-1][0]


@given(
    st.lists(st.floats(min_value=0.0012, max_value=900), min_size=1, max_size=200),
    st.integers(-2, 8),
)
def test_counts_never_fall_and_end_at_the_total(values: list[float], schema: int) -> None:
    counts = cumulative(native(values, schema), BOUNDS)
    assert counts == sorted(counts)
    assert counts[-1] <= len(values)
    assert all(count >= 0 for count in counts)


@given(st.lists(st.floats(min_value=0.0012, max_value=900), min_size=1, max_size=200))
def test_a_histogram_as_fine_as_the_bounds_is_rebucketed_exactly(values: list[float]) -> None:
    found = native(values, 3)
    for bound, count in zip(BOUNDS, cumulative(found, BOUNDS), strict=True):
        edge = bound * (1 + 1e-9)
        assert count == sum(n for upper, n in found.buckets if upper <= edge)


def test_p95_of_the_export_is_within_ten_percent_of_the_exact_one() -> None:
    dice = random.Random(7)
    for schema in (2, 3, 4):
        values = sorted(dice.lognormvariate(-0.5, 1.2) for _ in range(20_000))
        bounds = list(zip(BOUNDS, cumulative(native(values, schema), BOUNDS), strict=True))
        for q in (0.5, 0.95):
            exact = values[int(q * len(values))]
            assert abs(quantile(bounds, q) / exact - 1) < 0.10


def test_the_text_is_stable_escaped_and_typed() -> None:
    found = {
        TRANSCRIPT_REQUESTS.name: [Sample({"outcome": 'a"b\\c\nd', "job": "x"}, 3.0)],
        CIRCUIT_BREAKER_STATE.name: [
            Sample({"name": "asr", "state": "open", "region": "promoted"}, 1.0),
            Sample({"name": "asr", "state": "closed"}, 0.5),
            Sample({"name": "asr", "state": "half_open"}, None),
        ],
        TRANSCRIPT_REQUEST_DURATION.name: [],
    }
    assert expose(found, openmetrics=False).decode().splitlines() == [
        "# HELP circuit_breaker_state 1 for the state a breaker is in, 0 for the others.",
        "# TYPE circuit_breaker_state gauge",
        'circuit_breaker_state{name="asr",state="closed"} 0.5',
        'circuit_breaker_state{name="asr",state="open"} 1.0',
        "# HELP transcript_requests_total Transcript requests answered,"
        " by outcome and by the stage that delivered.",
        "# TYPE transcript_requests_total counter",
        r'transcript_requests_total{outcome="a\"b\\c\nd"} 3.0',
    ]


def test_openmetrics_names_counters_without_suffix_and_ends_with_eof() -> None:
    text = expose({TRANSCRIPT_REQUESTS.name: [Sample({}, 1.0)]}, openmetrics=True).decode()
    assert "# TYPE transcript_requests counter" in text
    assert "\ntranscript_requests_total 1.0\n" in text
    assert text.endswith("# EOF\n")


def test_a_histogram_is_written_with_buckets_sum_and_count() -> None:
    sample = Sample({"outcome": "success"}, None, native([0.5, 0.5, 2000.0], 3))
    text = expose({TRANSCRIPT_REQUEST_DURATION.name: [sample]}, openmetrics=False)
    lines = text.decode().splitlines()
    name = "transcript_request_duration_seconds"
    assert f'{name}_bucket{{le="0.5",outcome="success"}} 2.0' in lines
    assert f'{name}_bucket{{le="1024.0",outcome="success"}} 2.0' in lines
    assert f'{name}_bucket{{le="+Inf",outcome="success"}} 3.0' in lines
    assert f'{name}_sum{{outcome="success"}} 2001.0' in lines
    assert f'{name}_count{{outcome="success"}} 3.0' in lines


OPEN = "application/openmetrics-text"
# What Prometheus 3 sends when it scrapes.
SCRAPER = (
    f"{OPEN};version=1.0.0;escaping=allow-utf-8;q=0.6,{OPEN};version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (SCRAPER, True),
        (OPEN, True),
        (f"{OPEN}; version=1.0.0; charset=utf-8", True),
        (OPEN.upper(), True),
        (f"{OPEN}, */*", True),
        (f"{OPEN}, text/plain;q=0.9", True),
        (f"text/plain, {OPEN}", False),
        (f"text/plain, {OPEN};q=0.9", False),
        (f"text/plain;q=0.2, {OPEN};q=0.3", True),
        (f"{OPEN};q=0", False),
        (f"text/plain;q=0, {OPEN}", True),
        (f"{OPEN};q=0.1, */*", False),
        ("application/*", True),
        ("text/*, application/*", False),
        ("*/*", False),
        ("text/html", False),
        ("", False),
    ],
)
def test_openmetrics_is_for_those_who_prefer_it(header: str, expected: bool) -> None:
    assert prefers_openmetrics(parse_accept_header(header, MIMEAccept)) is expected
