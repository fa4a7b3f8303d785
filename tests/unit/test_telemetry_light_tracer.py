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
from transcript_service.telemetry.redacting import redact_spans

NARROW = SpanLimits(
    max_span_attributes=3,
    max_events=2,
    max_links=1,
    max_event_attributes=1,
    max_link_attributes=2,
)
NONE = SpanLimits(max_span_attributes=0, max_events=0, max_links=0)
# Long values in a span's own attributes are the SDK's business, those of its events are not.
SHORT = SpanLimits(max_attribute_length=3, max_span_attribute_length=SpanLimits.UNSET)
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
            on_end=lambda span: processor.on_end(span.readable()),
        )

    def ended(self) -> list[ReadableSpan]:
        spans = list(self._memory.get_finished_spans())
        self._memory.clear()
        return spans


def meaning(spans: list[ReadableSpan]) -> str:
    """What the SDK would send, without what no two spans share."""
    request = encode_spans(redact_spans(spans))
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
    limits=st.sampled_from([WIDE, NARROW, NONE, SHORT]),
    name=st.text(max_size=8),
    kind=st.sampled_from(SpanKind),
    attributes=ATTRIBUTES | st.none(),
    steps=st.lists(STEPS, max_size=8),
)
@example(WIDE, "after", SpanKind.SERVER, {"a": 1}, [("end", 9), ("set_attribute", "a", 2)])
@example(NARROW, "many", SpanKind.SERVER, None, [("set_attributes", dict.fromkeys("abcde", 1))])
@example(NONE, "none", SpanKind.SERVER, None, [("add_event", "e", None, 5)] * 3)
@example(NONE, "none", SpanKind.SERVER, None, [("add_link", CONTEXT, None)] * 3)
@example(NARROW, "links", SpanKind.SERVER, None, [("add_link", CONTEXT, None)] * 3)
@example(SHORT, "long", SpanKind.SERVER, None, [("add_event", "e", {"a": "long text"}, 5)])
@example(
    NARROW,
    "again",
    SpanKind.SERVER,
    {"a": 1, "b": 1},
    [("set_attribute", "a", 2), ("set_attributes", {"c": 1, "d": 1})],
)
@example(
    WIDE,
    "final",
    SpanKind.SERVER,
    None,
    [("set_status", StatusCode.OK), ("set_status", StatusCode.ERROR, "no")],
)
@settings(max_examples=300, deadline=None)
def test_the_same_calls_make_the_same_span(
    limits: SpanLimits,
    name: str,
    kind: SpanKind,
    attributes: dict[str, Any] | None,
    steps: list[tuple[Any, ...]],
) -> None:
    both = Both(limits)
    made = []
    assert isinstance(both.ours.start_span(name, None, kind, attributes), LightSpan)
    for tracer in (both.sdk, both.ours):
        span = tracer.start_span(name, None, kind, attributes)
        for step, *arguments in steps:
            getattr(span, step)(*arguments)
        recording = span.is_recording()
        span.end(9)
        span.end(10)
        made.append((recording, meaning(both.ended())))
    assert made[0] == made[1]


class Labelling(sampling.Sampler):
    """Adds an attribute and a trace state of its own."""

    def should_sample(self, *_: Any, **__: Any) -> sampling.SamplingResult:
        return sampling.SamplingResult(
            sampling.Decision.RECORD_AND_SAMPLE, {"by": "sampler"}, TraceState([("s", "1")])
        )

    def get_description(self) -> str:
        return "Labelling"


SAMPLERS = [
    Labelling(),
    sampling.TraceIdRatioBased(0.5),
    sampling.ALWAYS_ON,
    sampling.ALWAYS_OFF,
    sampling.DEFAULT_ON,
    sampling.DEFAULT_OFF,
    sampling.ParentBasedTraceIdRatio(0.5),
    sampling.AlwaysRecordSampler(sampling.ALWAYS_OFF),
]
PARENTS = [
    None,
    CONTEXT,
    *(
        SpanContext(trace_id, 2, remote, TraceFlags(flags))
        for trace_id in (1, (1 << 127) + (1 << 63), (1 << 127) + (1 << 64) - 1)
        for remote in (True, False)
        for flags in (0, 1, 3)
    ),
]


@pytest.mark.parametrize(
    ("sampler", "parent"),
    [
        (sampler, parent)
        for sampler in SAMPLERS
        for parent in PARENTS
        # the ids of new traces differ, and which half they are in is chance
        if parent is not None or "TraceIdRatioBased" not in sampler.get_description()
    ],
    ids=lambda given: given.get_description()[:40] if hasattr(given, "get_description") else None,
)
def test_parent_and_sampler_decide_as_with_the_sdk(
    sampler: sampling.Sampler, parent: SpanContext | None
) -> None:
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
                [(s.parent, s.context.trace_flags, dict(s.attributes or {})) for s in ended],
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


def test_links_at_the_start_are_the_sdks() -> None:
    both = Both()
    both.ours.start_span("x", links=[Link(CONTEXT, {"why": "because"})]).end()
    assert [link.context for link in both.ended()[0].links] == [CONTEXT]


@pytest.mark.parametrize(
    "use",
    [
        lambda span: span.set_attribute("a", 1),
        lambda span: span.add_event("e"),
        lambda span: span.add_link(CONTEXT),
        lambda span: span.update_name("y"),
        lambda span: span.set_status(StatusCode.OK),
        lambda span: span.end(),
    ],
)
def test_whoever_changes_a_span_waits_for_whoever_changes_it(use: Callable[[Span], None]) -> None:
    both = Both()
    span = both.ours.start_span("x")
    assert isinstance(span, LightSpan)
    other = threading.Thread(target=use, args=(span,))
    with span._lock:
        other.start()
        other.join(0.05)
        assert other.is_alive()
    other.join(5)
    assert not other.is_alive()


def test_a_span_that_has_ended_says_so_where_the_sdk_would(
    caplog: pytest.LogCaptureFixture,
) -> None:
    both = Both()
    late = both.ours.start_span("x")
    late.end()
    late.add_event("late")
    late.end()
    assert len(both.ended()) == 1
    # `SdkHandler` tells a text of the SDK's loggers once a minute.
    assert [(record.name, "ended" in record.msg) for record in caplog.records] == [
        ("opentelemetry.sdk.trace", True)
    ] * 2
    assert len({record.msg for record in caplog.records}) == 1
