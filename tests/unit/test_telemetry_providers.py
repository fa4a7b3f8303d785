"""What `start` sets up, seen from a process of its own: providers are global and set once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from tests.forked_interpreter import run_forked
from tests.gunicorn_process import CHECKOUT
from tests.otlp_sink import OtlpSink

_START = """
import os, json, sys, logging, time
from transcript_service import telemetry
from transcript_service.settings import Settings
running = telemetry.start(Settings())
log = telemetry.get_logger("test")

def flush(timeout_s=5):
    sent = [queue.flush(timeout_s) for queue in running.queues]
    meters = running.meter_provider  # there is none with OTEL_SDK_DISABLED
    return (meters is None or meters.force_flush(timeout_s * 1000)) and all(sent)

"""


def run(code: str, endpoint: str, **environ: str) -> tuple[str, list[dict[str, Any]]]:
    """(stdout, lines on stderr) of a process that starts telemetry and runs `code`."""
    stdout, stderr = run_forked(_START + code, _environ(endpoint, environ), timeout_s=300)
    return stdout, [json.loads(line) for line in stderr.splitlines()]


def _environ(endpoint: str, more: Mapping[str, str]) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(CHECKOUT),
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        **more,
    }


def run_alone(
    code: str, endpoint: str, before: str = "", **environ: str
) -> tuple[str, list[dict[str, Any]]]:
    """The same with an interpreter of its own, which runs `before` before all imports."""
    done = subprocess.run(
        [sys.executable, "-c", before + _START + code],
        cwd=CHECKOUT,
        env=_environ(endpoint, environ),
        capture_output=True,
        text=True,
        timeout=560,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-10_000:]
    return done.stdout, [json.loads(line) for line in done.stderr.splitlines()]


def test_all_three_signals_arrive_with_one_resource_and_one_trace_id() -> None:
    with OtlpSink() as sink:
        run(
            """
with telemetry.span("transcript.fetch", video_id="v"):
    log.info("service.started", port=1, list=["a", 1], text="\\ud800")
    telemetry.instruments.TRANSCRIPT_REQUESTS.add(1, outcome="success", source="asr")
    logging.getLogger("some.library").warning("hello")
assert running.shutdown()
""",
            sink.url,
            SERVICE_NAME="the-service",
            ENVIRONMENT="test",
        )
        (span,) = sink.spans
        by_name = {record.event_name: record for record in sink.logs}
        started, library = by_name["service.started"], by_name["log.record"]
        assert started.trace_id == library.trace_id == span.trace_id
        assert (started.body, started.event_name, started.severity) == (
            "service.started",
            "service.started",
            "INFO",
        )
        assert started.attributes["event"] == "service.started"
        assert started.attributes["list"] == ["a", 1]
        assert library.attributes["message"] == "hello"
        assert "service" not in started.attributes
        for resource in (span.resource, started.resource):
            assert resource["service.name"] == "the-service"
            assert resource["deployment.environment.name"] == "test"
            assert resource["service.version"]
        (instance,) = {key[0] for key in sink.points}
        assert span.resource["service.instance.id"] == instance
        assert sink.counter("transcript.requests", outcome="success") == 1
        assert sink.counter("otel.sdk.exporter.span.exported") == 1


def test_a_variable_that_the_user_set_wins_over_our_default() -> None:
    stdout, _ = run(
        "from transcript_service.telemetry.environment import VARIABLES\n"
        "print(json.dumps({one.name: os.environ[one.name] for one in VARIABLES if one.default}))",
        "http://127.0.0.1:1",
        OTEL_EXPORTER_OTLP_TIMEOUT="3",
    )
    values = json.loads(stdout.splitlines()[-1])
    assert values.pop("OTEL_EXPORTER_OTLP_TIMEOUT") == "3"
    assert values["OTEL_METRIC_EXPORT_INTERVAL"] == "15000"
    assert values["OTEL_BSP_MAX_QUEUE_SIZE"] == "10000"


@pytest.mark.parametrize(("temporality", "count"), [("cumulative", 3), ("delta", 1)])
def test_histograms_count_from_where_the_user_wants(temporality: str, count: int) -> None:
    with OtlpSink() as sink:
        run(
            """
telemetry.instruments.OPERATION_DURATION.record(0.1, operation="x")
telemetry.instruments.OPERATION_DURATION.record(0.1, operation="x")
assert flush()
telemetry.instruments.OPERATION_DURATION.record(0.1, operation="x")
assert running.shutdown()
""",
            sink.url,
            OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=temporality,
        )
    assert sink.counter("operation.duration", operation="x") == count


def test_without_a_reader_no_measurement_is_kept() -> None:
    stdout, _ = run(
        """
from transcript_service.telemetry import instruments
for _ in range(100):
    instruments.JOB_DURATION.record(0.5, outcome="success")
    instruments.TRANSCRIPT_REQUESTS.add(1, outcome="success")
print(len(instruments._pending))
running.shutdown()
""",
        "http://127.0.0.1:1",
        OTEL_METRICS_EXPORTER="none",
        OTEL_TRACES_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
    )
    assert stdout.splitlines()[-1] == "0"


def test_the_environments_proxy_carries_every_batch() -> None:
    with OtlpSink() as proxy:
        run(
            """
for number in (1, 2):
    with telemetry.span(f"batch.{number}"):
        pass
    assert flush()
running.shutdown()
""",
            "http://collector.invalid:4318",
            HTTP_PROXY=proxy.url,
        )
    assert {"batch.1", "batch.2"} <= {span.name for span in proxy.spans}


def test_starting_and_stopping_without_a_collector_is_quick_and_quiet() -> None:
    stdout, lines = run(
        """
for _ in range(100):
    with telemetry.span("x"):
        log.info("service.started")
began = time.monotonic()
running.shutdown(3.0)
print(time.monotonic() - began)
""",
        "http://127.0.0.1:1",
        LOG_LEVEL="WARNING",
    )
    assert float(stdout.splitlines()[-1]) < 3.5
    assert {line["event"] for line in lines} <= {"telemetry.export.failing"}
    assert len(lines) <= 1


@pytest.mark.parametrize("status", [302, 400, 401, 404])
def test_records_refused_for_good_are_counted_and_told_not_retried(status: int) -> None:
    with OtlpSink(status=status) as sink:
        stdout, lines = run(
            """
with telemetry.span("x"):
    pass
flush()
print(running.queues[0].ledger().dropped)
""",
            sink.url,
        )
    assert stdout.splitlines()[-1] == "{'refused': 1}"
    (line,) = [line for line in lines if line["event"] == "telemetry.export.failing"]
    assert str(status) in line["reason"]


def test_a_disabled_sdk_leaves_only_stderr() -> None:
    with OtlpSink() as sink:
        _, lines = run(
            'log.info("service.started"); assert running.shutdown()',
            sink.url,
            OTEL_SDK_DISABLED="true",
        )
        assert [line["event"] for line in lines] == ["service.started"]
        assert sink.requests == 0


def test_uncaught_exceptions_of_threads_are_one_masked_line() -> None:
    _, lines = run(
        """
import threading
def fails():
    raise ValueError("password=hunter22")
thread = threading.Thread(target=fails, name="worker")
thread.start(); thread.join()
""",
        "http://127.0.0.1:1",
        OTEL_SDK_DISABLED="true",
    )
    (line,) = lines
    assert (line["event"], line["thread"]) == ("worker.exception", "worker")
    assert line["exception_message"] == "password=[REDACTED]"
