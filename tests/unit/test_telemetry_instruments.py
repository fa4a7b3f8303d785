"""The registry bounds what a call can do to storage."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import Any

import pytest
from opentelemetry.context import Context

from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.telemetry import instruments, span
from transcript_service.telemetry.instruments import (
    Attribute,
    Counter,
    Gauge,
    Histogram,
    Instrument,
    UpDownCounter,
)


def test_without_providers_a_call_does_nothing() -> None:
    instruments.stop()
    instruments.TRANSCRIPT_REQUESTS.add(1, outcome="success")
    instruments.TRANSCRIPT_REQUEST_DURATION.record(1.0, outcome="success")
    instruments.BROWSER_MEMORY_USAGE.set(1)


def test_an_undeclared_attribute_is_dropped(telemetry: InMemoryTelemetry) -> None:
    instruments.PROXY_ROTATIONS.add(1, reason="http_403", color="red")
    assert telemetry.metric("proxy.rotations", reason="http_403") == 1


def test_none_leaves_an_attribute_out(telemetry: InMemoryTelemetry) -> None:
    instruments.TRANSCRIPT_REQUESTS.add(1, outcome="error", source=None)
    assert telemetry.metric("transcript.requests", outcome="error") == 1


def test_a_value_outside_the_list_becomes_other(telemetry: InMemoryTelemetry) -> None:
    instruments.TRANSCRIPT_REQUESTS.add(1, outcome="exploded")
    assert telemetry.metric("transcript.requests", outcome="other") == 1


def test_series_that_rates_look_at_exist_from_the_start(telemetry: InMemoryTelemetry) -> None:
    there = telemetry.metrics(zeros=True)
    for instrument in instruments.REGISTRY.values():
        for zero in instrument.zeros:
            series = tuple(
                sorted((instrument.attributes[key].key, value) for key, value in zero.items())
            )
            assert there[instrument.name, series] == 0


def bomb(instrument: Instrument, number: int) -> None:
    """Call it with attribute values nobody has seen."""
    values = dict.fromkeys(instrument.attributes, f"bomb-{number}")
    if isinstance(instrument, Histogram):
        instrument.record(1.0, **values)
    elif isinstance(instrument, Gauge):
        instrument.set(1.0, **values)
    elif isinstance(instrument, (Counter, UpDownCounter)):
        instrument.add(1, **values)


@pytest.mark.parametrize("name", instruments.REGISTRY)
def test_no_instrument_exceeds_its_cardinality_budget(
    telemetry: InMemoryTelemetry, name: str
) -> None:
    instrument = instruments.REGISTRY[name]
    for number in range(instrument.series_limit + 500):
        bomb(instrument, number)
    series = [key for key in telemetry.metrics(zeros=True) if key[0] == name]
    # One more for the set in which everything beyond the limit ends up.
    assert len(series) <= instrument.series_limit + 1


def test_all_budgets_together_stay_within_what_the_sdk_and_prometheus_take_well() -> None:
    assert sum(item.series_limit for item in instruments.REGISTRY.values()) < 10_000
    assert max(item.series_limit for item in instruments.REGISTRY.values()) <= 2000


def test_what_is_remembered_per_instrument_is_bounded(telemetry: InMemoryTelemetry) -> None:
    for number in range(10_000):
        instruments.DASHBOARD_QUERY_DURATION.record(0.1, query=f"q{number}", outcome="success")
    telemetry.metrics()
    remembered: Any = instruments.DASHBOARD_QUERY_DURATION._series_of
    assert remembered.cache_info().currsize == 4096


def test_counts_are_exact_between_threads(telemetry: InMemoryTelemetry) -> None:
    def work() -> None:
        for number in range(2000):
            instruments.PROXY_ROTATIONS.add(1, reason=("http_403", "http_429")[number % 2])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert telemetry.metric("proxy.rotations", reason="http_403") == 8000
    assert telemetry.metric("proxy.rotations", reason="http_429") == 8000


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), -1.0])
def test_a_histogram_refuses_what_would_spoil_its_sum(
    telemetry: InMemoryTelemetry, value: float
) -> None:
    instruments.TRANSCRIPT_REQUEST_DURATION.record(value, outcome="success")
    instruments.TRANSCRIPT_REQUEST_DURATION.record(1.0, outcome="success")
    assert telemetry.metric("transcript.request.duration", outcome="success") == 1
    assert telemetry.histogram_sum("transcript.request.duration", outcome="success") == 1.0


def test_an_attribute_named_like_a_keyword_of_python_gets_an_underscore() -> None:
    assert Attribute("from", ("a",)).parameter == "from_"
    assert Attribute("error.type", ("a",)).parameter == "error_type"


def test_an_exemplar_is_of_the_span_in_which_it_was_measured(telemetry: InMemoryTelemetry) -> None:
    with span("measured"):
        instruments.OPERATION_DURATION.record(0.25, operation="x", outcome="success")
    key = ("operation.duration", (("operation", "x"), ("outcome", "success")))
    (exemplar,) = telemetry._points()[key].exemplars
    context = telemetry.span("measured").context
    assert context is not None
    assert (exemplar.value, exemplar.span_id, exemplar.trace_id) == (
        0.25,
        context.span_id,
        context.trace_id,
    )


def test_what_a_librarys_instrumentation_measures_waits_and_is_counted_all_the_same(
    telemetry: InMemoryTelemetry,
) -> None:
    given = instruments.deferred()
    assert given is not None
    meter = given.get_meter("library", "1.0")
    histogram, running = meter.create_histogram("took"), meter.create_up_down_counter("running")
    with span("measured"):
        running.add(1, {"a": "b"})
        histogram.record(0.5, {"a": "b"})
    histogram.record(1.5, {"a": "b"}, context=Context())
    running.add(-1, {"a": "b"})
    assert len(instruments._pending) == 4
    points = telemetry._points()
    key = (("a", "b"),)
    assert (points["took", key].count, points["took", key].sum) == (2, 2.0)
    assert points["running", key].value == 0
    (exemplar,) = points["took", key].exemplars
    context = telemetry.span("measured").context
    assert context is not None
    assert (exemplar.value, exemplar.trace_id) == (0.5, context.trace_id)


def test_without_a_collection_instrumentations_have_the_sdks_instruments() -> None:
    instruments.stop()
    assert instruments.deferred() is None


@pytest.mark.parametrize(("wanted", "count"), [("trace_based", 1), ("always_off", 0)])
def test_the_environment_turns_exemplars_off(
    monkeypatch: pytest.MonkeyPatch, wanted: str, count: int
) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", wanted)
    with InMemoryTelemetry() as telemetry:
        with span("measured"):
            instruments.JOB_DURATION.record(1.0, outcome="success")
        instruments.JOB_DURATION.record(1.0, outcome="success")  # outside a trace
        (point,) = [
            point for (name, _), point in telemetry._points().items() if name == "job.duration"
        ]
    assert len(point.exemplars) == count


def test_every_addition_and_measurement_of_many_threads_is_in_the_collection(
    telemetry: InMemoryTelemetry,
) -> None:
    def work() -> None:
        for _ in range(2000):
            instruments.ALERTS_RECEIVED.add(1, status="firing")
            instruments.BROWSER_CONTEXTS.add(-1, state="idle")
            instruments.OPERATION_DURATION.record(1, operation="y")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    telemetry.metrics()  # a collection in between takes none away
    for thread in threads:
        thread.join()
    assert telemetry.metric("alerts.received", status="firing") == 16_000
    assert telemetry.metric("browser.contexts", state="idle") == -16_000
    assert telemetry.metric("operation.duration", operation="y") == 16_000


def test_a_call_with_a_value_of_no_use_costs_nobody_else(telemetry: InMemoryTelemetry) -> None:
    unhashable: Any = ["list"]
    instruments.ALERTS_RECEIVED.add(1, status=unhashable)
    instruments.ALERTS_RECEIVED.add(1, status="firing")
    assert telemetry.metric("alerts.received", status="firing") == 1
    assert telemetry.metric("telemetry.unknown", kind="value") == 1


def test_what_is_measured_while_others_are_counted_holds_nothing_up(
    telemetry: InMemoryTelemetry,
) -> None:
    class Finalised(str):
        """Stands for an object whose end, in the middle of counting, is measured."""

        def __hash__(self) -> int:
            instruments.JOB_DURATION.record(1.0, outcome="success")
            instruments.JOB_QUEUE_SIZE.set(1)
            return super().__hash__()

    instruments.ALERTS_RECEIVED.add(1, status=Finalised("firing"))
    instruments.ALERTS_RECEIVED.add(1, status="firing")
    assert telemetry.metric("alerts.received", status="firing") == 2
    assert telemetry.metric("job.duration", outcome="success") > 0


@pytest.mark.parametrize("value", [Decimal("0.1"), 10**400, 1 << 64])
def test_a_measurement_that_is_no_float_leaves_its_series_whole(
    telemetry: InMemoryTelemetry, value: Any
) -> None:
    instruments.JOB_DURATION.record(value, outcome="success")
    instruments.JOB_DURATION.record(0.5, outcome="success")
    (point,) = [point for (name, _), point in telemetry._points().items() if name == "job.duration"]
    assert point.count == sum(point.positive.bucket_counts)
    assert isinstance(point.max, float)


def test_of_more_measurements_than_are_kept_the_oldest_are_lost_and_counted(
    telemetry: InMemoryTelemetry,
) -> None:
    extra = 10
    for _ in range(instruments._MOST_PENDING + extra):
        instruments.ALERTS_RECEIVED.add(1, status="firing")
    assert telemetry.metric("alerts.received", status="firing") == instruments._MOST_PENDING
    assert telemetry.metric("telemetry.unknown", kind="overflow") == extra


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), "many", 10**400])
def test_no_number_ends_a_series(telemetry: InMemoryTelemetry, value: Any) -> None:
    for instrument in (instruments.ALERTS_RECEIVED, instruments.BROWSER_CONTEXTS):
        instrument.add(1, state="idle", status="firing")
        instrument.add(value, state="idle", status="firing")
    instruments.JOB_QUEUE_SIZE.set(7)
    instruments.JOB_QUEUE_SIZE.set(value)
    assert telemetry.metric("alerts.received", status="firing") == 1
    assert telemetry.metric("browser.contexts", state="idle") == 1
    assert telemetry.metric("job.queue.size") == 7
    assert telemetry.metric("telemetry.unknown", kind="value") == 3


def test_a_counter_takes_nothing_away(telemetry: InMemoryTelemetry) -> None:
    instruments.ALERTS_RECEIVED.add(3, status="firing")
    instruments.ALERTS_RECEIVED.add(-1, status="firing")
    assert telemetry.metric("alerts.received", status="firing") == 3
