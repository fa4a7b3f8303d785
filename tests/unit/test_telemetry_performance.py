"""Measuring a block, or reporting a measurement, in one call."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import transcript_service
from tests.telemetry_memory import InMemoryTelemetry
from transcript_service import emit_performance_metric, log_performance
from transcript_service.telemetry import PerformanceLogger, performance


@pytest.fixture(autouse=True)
def _fresh_warnings() -> Iterator[None]:
    performance._warn_once.cache_clear()
    yield
    performance._warn_once.cache_clear()


def test_a_measured_block_gives_a_span_a_line_and_a_histogram(
    telemetry: InMemoryTelemetry,
) -> None:
    with log_performance("captions.parse", video_id="v") as measurement:
        pass
    (line,) = telemetry.events("performance.measured")
    span = telemetry.span("captions.parse")
    assert line["operation"] == "captions.parse"
    assert line["outcome"] == "success"
    assert line["video_id"] == "v"
    assert line["duration_s"] == pytest.approx(measurement.duration_s, abs=1e-6)
    assert line["trace_id"] == telemetry.trace_id(span)
    assert span.attributes == {"video_id": "v", "outcome": "success"}
    series = {"operation": "captions.parse", "outcome": "success"}
    assert telemetry.metric("operation.duration", **series) == 1
    assert telemetry.histogram_sum("operation.duration", **series) == measurement.duration_s


def test_an_exception_is_measured_and_goes_on(telemetry: InMemoryTelemetry) -> None:
    with pytest.raises(ValueError, match="broken"), log_performance("captions.parse"):
        raise ValueError("broken")
    (line,) = telemetry.events("performance.measured")
    assert (line["outcome"], line["error_type"]) == ("error", "ValueError")
    span = telemetry.span("captions.parse")
    assert span.status.description == "ValueError"
    assert [event.name for event in span.events] == ["exception"]


def test_it_decorates_a_recursive_function(telemetry: InMemoryTelemetry) -> None:
    @log_performance("count.down")
    def down(number: int) -> int:
        return down(number - 1) if number else 0

    assert down(3) == 0
    spans = telemetry.spans("count.down")
    assert len(spans) == 4
    assert len({telemetry.trace_id(span) for span in spans}) == 1


def test_a_measured_histogram_points_to_its_trace(telemetry: InMemoryTelemetry) -> None:
    with log_performance("captions.parse"):
        pass
    (point,) = [
        point for (name, _), point in telemetry._points().items() if name == "operation.duration"
    ]
    assert {f"{exemplar.trace_id:032x}" for exemplar in point.exemplars} == {
        telemetry.trace_id(telemetry.span("captions.parse"))
    }


@pytest.mark.parametrize(
    "name",
    [
        "transcript.stage.duration",
        "transcript_stage_duration",
        "transcript_stage_duration_seconds",
        "Transcript.Stage.Duration",
    ],
)
@pytest.mark.parametrize(
    ("value", "unit", "seconds"),
    [(1500, "ms", 1.5), (2, "s", 2.0), (3, None, 3.0), (2, "minutes", 120.0), (5e6, "µs", 5.0)],
)
def test_a_duration_is_recorded_in_seconds(
    telemetry: InMemoryTelemetry, name: str, value: float, unit: str | None, seconds: float
) -> None:
    emit_performance_metric(name, value, {"stage": "asr", "error.type": "timeout"}, unit)
    assert telemetry.histogram_sum(
        "transcript.stage.duration", stage="asr", error_type="timeout"
    ) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("value", "unit", "size"),
    [(1, "MiB", 1048576), (1, "MB", 1e6), (7, "bytes", 7), (2, "KiB", 2048), (1, "GB", 1e9)],
)
def test_a_size_is_recorded_in_bytes(
    telemetry: InMemoryTelemetry, value: float, unit: str, size: float
) -> None:
    emit_performance_metric("browser.memory.usage", value, {}, unit)
    assert telemetry.metric("browser.memory.usage") == size


def test_a_count_keeps_its_number(telemetry: InMemoryTelemetry) -> None:
    emit_performance_metric("proxy.rotations", 2, {"reason": "http_403"}, "rotations")
    emit_performance_metric("proxy_rotations_total", 1, {"reason": "http_403"}, "1")
    assert telemetry.metric("proxy.rotations", reason="http_403") == 3


def test_percentiles_of_the_caller_stay_on_the_line(telemetry: InMemoryTelemetry) -> None:
    emit_performance_metric(
        "transcript.stage.duration", 0.5, {"stage": "asr"}, "s", p50=0.4, p95=0.9
    )
    (line,) = telemetry.events("performance.metric")
    assert (line["p50"], line["p95"], line["value"], line["unit"]) == (0.4, 0.9, 0.5, "s")
    assert line["stage"] == "asr"
    assert telemetry.metric("transcript.stage.duration", stage="asr") == 1
    assert telemetry.histogram_sum("transcript.stage.duration", stage="asr") == 0.5


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("metric", ("no.such.metric", 1)),
        ("label", ("proxy.rotations", 1, {"color": "red"})),
        ("unit", ("transcript.stage.duration", 1, {}, "MiB")),
        ("unit", ("transcript.stage.duration", 1, {}, "furlongs")),
        ("value", ("transcript.stage.duration", float("nan"))),
        ("value", ("transcript.stage.duration", float("inf"))),
        ("value", ("transcript.stage.duration", "fast")),
        ("value", ("proxy.rotations", -1, {"reason": "http_403"})),
        ("metric", (None, 1)),
    ],
)
def test_what_the_registry_does_not_know_is_warned_about_once_and_counted(
    telemetry: InMemoryTelemetry, kind: str, arguments: tuple[object, ...]
) -> None:
    emit_performance_metric(*arguments)  # type: ignore[arg-type]
    emit_performance_metric(*arguments)  # type: ignore[arg-type]
    assert len(telemetry.events("telemetry.metric.unknown")) == 1
    assert telemetry.metric("telemetry.unknown", kind=kind) == 2


def test_a_label_outside_its_list_becomes_other(telemetry: InMemoryTelemetry) -> None:
    emit_performance_metric("proxy.rotations", 1, {"reason": "full moon"})
    assert telemetry.metric("proxy.rotations", reason="other") == 1


def test_a_performance_logger_puts_its_fields_on_everything(
    telemetry: InMemoryTelemetry,
) -> None:
    performance_logger = PerformanceLogger("browser", profile="desktop")
    with performance_logger.measure("launch", attempt=1):
        performance_logger.event("browser.console", text="hi")
    performance_logger.metric("browser.memory.usage", 1, unit="MiB")
    assert telemetry.span("browser.launch").attributes == {
        "profile": "desktop",
        "attempt": 1,
        "outcome": "success",
    }
    assert all(line["profile"] == "desktop" for line in telemetry.lines())
    assert len(telemetry.lines()) == 3


def test_the_promised_names_can_be_imported_from_the_package() -> None:
    for name in (
        "AlertLogger",
        "PerformanceLogger",
        "emit_performance_metric",
        "log_context",
        "log_performance",
    ):
        assert callable(getattr(transcript_service, name))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        transcript_service.nonsense  # noqa: B018
