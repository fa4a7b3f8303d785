"""Our tracer makes the spans that the SDK's makes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider, sampling
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from transcript_service.telemetry.light_tracer import LightSpan, LightTracer

NARROW = SpanLimits(
    max_span_attributes=3,
    max_events=2,
    max_links=2,
    max_event_attributes=1,
    max_link_attributes=1,
)
SHORT = SpanLimits(max_attribute_length=3)
WIDE = SpanLimits()

VALUES = (
    st.text(max_size=8)
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False)
    | st.binary(max_size=4)
    | st.lists(st.integers(0, 9), max_size=3)
    | st.dictionaries(st.sampled_from("xy"), st.integers(0, 9), max_size=2)
)
ATTRIBUTES = st.dictionaries(st.sampled_from(["", *"abcdef"]), VALUES, max_size=5)
CONTEXT = SpanContext(7, 8, True, TraceFlags(1), TraceState([("vendor", "x")]))
STEPS = st.one_of(
    st.tuples(st.just("set_attributes"), ATTRIBUTES),
    st.tuples(st.just("set_attribute"), st.sampled_from("abcdef"), VALUES),
    st.tuples(st.just("add_event"), st.text(max_size=4), ATTRIBUTES | st.none(), st.just(5)),
    st.tuples(
        st.just("add_link"),
        st.sampled_from([CONTEXT, trace.INVALID_SPAN_CONTEXT]),
        ATTRIBUTES | st.none(),
    ),
    st.tuples(st.just("update_name"), st.text(max_size=4)),
    st.tuples(st.just("set_status"), st.sampled_from(StatusCode)),
    st.tuples(st.just("set_status"), st.just(StatusCode.ERROR), st.text(max_size=4)),
    st.tuples(st.just("set_status"), st.builds(Status, st.sampled_from(StatusCode))),
    st.tuples(
        st.just("record_exception"), st.just(ValueError("no")), ATTRIBUTES | st.none(), st.just(5)
    ),
    st.tuples(st.just("end"), st.just(9)),
)


class Both:
    """The SDK's tracer and ours with the same provider, and the spans that have ended."""

    def __init__(
        self, limits: SpanLimits = WIDE, sampler: sampling.Sampler = sampling.DEFAULT_ON
    ) -> None:
        self._memory = InMemorySpanExporter()
        processor = SimpleSpanProcessor(self._memory)
        provider = TracerProvider(
            sampler,
            Resource({"service.name": "a"}),
            shutdown_on_exit=False,
            span_limits=limits,
            meter_provider=NoOpMeterProvider(),
        )
        provider.add_span_processor(processor)
        self.sdk = provider.get_tracer("scope", "1.2")
        self.ours = LightTracer(
            provider,
            InstrumentationScope("scope", "1.2"),
            limits=limits,
            on_end=processor.on_end,
        )

    def ended(self) -> list[ReadableSpan]:
        spans = list(self._memory.get_finished_spans())
        self._memory.clear()
        return spans


def meaning(spans: list[ReadableSpan]) -> str:
    """What would be sent, without what no two spans share."""
    request = encode_spans(spans)
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                span.ClearField("trace_id")
                span.ClearField("span_id")
                assert span.start_time_unix_nano > 0
                span.ClearField("start_time_unix_nano")
                span.attributes.sort(key=lambda pair: pair.key)
    return str(request)


@given(
    limits=st.sampled_from([WIDE, NARROW, SHORT]),
    name=st.text(max_size=8),
    kind=st.sampled_from(SpanKind),
    attributes=ATTRIBUTES | st.none(),
    links=st.lists(st.builds(Link, st.just(CONTEXT), ATTRIBUTES), max_size=2),
    steps=st.lists(STEPS, max_size=8),
)
@example(WIDE, "after", SpanKind.SERVER, {"a": 1}, [], [("end", 9), ("set_attribute", "a", 2)])
@example(NARROW, "many", SpanKind.SERVER, None, [], [("set_attributes", dict.fromkeys("abcde", 1))])
@example(
    NARROW,
    "again",
    SpanKind.SERVER,
    {"a": 1, "b": 1},
    [],
    [("set_attribute", "a", 2), ("set_attributes", {"c": 1, "d": 1})],
)
@example(
    WIDE,
    "final",
    SpanKind.SERVER,
    None,
    [],
    [("set_status", StatusCode.OK), ("set_status", StatusCode.ERROR, "no")],
)
@settings(max_examples=300, deadline=None)
def test_the_same_calls_make_the_same_span(
    limits: SpanLimits,
    name: str,
    kind: SpanKind,
    attributes: dict[str, Any] | None,
    links: list[Link],
    steps: list[tuple[Any, ...]],
) -> None:
    both = Both(limits)
    made = []
    for tracer in (both.sdk, both.ours):
        given_links = [Link(link.context, dict(link.attributes or {})) for link in links]
        span = tracer.start_span(name, None, kind, attributes, given_links)
        for step, *arguments in steps:
            getattr(span, step)(*arguments)
        recording = span.is_recording()
        span.end(9)
        span.end(10)
        made.append((recording, meaning(both.ended())))
    assert made[0] == made[1]


SAMPLERS = [
    sampling.ALWAYS_ON,
    sampling.ALWAYS_OFF,
    sampling.DEFAULT_ON,
    sampling.DEFAULT_OFF,
    sampling.ParentBasedTraceIdRatio(0.5),
    sampling.AlwaysRecordSampler(sampling.ALWAYS_OFF),
]
PARENTS = [
    None,
    *(
        SpanContext(trace_id, 2, remote, TraceFlags(flags))
        for trace_id in (1, (1 << 127) + (1 << 63), (1 << 127) + (1 << 64) - 1)
        for remote in (True, False)
        for flags in (0, 1, 3)
    ),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.get_description()[:40])
@pytest.mark.parametrize("parent", PARENTS, ids=str)
def test_parent_and_sampler_decide_as_with_the_sdk(
    sampler: sampling.Sampler, parent: SpanContext | None
) -> None:
    if parent is None and isinstance(sampler, sampling.ParentBasedTraceIdRatio):
        sampler = sampling.ParentBasedTraceIdRatio(1.0)  # half of the new ids is chance
    both = Both(sampler=sampler)
    around = Context()
    if parent is not None:
        around = trace.set_span_in_context(trace.NonRecordingSpan(parent), around)
    made = []
    for tracer in (both.sdk, both.ours):
        span = tracer.start_span("x", around)
        context = span.get_span_context()
        span.end()
        ended = both.ended()
        made.append(
            (
                span.is_recording(),
                context.trace_flags,
                context.is_remote,
                context.trace_state,
                [(s.parent, s.context.trace_flags) for s in ended if s.context],
            )
        )
        assert context.is_valid
        assert parent is None or context.trace_id == parent.trace_id
    assert made[0] == made[1]


def test_a_plain_span_is_ours_and_a_start_in_the_past_is_the_sdks() -> None:
    both = Both()
    assert isinstance(both.ours.start_span("x", attributes={"a": 1}), LightSpan)
    past = both.ours.start_span("x", start_time=5)
    past.end(6)
    assert [span.start_time for span in both.ended()] == [5]
    with both.ours.start_as_current_span("y") as current:
        assert trace.get_current_span() is current
    assert [span.name for span in both.ended()] == ["y"]


def test_a_list_is_kept_as_it_was_when_it_was_given() -> None:
    both = Both()
    values = [1, 2]
    span = both.ours.start_span("x")
    span.set_attribute("values", values)
    values.append(3)
    span.end()
    assert dict(both.ended()[0].attributes or {}) == {"values": (1, 2)}


def test_threads_that_use_a_span_together_lose_nothing_and_end_it_once() -> None:
    both = Both(SpanLimits(max_span_attributes=10_000, max_events=10_000))
    span = both.ours.start_span("x")

    def together(work: Callable[[Span, int], None]) -> None:
        running = [threading.Thread(target=work, args=(span, number)) for number in range(8)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()

    def fill(shared: Span, number: int) -> None:
        for turn in range(100):
            shared.set_attribute(f"{number}-{turn}", turn)
            shared.add_event(f"{number}-{turn}")

    together(fill)
    together(lambda shared, _: shared.end())
    (ended,) = both.ended()
    assert len(ended.attributes or ()) == len(ended.events) == 800
