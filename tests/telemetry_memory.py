"""Telemetry kept in memory, for tests.

def test_it(telemetry):
    do_something()
    assert telemetry.span("transcript.stage").attributes["outcome"] == "success"
    assert telemetry.metrics()["transcript.requests", (("outcome", "success"),)] == 1
    assert telemetry.events("transcript.stage.finished")[0]["video_id"] == "dQw4w9WgXcQ"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import orjson
from opentelemetry import context as otel_context
from opentelemetry import metrics, propagate, trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, MetricReader, MetricsData
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from transcript_service.settings import Settings
from transcript_service.telemetry import instruments
from transcript_service.telemetry.context import TRACER_NAME
from transcript_service.telemetry.environment import apply_defaults
from transcript_service.telemetry.http_server import VIEWS, SampleAway
from transcript_service.telemetry.logs import arrange, stderr
from transcript_service.telemetry.providers import ContinueCallers

Attributes = tuple[tuple[str, Any], ...]

apply_defaults()


def _as_stored(attributes: Mapping[str, Any] | None) -> Attributes:
    """Sorted, and every value as text, as in Prometheus."""
    return tuple(sorted((key, str(value)) for key, value in (attributes or {}).items()))


class _Now(SpanExporter):
    """Gives spans to the exporter of the test that runs: a provider can be global only once."""

    to: SpanExporter | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self.to.export(spans) if self.to is not None else SpanExportResult.SUCCESS


class _Meters(metrics.MeterProvider):
    """Gives the meters of the test that runs."""

    now: metrics.MeterProvider = metrics.NoOpMeterProvider()

    def get_meter(self, *args: Any, **kwargs: Any) -> metrics.Meter:
        return self.now.get_meter(*args, **kwargs)


_spans, _meters = _Now(), _Meters()


@cache
def _set_providers() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.sampler = SampleAway(provider.sampler)
    provider.add_span_processor(SimpleSpanProcessor(_spans))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(_meters)
    propagate.set_global_textmap(ContinueCallers())


class _Reader(MetricReader):
    """Keeps the last collection, however long it took; the SDK's own gives up after ten seconds."""

    data: MetricsData | None = None

    def _receive_metrics(self, metrics_data: MetricsData, *_: Any, **__: Any) -> None:
        self.data = metrics_data

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        pass


class InMemoryTelemetry:
    """Spans, metrics and log lines of one test. Use as a context manager (or the fixture)."""

    def __init__(self) -> None:
        self.span_exporter = InMemorySpanExporter()
        self.reader = _Reader(
            preferred_aggregation={Histogram: ExponentialBucketHistogramAggregation()}
        )
        self.meter_provider = MeterProvider([self.reader], shutdown_on_exit=False, views=VIEWS)
        self._lines: list[bytes] = []

    def __enter__(self) -> InMemoryTelemetry:
        # A context left open by an earlier test must not reach into this one.
        self._token = otel_context.attach(Context())
        _set_providers()
        _spans.to, _meters.now = self.span_exporter, self.meter_provider
        self._threads = ThreadingInstrumentor()
        if not self._threads.is_instrumented_by_opentelemetry:
            self._threads.instrument()
        instruments.start(self.meter_provider.get_meter(TRACER_NAME))
        arrange(Settings(log_level="DEBUG", log_rate_limit_per_min=0, _env_file=None))
        stderr.write = self._lines.append  # type: ignore[method-assign,assignment]
        return self

    def __exit__(self, *_: object) -> None:
        del stderr.write  # the class has one
        instruments.stop()
        _spans.to = None
        with suppress(ValueError):
            self._token.var.reset(self._token)

    def clear(self) -> None:
        """Forget spans and log lines so far; metrics go on counting."""
        self.span_exporter.clear()
        self._lines.clear()

    # Spans

    def spans(self, name: str | None = None) -> list[ReadableSpan]:
        """Finished spans in the order they ended, all or those of one name."""
        return [
            span
            for span in self.span_exporter.get_finished_spans()
            if name is None or span.name == name
        ]

    def span(self, name: str) -> ReadableSpan:
        """The only finished span of that name; an AssertionError says what there was."""
        found = self.spans(name)
        assert len(found) == 1, (
            f"{len(found)} spans named {name!r}; finished: {[s.name for s in self.spans()]}"
        )
        return found[0]

    def trace_id(self, span: ReadableSpan) -> str:
        """The span's trace id as in log lines."""
        assert span.context is not None
        return trace.format_trace_id(span.context.trace_id)

    # Metrics

    def metrics(self, *, zeros: bool = False) -> dict[tuple[str, Attributes], float]:
        """`{(name, attributes): value}`, attributes as sorted pairs.

        A counter's or gauge's value is its number, a histogram's the count of its
        measurements. Series at 0 are left out unless `zeros`.
        """
        return {
            key: value
            for key, point in self._points().items()
            if (
                value := point.count
                if isinstance(point, HistogramDataPoint) or hasattr(point, "count")
                else point.value
            )
            or zeros
        }

    def metric(self, name: str, /, **attributes: Any) -> float:
        """One series' value, 0 where it does not exist. `error_type` stands for `error.type`."""
        parameters = instruments.REGISTRY[name].attributes
        wanted = tuple(sorted((parameters[key].key, value) for key, value in attributes.items()))
        return self.metrics().get((name, wanted), 0)

    def histogram_sum(self, name: str, /, **attributes: Any) -> float:
        """The sum of a histogram's measurements, 0 where the series does not exist."""
        parameters = instruments.REGISTRY[name].attributes
        wanted = tuple(sorted((parameters[key].key, value) for key, value in attributes.items()))
        point = self._points().get((name, wanted))
        return float(point.sum) if point is not None else 0.0

    def _points(self) -> dict[tuple[str, Attributes], Any]:
        self.reader.collect(timeout_millis=600_000)
        data = self.reader.data
        return {
            (metric.name, _as_stored(point.attributes)): point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
        }

    # Log lines

    def lines(self) -> list[Mapping[str, Any]]:
        """Every log line, parsed."""
        return [orjson.loads(line) for line in list(self._lines)]

    def events(self, name: str | None = None) -> list[Mapping[str, Any]]:
        """Log lines of one event, or all."""
        return [line for line in self.lines() if name is None or line["event"] == name]

    def log_text(self) -> str:
        """Everything that would have gone to stderr."""
        return b"".join(self._lines).decode()
