"""What is written by hand is, bit by bit of meaning, what the SDK's encoders would write."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState

from transcript_service.telemetry import wire
from transcript_service.telemetry.otlp import LogDelivery, LogLine

SCALARS = (
    st.text(max_size=200)
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False)
)
ATTRIBUTES = st.dictionaries(st.text(min_size=1, max_size=40), SCALARS, max_size=12)
IDS = st.integers(1, (1 << 64) - 1)


def spans_of(request: ExportTraceServiceRequest) -> list[tuple[str, str, str]]:
    """Each span with its resource and scope, in an order that does not depend on grouping."""
    return sorted(
        (str(resource.resource) + resource.schema_url, str(scope.scope), str(span))
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    )


def by_hand(spans: list[ReadableSpan]) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    request.ParseFromString(wire.trace_request(spans))
    return request


class Recorder:
    """Finished spans of a provider."""

    def __init__(self, **resource: str) -> None:
        self._memory = InMemorySpanExporter()
        self.provider = TracerProvider(
            resource=Resource(dict(resource)),
            shutdown_on_exit=False,
            meter_provider=NoOpMeterProvider(),
        )
        self.provider.add_span_processor(SimpleSpanProcessor(self._memory))

    def tracer(self, name: str = "scope") -> trace.Tracer:
        return self.provider.get_tracer(name, "1.2", schema_url="https://example.org/schema")

    def spans(self) -> list[ReadableSpan]:
        return list(self._memory.get_finished_spans())


def remote(trace_id: int, span_id: int, state: TraceState | None = None) -> SpanContext:
    return SpanContext(trace_id, span_id, True, TraceFlags(1), state)


@given(
    name=st.text(max_size=100),
    kind=st.sampled_from(SpanKind),
    attributes=ATTRIBUTES,
    status=st.sampled_from(StatusCode),
    description=st.none() | st.text(max_size=30),
    parent=st.none() | st.tuples(IDS, IDS),
    start=st.integers(0, (1 << 63) - 1),
)
@settings(max_examples=200, deadline=None)
def test_a_plain_span_is_encoded_as_the_sdk_encodes_it(
    name: str,
    kind: SpanKind,
    attributes: dict[str, Any],
    status: StatusCode,
    description: str | None,
    parent: tuple[int, int] | None,
    start: int,
) -> None:
    recorder = Recorder(service="a")
    context = trace.set_span_in_context(trace.NonRecordingSpan(remote(*parent))) if parent else None
    span = recorder.tracer().start_span(
        name, context, kind=kind, attributes=attributes, start_time=start
    )
    span.set_status(status, description if status is StatusCode.ERROR else None)
    span.end(start + 5)
    spans = recorder.spans()
    # By hand, not by falling back: the SDK's encoder is called for the frame alone.
    assert wire._span(spans[0])
    assert spans_of(by_hand(spans)) == spans_of(encode_spans(spans))


def test_what_is_not_plain_and_what_stands_beside_it_arrives_all_the_same() -> None:
    first, second = Recorder(service="a", n="1"), Recorder(service="b")
    for recorder in (first, second):
        for scope in ("one", "two"):
            tracer = recorder.tracer(scope)
            with tracer.start_as_current_span("parent", attributes={"a": "b"}):
                with tracer.start_as_current_span("child") as child:
                    child.add_event("event", {"key": "value"})
                with tracer.start_as_current_span("list", attributes={"items": ("a", 1, True)}):
                    pass
                linked = Link(remote(1, 2), {"why": "because"})
                with tracer.start_as_current_span("linked", links=[linked]):
                    pass
            state = trace.set_span_in_context(
                trace.NonRecordingSpan(remote(7, 8, TraceState([("vendor", "x")])))
            )
            tracer.start_span("state", state).end()
            tracer.start_span("surrogate", attributes={"bad": "\ud800", "good": "x"}).end()
            with pytest.raises(RuntimeError), tracer.start_as_current_span("failed"):
                raise RuntimeError("it failed")
    spans = first.spans() + second.spans()
    assert len(spans) == 2 * 2 * 7
    assert spans_of(by_hand(spans)) == spans_of(encode_spans(spans))


def test_a_span_that_nobody_can_encode_raises() -> None:
    recorder = Recorder()
    recorder.tracer().start_span("\ud800").end()
    with pytest.raises(ValueError, match="surrogates"):
        wire.trace_request(recorder.spans())


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
    assert len(wire._pairs) <= wire._MOST_PAIRS
