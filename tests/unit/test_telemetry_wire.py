"""What is written by hand is, bit by bit of meaning, what the SDK's encoders would write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, StatusCode, TraceFlags, TraceState

from transcript_service.telemetry import wire
from transcript_service.telemetry.light_tracer import LightSpan, LightTracer
from transcript_service.telemetry.otlp import LogDelivery, LogLine, encode_masked
from transcript_service.telemetry.redacting import redact_spans
from transcript_service.telemetry.redaction import redact_mapping, redact_text, register_secrets
from transcript_service.telemetry.testing import InMemoryTelemetry

SCALARS = (
    st.text(max_size=200)
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False)
)
ATTRIBUTES = st.dictionaries(st.text(min_size=1, max_size=40), SCALARS, max_size=12)
IDS = st.integers(1, (1 << 64) - 1)


def spans_of(request: ExportTraceServiceRequest) -> list[tuple[str, str, str]]:
    """Each span with its resource and scope, in an order that does not depend on grouping.

    Attributes have no order either.
    """
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                span.attributes.sort(key=lambda pair: pair.key)
    return sorted(
        (str(resource.resource) + resource.schema_url, str(scope.scope), str(span))
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    )


class Recorder:
    """A tracer, and the spans of it that have ended."""

    def __init__(self, *, limits: SpanLimits | None = None, **resource: str) -> None:
        limits = limits or SpanLimits()
        provider = TracerProvider(
            resource=Resource(dict(resource)),
            shutdown_on_exit=False,
            span_limits=limits,
            meter_provider=NoOpMeterProvider(),
        )
        self.spans: list[LightSpan] = []
        self.tracer = LightTracer(
            provider,
            InstrumentationScope("scope", "1.2", "https://example.org/schema"),
            limits=limits,
            on_end=self.spans.append,
        )


def sent(spans: Sequence[LightSpan | ReadableSpan]) -> list[tuple[str, str, str]]:
    return spans_of(ExportTraceServiceRequest.FromString(encode_masked(spans)))


def by_the_sdk(spans: Sequence[LightSpan]) -> list[tuple[str, str, str]]:
    return spans_of(encode_spans(redact_spans([span.readable() for span in spans])))


def around(parent: SpanContext) -> Context:
    return trace.set_span_in_context(trace.NonRecordingSpan(parent), Context())


def remote(trace_id: int, span_id: int, state: TraceState | None = None) -> SpanContext:
    return SpanContext(trace_id, span_id, True, TraceFlags(1), state)


@given(
    name=st.text(max_size=100),
    kind=st.sampled_from(SpanKind),
    attributes=st.lists(ATTRIBUTES, max_size=3),
    status=st.sampled_from(StatusCode),
    parent=st.none() | st.tuples(IDS, IDS),
)
@example("one", SpanKind.SERVER, [{"a": 1}, {"a": True}, {"b": 1.0}], StatusCode.OK, None)
@settings(max_examples=200, deadline=None)
def test_a_plain_span_is_encoded_as_the_sdk_encodes_it(
    name: str,
    kind: SpanKind,
    attributes: list[dict[str, Any]],
    status: StatusCode,
    parent: tuple[int, int] | None,
) -> None:
    assume(redact_text(name) == name)
    assume(all(redact_mapping(some) is some for some in attributes))
    recorder = Recorder(service="a")
    context = around(remote(*parent)) if parent else Context()
    span = recorder.tracer.start_span(name, context, kind=kind)
    for some in attributes:
        span.set_attributes(some)
    span.set_status(status)
    span.end()
    # By hand, not by falling back: the SDK's encoder is called for the frame alone.
    assert wire.span(recorder.spans[0])
    assert sent(recorder.spans) == by_the_sdk(recorder.spans)


def test_what_is_equal_but_of_another_type_is_not_taken_for_it() -> None:
    recorder = Recorder(service="a")
    for value in (1, True, 1.0, 0, False):
        recorder.tracer.start_span("same", Context(), attributes={"value": value}).end()
    assert sent(recorder.spans) == by_the_sdk(recorder.spans)


def test_what_is_not_plain_and_what_stands_beside_it_arrives_all_the_same() -> None:
    recorder = Recorder(service="a", limits=SpanLimits(max_span_attributes=3))
    tracer = recorder.tracer
    unusual: dict[str, dict[str, Any]] = {
        "plain": {"a": "b"},
        "list": {"items": ["a", 1, True]},
        "surrogate": {"bad": "\ud800", "good": "x"},
        "huge": {"number": 1 << 70},
        "many": dict.fromkeys("abcd", 1),
        "secret": {"url.full": "https://u:p@host/?token=abcdefghijkl", "api_key": 12345678},
        "Bearer abcdefghijklmnopqrstuvwxyz": {},
    }
    for name, attributes in unusual.items():
        tracer.start_span(name, Context(), attributes=attributes).end()
    eventful = tracer.start_span("event", Context())
    eventful.add_event("event", {"key": "value"})
    eventful.add_link(remote(1, 2), {"why": "because"})
    eventful.end()
    tracer.start_span("state", around(remote(7, 8, TraceState([("vendor", "x")])))).end()
    failed = tracer.start_span("failed", Context())
    failed.set_status(StatusCode.ERROR, "it failed")
    failed.end()
    assert len(recorder.spans) == 10
    assert sent(recorder.spans) == by_the_sdk(recorder.spans)


def test_spans_of_the_sdk_go_along(telemetry: InMemoryTelemetry) -> None:
    recorder = Recorder(service="a")
    recorder.tracer.start_span("ours", Context()).end()
    with telemetry.tracer_provider.get_tracer("library").start_as_current_span("theirs"):
        pass
    spans: list[LightSpan | ReadableSpan] = [*recorder.spans, *telemetry.spans("theirs")]
    assert sent(spans) == sorted(
        by_the_sdk(recorder.spans) + spans_of(encode_spans(telemetry.spans("theirs")))
    )


def test_a_span_that_nobody_can_encode_raises() -> None:
    recorder = Recorder()
    recorder.tracer.start_span("\ud800", Context()).end()
    with pytest.raises(ValueError, match="surrogates"):
        encode_masked(recorder.spans)


def test_what_was_harmless_before_its_secret_was_known_is_masked(
    telemetry: InMemoryTelemetry,
) -> None:
    recorder = Recorder()
    for name in ("a", "b"):
        recorder.tracer.start_span(name, Context(), attributes={"said": "open sesame"}).end()
    assert b"open sesame" in encode_masked(recorder.spans[:1])
    register_secrets("open sesame")
    assert b"open sesame" not in encode_masked(recorder.spans[1:])
    assert telemetry.metric("telemetry.redactions", signal="traces") == 1


RESOURCE = Resource({"service.name": "a"})
SCOPE = InstrumentationScope("scope", "1")
NO_SPAN = trace.INVALID_SPAN_CONTEXT


def logs_of(request: ExportLogsServiceRequest) -> list[tuple[str, str, str]]:
    return sorted(
        (str(resource.resource), str(scope.scope), str(record))
        for resource in request.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    )


FIELDS = st.dictionaries(
    st.text(min_size=1, max_size=30).filter(lambda key: key != "event"),
    SCALARS | st.none() | st.lists(SCALARS, max_size=3),
    max_size=10,
)


@given(
    lines=st.lists(
        st.builds(
            LogLine,
            time_ns=st.integers(0, (1 << 63) - 1),
            level=st.sampled_from([10, 20, 30, 40, 50]),
            event=st.text(max_size=60),
            fields=FIELDS,
            span=st.builds(
                lambda t, s, f: SpanContext(t, s, False, TraceFlags(f)),
                st.integers(0, (1 << 128) - 1),
                st.integers(0, (1 << 64) - 1),
                st.sampled_from([0, 1]),
            ),
        ),
        min_size=1,
        max_size=4,
    )
)
@example(lines=[LogLine(0, 10, "edge", {"least": -(1 << 63), "less": -(1 << 63) - 1}, NO_SPAN)])
@settings(max_examples=150, deadline=None)
def test_log_lines_are_encoded_as_the_sdk_encodes_them(lines: list[LogLine]) -> None:
    delivery = LogDelivery(RESOURCE, SCOPE)
    got = ExportLogsServiceRequest.FromString(delivery.encode(lines))
    assert logs_of(got) == logs_of(encode_logs([delivery._record(line) for line in lines]))


def test_an_event_among_the_fields_is_written_once() -> None:
    line = LogLine(1, 20, "name", {"event": "other", "text": "\ud800"}, trace.INVALID_SPAN_CONTEXT)
    got = ExportLogsServiceRequest.FromString(LogDelivery(RESOURCE, SCOPE).encode([line]))
    (record,) = got.resource_logs[0].scope_logs[0].log_records
    assert [(a.key, a.value.string_value) for a in record.attributes] == [
        ("event", "other"),
        ("text", "?"),
    ]


def test_the_memory_of_attributes_is_bounded() -> None:
    for number in range(3 * wire._MOST_PAIRS):
        assert wire.attribute(b"\x4a", "k", str(number)).endswith(str(number).encode())
    assert 0 < len(wire._pairs[str]) <= wire._MOST_PAIRS
