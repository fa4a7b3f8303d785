"""Of a caller's headers only `traceparent` is believed, and nobody is told ours."""

from __future__ import annotations

from opentelemetry import baggage, trace
from opentelemetry.context import Context

from transcript_service.telemetry.propagation import IncomingTraceparent

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADERS = {
    "traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01",
    "tracestate": "vendor=secret",
    "baggage": "session=secret",
}


def test_a_callers_trace_is_continued_without_its_state_and_baggage() -> None:
    context = IncomingTraceparent().extract(HEADERS, Context())
    parent = trace.get_current_span(context).get_span_context()
    assert trace.format_trace_id(parent.trace_id) == TRACE_ID
    assert not parent.trace_state
    assert not baggage.get_all(context)


def test_nonsense_starts_a_trace_of_its_own() -> None:
    for nonsense in ("", "x", f"00-{'0' * 32}-00f067aa0ba902b7-01", f"00-{TRACE_ID}-short-01"):
        context = IncomingTraceparent().extract({"traceparent": nonsense}, Context())
        assert not trace.get_current_span(context).get_span_context().is_valid


def test_nothing_is_written_to_outgoing_requests() -> None:
    context = IncomingTraceparent().extract(HEADERS, Context())
    carrier: dict[str, str] = {}
    IncomingTraceparent().inject(carrier, context)
    assert carrier == {}
    assert IncomingTraceparent().fields == set()
