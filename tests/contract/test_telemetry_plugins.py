"""A user's own parts, added the way OpenTelemetry documents, see what the service measures."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.gunicorn_process import CHECKOUT, gunicorn, patience
from tests.otlp_sink import OtlpSink, SinkSpan
from tests.unit.test_telemetry_providers import run

# What a user would install: a module and the entry points that its wheel declares.
_MODULE = """
import os
from opentelemetry import trace
from opentelemetry.propagators.textmap import TextMapPropagator, default_getter, default_setter
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

def note(kind, *words):
    with open(os.path.join(os.environ["SHOP_NOTES"], kind), "a") as notes:
        notes.write(" ".join(words) + "\\n")

class Processor(SpanProcessor):
    def __init__(self, kind): self.kind = kind
    def on_end(self, span):
        note(self.kind, f"{span.context.trace_id:032x}", span.name)

class LogProcessor(LogRecordProcessor):
    def on_emit(self, record): note("logs", record.log_record.event_name)
    def shutdown(self): pass
    def force_flush(self, timeout_millis=30000): return True

class Tracers(TracerProvider):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.add_span_processor(Processor("provider"))

class Loggers(LoggerProvider):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.add_log_record_processor(LogProcessor())

class Reader(InMemoryMetricReader):
    def shutdown(self, *arguments, **options):
        for scope in self.get_metrics_data().resource_metrics[0].scope_metrics:
            for metric in scope.metrics:
                note("metrics", metric.name)
        super().shutdown(*arguments, **options)

def meters(metric_readers=(), views=(), **options):
    mine = [
        View(instrument_name="transcript.requests", attribute_keys={"outcome"}),
        View(
            instrument_name="transcript.request.duration",
            aggregation=ExplicitBucketHistogramAggregation([0.1, 1]),
        ),
    ]
    return MeterProvider([*metric_readers, Reader()], views=[*views, *mine], **options)

class ShopSampler(Sampler):
    def __init__(self, argument): self.argument = argument
    def should_sample(self, context, trace_id, name, kind=None, attributes=None, links=None,
                      trace_state=None):
        note("sampler", f"{trace_id:032x}", name)
        given = {**(attributes or {}), "sampled.by": self.argument}
        return ALWAYS_ON.should_sample(context, trace_id, name, kind, given, links, trace_state)
    def get_description(self): return "shop"

class Propagator(TextMapPropagator):
    fields = {"x-shop-trace"}
    def extract(self, carrier, context=None, getter=default_getter):
        (found,) = getter.get(carrier, "x-shop-trace") or [""]
        if not found:
            return context
        there = trace.SpanContext(int(found, 16), 1, True, trace.TraceFlags(1))
        return trace.set_span_in_context(trace.NonRecordingSpan(there), context)
    def inject(self, carrier, context=None, setter=default_setter):
        setter.set(carrier, "x-shop-trace", "here")

def create_app():
    from tests.telemetry_app import create_app
    trace.get_tracer_provider().add_span_processor(Processor("added"))
    return create_app()
"""
_ENTRY_POINTS = """
[opentelemetry_tracer_provider]
shop = shop_telemetry:Tracers
[opentelemetry_meter_provider]
shop = shop_telemetry:meters
[opentelemetry_logger_provider]
shop = shop_telemetry:Loggers
broken = shop_telemetry:LogProcessor
[opentelemetry_traces_sampler]
Shop = shop_telemetry:ShopSampler
broken = shop_telemetry:Nothing
[opentelemetry_traces_exporter]
absent = shop_telemetry:Nothing
broken = shop_telemetry:ShopSampler
[opentelemetry_metrics_exporter]
broken = shop_telemetry:ShopSampler
[opentelemetry_propagator]
broken = shop_telemetry:ShopSampler
shop = shop_telemetry:Propagator
"""
_TRACE = "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    (folder / "shop_telemetry.py").write_text(_MODULE)
    about = folder / "shop_telemetry-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: shop-telemetry\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(_ENTRY_POINTS)
    return folder


@dataclass
class Seen:
    """What arrived at the Collector, and what each of the user's parts wrote down."""

    sink: OtlpSink
    notes: Path

    def by(self, part: str) -> list[str]:
        return sorted((self.notes / part).read_text().splitlines())


@pytest.fixture(scope="module")
def seen(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """A worker with all of them, after ten requests and its end."""
    place, notes = tmp_path_factory.mktemp("place"), tmp_path_factory.mktemp("notes")
    with OtlpSink() as sink:
        environ = {
            "PYTHONPATH": f"{CHECKOUT}:{installed}",
            "SHOP_NOTES": str(notes),
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "OTEL_PYTHON_TRACER_PROVIDER": "shop",
            "OTEL_PYTHON_METER_PROVIDER": "shop",
            "OTEL_PYTHON_LOGGER_PROVIDER": "shop",
            "OTEL_TRACES_SAMPLER": "Shop",
            "OTEL_TRACES_SAMPLER_ARG": "argument",
            "OTEL_PROPAGATORS": "shop",
        }
        with gunicorn(place, environ, app="shop_telemetry:create_app()", workers=1) as running:
            wait_s = patience(60)
            connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=wait_s)
            for number in range(10):
                connection.request("GET", f"/work/{number}", headers={"x-shop-trace": _TRACE})
                assert connection.getresponse().read().decode() == _TRACE
            connection.close()
            running.stop()
        yield Seen(sink, notes)


def _spans(spans: list[SinkSpan]) -> list[str]:
    return sorted(f"{span.trace_id} {span.name}" for span in spans)


@pytest.mark.parametrize("part", ["provider", "added", "sampler"])
def test_it_sees_every_span(seen: Seen, part: str) -> None:
    assert len(seen.sink.spans) == 30
    assert seen.by(part) == _spans(seen.sink.spans)


def test_a_sampler_is_made_with_its_argument(seen: Seen) -> None:
    assert {span.attributes["sampled.by"] for span in seen.sink.spans} == {"argument"}


def test_a_propagator_joins_the_callers_trace(seen: Seen) -> None:
    assert {span.trace_id for span in seen.sink.spans} == {_TRACE}


def test_a_reader_sees_every_metric(seen: Seen) -> None:
    # Its own collection is the last and finds what the first one measured about itself.
    assert "transcript.requests" in seen.sink.kinds
    assert set(seen.by("metrics")) >= set(seen.sink.kinds)


def test_a_view_shapes_the_services_own_metrics(seen: Seen) -> None:
    assert seen.sink.counter("transcript.requests", outcome="success") == 10
    keys = {
        key
        for _, name, series in seen.sink.points
        if name == "transcript.requests"
        for key, _ in series
    }
    assert keys == {"outcome"}
    assert seen.sink.kinds["transcript.request.duration"] == "histogram"
    assert seen.sink.kinds["http.server.request.duration"] == "exponential_histogram"


def test_a_log_record_processor_sees_every_line(seen: Seen) -> None:
    # What the SDK's own shutdown says comes after the last batch.
    sent = [line.event_name for line in seen.sink.logs]
    assert set(sent) >= {"service.started", "transcript.request.finished"}
    assert seen.by("logs") == sorted(sent)


@pytest.mark.parametrize(
    ("variable", "word"),
    [
        ("OTEL_PYTHON_LOGGER_PROVIDER", "broken"),
        ("OTEL_PYTHON_TRACER_PROVIDER", "nobody"),
        ("OTEL_TRACES_SAMPLER", "broken"),
        ("OTEL_TRACES_EXPORTER", "otlp,absent"),
        ("OTEL_TRACES_EXPORTER", "broken,otlp"),
        ("OTEL_METRICS_EXPORTER", "broken"),
        ("OTEL_PROPAGATORS", "broken"),
    ],
)
def test_what_cannot_be_made_is_named_and_done_without(
    installed: Path, variable: str, word: str
) -> None:
    with OtlpSink() as sink:
        _, lines = run(
            "with telemetry.span('work'): log.info('service.started')\nassert running.shutdown()",
            sink.url,
            PYTHONPATH=f"{CHECKOUT}:{installed}",
            **{variable: word},
        )
        assert [span.name for span in sink.spans] == ["work"]
    named = [line["variable"] for line in lines if line["event"] == "telemetry.environment.invalid"]
    assert named == [variable]
