"""Nothing that the SDK exports leaves unmasked, and what cannot be masked is replaced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags, TraceState

from tests import canaries
from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.telemetry import redacting
from transcript_service.telemetry.redaction import FAILED, MASK


def shown(spans: Sequence[ReadableSpan]) -> str:
    return "".join(f"{span.to_json()}{span.context}{span.links}" for span in spans)


def leaky_span(telemetry: InMemoryTelemetry, canary: str) -> ReadableSpan:
    """A span with a secret in each of its parts."""
    state = TraceState([("vendor", canary)])
    linked = SpanContext(1, 2, True, TraceFlags(1), state)
    parent = trace.set_span_in_context(
        trace.NonRecordingSpan(SpanContext(3, 4, True, TraceFlags(1), state))
    )
    tracer = trace.get_tracer("test")
    span = tracer.start_span(
        f"GET /x?token={canary}",
        parent,
        attributes={
            "url.full": f"https://u:{canary}@h/?v=1&pot={canary}",
            "http.request.header.cookie": (canary,),
            "args": ("--token", f"token={canary}"),
        },
        links=[Link(linked, {"password": canary})],
    )
    span.add_event(f"password={canary}", {"headers": (canary,)})
    error = RuntimeError(f"Bearer {canary}")
    error.__cause__ = OSError(f"https://u:{canary}@h/")
    error.__cause__.__context__ = KeyError(f"secret={canary}")
    span.record_exception(error)
    span.set_status(Status(StatusCode.ERROR, f"cookie: a={canary}"))
    span.end()
    return telemetry.spans()[0]


def test_every_part_of_a_span_is_masked(telemetry: InMemoryTelemetry) -> None:
    span = leaky_span(telemetry, canaries.build(1))
    assert shown([span]).count(canaries.PREFIX) > 10
    (clean,) = redacting.redact_spans([span])
    assert canaries.PREFIX not in shown([clean])
    assert clean.context is not None
    assert span.context is not None
    assert clean.context.trace_id == span.context.trace_id
    assert (clean.start_time, clean.end_time, clean.kind) == (
        span.start_time,
        span.end_time,
        span.kind,
    )
    assert clean.resource is span.resource
    assert telemetry.metric("telemetry.redactions", signal="traces") >= 10


def test_a_clean_span_is_not_copied(telemetry: InMemoryTelemetry) -> None:
    with trace.get_tracer("test").start_as_current_span(
        "transcript.stage", attributes={"stage": "asr"}
    ) as span:
        span.add_event("try", {"n": 1})
    (span_,) = telemetry.spans()
    assert redacting.redact_spans([span_])[0] is span_


def test_a_span_that_cannot_be_masked_is_replaced_and_counted(
    telemetry: InMemoryTelemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    span = leaky_span(telemetry, canaries.build(2))

    def fails(_: object) -> str:
        raise RuntimeError("masking is broken")

    monkeypatch.setattr(redacting, "redact_value", fails)
    (clean,) = redacting.redact_spans([span])
    assert clean.name == FAILED
    assert not clean.attributes
    assert not clean.events
    assert canaries.PREFIX not in shown([clean])
    assert telemetry.metric("telemetry.redaction.failures", signal="traces") == 1


def points(data: MetricsData) -> list[Any]:
    return [
        point
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    ]


def measured(canary: str) -> MetricsData:
    """A histogram whose view drops an attribute, which then sits in the exemplar."""
    reader = InMemoryMetricReader()
    provider = MeterProvider(
        [reader],
        views=[View(instrument_name="*", attribute_keys={"route"})],
        exemplar_filter=AlwaysOnExemplarFilter(),
        shutdown_on_exit=False,
    )
    provider.get_meter("test").create_histogram("h").record(
        1.0, {"route": f"/x?token={canary}", "url": f"https://u:{canary}@h/"}
    )
    data = reader.get_metrics_data()
    assert data is not None
    return data


def test_points_and_exemplars_are_masked(telemetry: InMemoryTelemetry) -> None:
    data = measured(canaries.build(3))
    (point,) = points(data)
    assert canaries.PREFIX in repr(point.exemplars)
    (clean,) = points(redacting.redact_metrics(data))
    assert canaries.PREFIX not in repr(clean)
    assert clean.attributes == {"route": f"/x?token={MASK}"}
    assert clean.count == point.count
    assert telemetry.metric("telemetry.redactions", signal="metrics") == 2


def test_a_metric_that_cannot_be_masked_is_left_out_and_counted(
    telemetry: InMemoryTelemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = measured(canaries.build(4))

    def fails(_: object) -> dict[str, str]:
        raise RuntimeError("masking is broken")

    monkeypatch.setattr(redacting, "redact_value", fails)
    assert points(redacting.redact_metrics(data)) == []
    assert telemetry.metric("telemetry.redaction.failures", signal="metrics") == 1


def test_baggage_never_becomes_part_of_a_span(telemetry: InMemoryTelemetry) -> None:
    from opentelemetry import baggage

    token = otel_context.attach(baggage.set_baggage("session", canaries.build(5)))
    try:
        with trace.get_tracer("test").start_as_current_span("x"):
            pass
    finally:
        otel_context.detach(token)
    assert canaries.PREFIX not in shown(telemetry.spans())
