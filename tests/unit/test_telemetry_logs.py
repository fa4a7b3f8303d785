"""Log lines: what they carry, where they go, and that they never break the caller."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.settings import Settings
from transcript_service.telemetry import get_logger, instruments, log_context, logs, span
from transcript_service.telemetry.logs import RateLimit, configure_logging

log = get_logger("test")


def test_a_line_carries_who_when_what_and_the_trace(telemetry: InMemoryTelemetry) -> None:
    with span("transcript.stage"), log_context(video_id="v", stage="asr"):
        log.info("transcript.stage.finished", outcome="success", attempt=1, duration_s=0.25)
    (line,) = telemetry.lines()
    opened = telemetry.span("transcript.stage")
    assert opened.context is not None
    stamp = datetime.fromisoformat(line["timestamp"])
    assert line["timestamp"].endswith("Z")
    assert abs(stamp.timestamp() - datetime.now().timestamp()) < 60
    assert {key: value for key, value in line.items() if key != "timestamp"} == {
        "level": "info",
        "event": "transcript.stage.finished",
        "service": "tldw-transcript-service",
        "environment": "production",
        "version": "0.1.0",
        "trace_id": telemetry.trace_id(opened),
        "span_id": f"{opened.context.span_id:016x}",
        "logger": "test",
        "video_id": "v",
        "stage": "asr",
        "outcome": "success",
        "attempt": 1,
        "duration_s": 0.25,
    }


def test_a_line_outside_a_trace_has_no_ids(telemetry: InMemoryTelemetry) -> None:
    log.info("service.started")
    assert "trace_id" not in telemetry.lines()[0]


def test_a_call_wins_over_bind_and_bind_over_the_context(telemetry: InMemoryTelemetry) -> None:
    with log_context(a=1, b=1, c=1):
        log.bind(b=2, c=2).info("service.started", c=3)
    (line,) = telemetry.lines()
    assert (line["a"], line["b"], line["c"]) == (1, 2, 3)


def test_a_field_cannot_replace_the_lines_own(telemetry: InMemoryTelemetry) -> None:
    log.info("service.started", timestamp="x", level="y", service="z")
    (line,) = telemetry.lines()
    assert (line["level"], line["service"]) == ("info", "tldw-transcript-service")


@pytest.mark.parametrize("level", ["warning", "error", "critical", "exception"])
def test_warnings_and_errors_say_where_they_were_written(
    telemetry: InMemoryTelemetry, level: str
) -> None:
    getattr(log, level)("service.stopping")
    assert Path(__file__).name in telemetry.lines()[0]["source"]


def test_an_exception_is_described_with_causes_and_without_locals(
    telemetry: InMemoryTelemetry,
) -> None:
    def fails() -> None:
        cookie_of_mine = "local-value-never-shown"
        raise KeyError(len(cookie_of_mine))

    try:
        try:
            fails()
        except KeyError as cause:
            raise RuntimeError("outer") from cause
    except RuntimeError:
        log.exception("http.request.failed")
    (line,) = telemetry.lines()
    assert line["exception_type"] == "RuntimeError"
    assert line["exception_message"] == "outer"
    assert "KeyError" in line["exception_stack"]
    assert "direct cause" in line["exception_stack"]
    assert "local-value-never-shown\n" not in telemetry.log_text().replace("cookie_of_mine", "")


def test_levels_below_the_configured_one_cost_and_write_nothing(
    telemetry: InMemoryTelemetry,
) -> None:
    logs.arrange(Settings(log_level="WARNING"))
    log.info("service.started")
    log.debug("service.started")
    log.warning("service.stopping")
    assert [line["level"] for line in telemetry.lines()] == ["warning"]


def test_no_text_in_a_line_for_people_steers_their_terminal(
    telemetry: InMemoryTelemetry, capfd: pytest.CaptureFixture[str]
) -> None:
    logs.arrange(Settings(enable_structured_logging=False))
    try:
        get_logger("test").warning("alert.rejected", reason="\x1b]0;owned\x07\x9b2J")
    finally:
        logs.arrange(Settings())
    said = telemetry.log_text() + capfd.readouterr().err
    assert "\\x1b]0;owned\\x07\\x9b2J" in said
    assert "\x07" not in said


def test_people_can_have_coloured_text(telemetry: InMemoryTelemetry) -> None:
    logs.arrange(Settings(enable_structured_logging=False))
    try:
        int("broken")
    except ValueError:
        log.exception("http.request.failed", video_id="v")
    text = telemetry.log_text()
    assert "\x1b[" in text
    assert "http.request.failed" in text
    assert "ValueError: invalid literal" in text
    assert not text.startswith("{")


def test_values_that_are_no_json_are_written_as_text(telemetry: InMemoryTelemetry) -> None:
    class Odd:
        def __str__(self) -> str:
            return "odd"

    cyclic: list[Any] = []
    cyclic.append(cyclic)
    log.info(
        "service.started",
        odd=Odd(),
        path=Path("a"),
        data=b"bytes",
        big=1 << 80,
        surrogate="\ud800",
        nan=float("nan"),
        cyclic=cyclic,
    )
    assert len(telemetry.lines()) == 1
    assert telemetry.lines()[0]["odd"] == "odd"


def test_a_value_that_cannot_even_be_shown_is_named(
    telemetry: InMemoryTelemetry,
) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    log.info("service.started", broken=Broken())
    (line,) = telemetry.lines()
    assert line["broken"] == "<Broken without a text>"


def test_an_unknown_event_is_written_warned_about_once_and_counted(
    telemetry: InMemoryTelemetry,
) -> None:
    logs.warn_about_event.cache_clear()
    log.info("made.up")
    log.info("made.up")
    assert [line["event"] for line in telemetry.lines()] == [
        "telemetry.event.unknown",
        "made.up",
        "made.up",
    ]
    assert telemetry.metric("telemetry.unknown", kind="event") == 2


def test_records_of_the_standard_library_take_the_same_path_once(
    telemetry: InMemoryTelemetry,
) -> None:
    configure_logging(Settings())
    configure_logging(Settings())
    with span("transcript.stage"), log_context(video_id="v"):
        logging.getLogger("some.library").warning(
            "password=%s in %s", "hunter22", "x", extra={"host": "h"}
        )
    (line,) = telemetry.lines()
    assert line["event"] == "log.record"
    assert line["message"] == "password=[REDACTED] in x"
    assert (line["logger"], line["host"], line["video_id"]) == ("some.library", "h", "v")
    assert line["trace_id"] == telemetry.trace_id(telemetry.span("transcript.stage"))


def test_a_library_that_formats_its_record_wrongly_does_no_harm(
    telemetry: InMemoryTelemetry,
) -> None:
    configure_logging(Settings())
    logging.getLogger("some.library").warning("%d", "not a number")
    assert "could not be formatted" in telemetry.lines()[0]["message"]


def test_the_sdks_own_complaints_come_through_once_a_minute(
    telemetry: InMemoryTelemetry,
) -> None:
    configure_logging(Settings())
    for _ in range(5):
        logging.getLogger("opentelemetry.sdk.metrics").warning("complaint")
        logging.getLogger("opentelemetry.exporter.otlp.proto.http").error("Failed to export")
    assert [line["message"] for line in telemetry.events("telemetry.sdk")] == ["complaint"]


class Clock:
    """Stands in for the module `time`."""

    time_ns = staticmethod(time.time_ns)

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(logs, "time", clock)
    return clock


def limited(per_min: int) -> None:
    logs.arrange(Settings(log_rate_limit_per_min=per_min))


def test_the_rate_limit_is_per_event_and_video_and_counts_what_it_left_out(
    telemetry: InMemoryTelemetry, clock: Clock
) -> None:
    limited(2)
    for _ in range(5):
        log.info("transcript.stage.finished", video_id="a")
    log.info("transcript.stage.finished", video_id="b")
    log.info("transcript.request.finished", video_id="a")
    assert len(telemetry.events("transcript.stage.finished")) == 3
    assert len(telemetry.events("transcript.request.finished")) == 1
    assert telemetry.metric("logs.suppressed", signal="logs") == 3
    clock.now = 61
    log.info("transcript.stage.finished", video_id="a")
    assert telemetry.lines()[-1]["suppressed"] == 3
    clock.now = 122
    log.info("transcript.stage.finished", video_id="a")
    assert "suppressed" not in telemetry.lines()[-1]


@pytest.mark.usefixtures("clock")
def test_requests_without_a_video_are_limited_each_for_itself(
    telemetry: InMemoryTelemetry,
) -> None:
    limited(1)
    for _ in range(3):
        with span("GET /health"):
            log.info("http.request.failed")
            log.info("http.request.failed")
    assert len(telemetry.lines()) == 3


@pytest.mark.usefixtures("clock")
def test_critical_lines_are_never_left_out(telemetry: InMemoryTelemetry) -> None:
    limited(1)
    for _ in range(3):
        log.critical("service.stopping")
    assert len(telemetry.lines()) == 3


def test_the_rate_limit_forgets_old_keys_so_that_memory_stays_bounded() -> None:
    limit = RateLimit(1)
    for number in range(10_000):
        limit.left_out(number)
    assert len(limit._windows) <= 4096
    assert limit.left_out(9_999) == -1


def test_no_limit_means_no_limit(telemetry: InMemoryTelemetry) -> None:
    limited(0)
    for _ in range(50):
        log.info("service.started")
    assert len(telemetry.lines()) == 50


class _Wordless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_exception_whose_own_text_raises_is_logged_all_the_same(
    telemetry: InMemoryTelemetry,
) -> None:
    error = _Wordless()
    log.error("http.request.failed", detail=error, exc_info=error)
    (line,) = telemetry.lines()
    assert line["exception_type"] == "_Wordless"
    assert "without a text" in line["detail"]


def test_lone_surrogates_and_odd_numbers_are_logged_wherever_they_stand(
    telemetry: InMemoryTelemetry,
) -> None:
    log.info("service.started", deep={"a\ud800": {"b\udfff": ["\ud800", 1 << 70]}})
    (line,) = telemetry.lines()
    assert line["deep"] == {"a?": {"b?": ["?", str(1 << 70)]}}


class LogsInItsFinaliser:
    def __del__(self) -> None:
        log.warning("service.stopping")
        logging.getLogger("some.library").warning("gone")
        instruments.JOB_QUEUE_SIZE.set(3)
        instruments.TRANSCRIPT_REQUESTS.add(1, outcome="success", source="asr")


def test_finalisers_and_handlers_may_log_and_measure_wherever_they_run(
    telemetry: InMemoryTelemetry,
) -> None:
    """Each object dies in the middle of a line: as a value in it, below the handler's emit."""
    configure_logging(Settings(log_rate_limit_per_min=0))

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name == "outer":
                log.info("service.started", value=LogsInItsFinaliser())
                logging.getLogger("inner").warning("again")

    root = logging.getLogger()
    handler = Handler()
    root.addHandler(handler)

    def write() -> None:
        for _ in range(20):
            logging.getLogger("outer").warning("line")

    threads = [threading.Thread(target=write, daemon=True) for _ in range(4)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
    finally:
        root.removeHandler(handler)
    assert len(telemetry.events("service.started")) == 80
    assert len(telemetry.events("service.stopping")) == 80
    messages = Counter(line["message"] for line in telemetry.events("log.record"))
    assert messages == {"line": 80, "again": 80, "gone": 80}
    assert telemetry.metric("job.queue.size") == 3
    assert telemetry.metric("transcript.requests", outcome="success", source="asr") == 80


def test_a_finaliser_in_the_rate_limit_or_the_registry_hinders_nobody(
    telemetry: InMemoryTelemetry,
) -> None:
    """The garbage collector runs where it likes, so every allocation may be somebody's end."""
    configure_logging(Settings(log_rate_limit_per_min=3))
    made = 0
    before = gc.get_threshold()
    try:
        for number in range(200):
            gc.set_threshold(100_000)
            gc.collect(0)
            cycle: list[Any] = [LogsInItsFinaliser()]
            cycle.append(cycle)
            made += 1
            del cycle
            # Collected after so many further objects: each time at another place of the calls.
            gc.set_threshold(1 + number % 60)
            log.info("transcript.stage.finished", video_id=str(number))
            instruments.CIRCUIT_BREAKER_STATE.set(1, name="asr", state="open")
    finally:
        gc.set_threshold(*before)
        gc.collect()
    assert telemetry.metric("transcript.requests", outcome="success", source="asr") == made
    written = len(telemetry.lines())
    assert written + telemetry.metric("logs.suppressed", signal="logs") == 200 + 2 * made
