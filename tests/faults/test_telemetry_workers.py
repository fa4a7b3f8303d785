"""Telemetry is exact whatever happens to workers and to the Collector.

A stand-in takes OTLP here, because it can count, hang and refuse; the real Collector has its
own tests.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.gunicorn_process import gunicorn, load
from tests.otlp_sink import OtlpSink
from tests.ports import free_port


def environ(endpoint: str, **more: str) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_BLRP_SCHEDULE_DELAY": "100",
        # Gunicorn kills a worker that takes ten seconds longer; a busy machine needs some of it.
        "GRACEFUL_TIMEOUT_S": "25",
        **more,
    }


def lines(log: str) -> list[dict[str, object]]:
    """Every line on stderr; each must be one JSON object."""
    return [json.loads(line) for line in log.splitlines()]


@pytest.mark.parametrize(
    ("count", "workers"), [(2_000, 2), pytest.param(10_000, 4, marks=pytest.mark.slow)]
)
def test_requests_over_reloads_and_a_killed_worker_are_counted_exactly(
    tmp_path: Path, count: int, workers: int
) -> None:
    started = '"service.started"'
    # A batch whose answer comes later than that is sent again.
    patient = {"OTEL_EXPORTER_OTLP_TIMEOUT": "60"}
    with (
        OtlpSink() as sink,
        gunicorn(tmp_path, environ(sink.url, **patient), workers=workers) as running,
    ):

        def reload(times: int) -> None:
            running.wait_for_log(started, times * workers)
            running.signal(signal.SIGHUP)

        def kill_one() -> None:
            running.wait_for_log(started, 3 * workers)
            os.kill(running.workers()[0], signal.SIGTERM)

        answers = load(
            running.port,
            lambda n: f"/work/{n}",
            count,
            at={
                count // 5: lambda: reload(1),
                count // 2: lambda: reload(2),
                count * 4 // 5: kill_one,
            },
        )
        running.wait_for_log(started, 3 * workers + 1)
        running.stop()
        log = lines(running.log())

        assert len(answers) == count
        success = {"outcome": "success", "source": "youtube_api"}
        assert sink.counter("transcript.requests", **success) == count
        assert sink.counter("transcript.request.duration") == count
        assert sink.counter("http.server.request.duration") == count
        instances = {instance for instance, name, _ in sink.points if name == "transcript.requests"}
        assert len(instances) > 3 * workers, "all twice reloaded, one replaced"

        names = Counter(span.name for span in sink.spans)
        assert names["transcript.fetch"] == names["transcript.stage"] == count
        assert names["GET /work/<number>"] == count
        events = Counter(record.event_name for record in sink.logs)
        assert events["transcript.request.finished"] == count
        assert events["transcript.stage.finished"] == count
        on_stderr = Counter(str(line["event"]) for line in log)
        assert on_stderr["transcript.request.finished"] == count

        # Every span and line of a request has the id that its answer said, none another's.
        expected = {str(number): body.decode() for number, body in answers.items()}
        for span in sink.spans:
            if "number" in span.attributes:
                assert span.trace_id == expected[span.attributes["number"]]
        for record in sink.logs:
            if "number" in record.attributes:
                assert record.trace_id == expected[record.attributes["number"]]
                assert record.attributes["video_id"] == record.attributes["number"]
        for line in log:
            if "number" in line:
                assert line["trace_id"] == expected[str(line["number"])]


def test_workers_that_were_given_one_instance_id_do_not_count_over_each_other(
    tmp_path: Path,
) -> None:
    count = 30
    with OtlpSink() as sink:
        env = environ(sink.url, OTEL_RESOURCE_ATTRIBUTES="service.instance.id=pod-1")
        with gunicorn(tmp_path, env, workers=2) as running:
            running.wait_for_log("service.started", 2)
            for sleeping in running.workers():  # so the other one answers
                os.kill(sleeping, signal.SIGSTOP)
                assert len(load(running.port, lambda n: f"/work/{n}", count)) == count
                os.kill(sleeping, signal.SIGCONT)
            running.stop()
        assert sink.counter("transcript.requests", source="youtube_api") == 2 * count
        instances = {instance for instance, *_ in sink.points}
        assert len(instances) == 2
        assert all(instance.startswith("pod-1-") for instance in instances)


def test_each_line_is_on_stderr_once_and_over_otlp_once_gunicorns_included(
    tmp_path: Path,
) -> None:
    with OtlpSink() as sink, gunicorn(tmp_path, environ(sink.url), workers=1) as running:
        running.get("/work/1")
        running.stop()
        log = lines(running.log())
        worker = [line for line in log if line.get("trace_id")]
        assert Counter(line["event"] for line in worker) == {
            "transcript.stage.finished": 1,
            "transcript.request.finished": 1,
        }
        assert sum("Booting worker" in str(line.get("message")) for line in log) == 1
        exported = Counter(
            (record.event_name, record.attributes.get("message")) for record in sink.logs
        )
        assert set(exported.values()) == {1}
        assert ("transcript.request.finished", None) in exported
        assert any("Worker exiting" in str(message) for _, message in exported)


def test_workers_that_max_requests_replaces_lose_nothing(tmp_path: Path) -> None:
    count = 300
    with (
        OtlpSink() as sink,
        gunicorn(tmp_path, environ(sink.url, WEB_MAX_REQUESTS="60"), workers=2) as running,
    ):
        assert len(load(running.port, lambda n: f"/work/{n}", count)) == count
        running.stop()
        assert sink.counter("transcript.requests", source="youtube_api") == count
        assert Counter(span.name for span in sink.spans)["transcript.fetch"] == count


def test_a_fork_during_export_neither_doubles_counts_nor_stops_them(tmp_path: Path) -> None:
    with (
        OtlpSink() as sink,
        gunicorn(
            tmp_path, environ(sink.url, OTEL_METRIC_EXPORT_INTERVAL="20"), workers=1
        ) as running,
    ):
        load(
            running.port,
            lambda n: "/fork" if n % 10 == 0 else f"/work/{n}",
            200,
        )
        running.stop()
        assert sink.counter("transcript.requests", source="youtube_api") == 180
        assert Counter(span.name for span in sink.spans)["transcript.fetch"] == 180


@pytest.mark.parametrize("fault", ["absent", "hangs", "503"])
def test_a_collector_that_is_away_slows_no_request_and_nothing_is_lost_when_it_is_back(
    tmp_path: Path, fault: str
) -> None:
    count = 500
    sink = OtlpSink(port=free_port(), status={"absent": 200, "hangs": 0, "503": 503}[fault])
    env = environ(f"http://127.0.0.1:{sink.port}", OTEL_EXPORTER_OTLP_TIMEOUT="1")
    if fault != "absent":
        sink.__enter__()
    try:
        with gunicorn(tmp_path, env, workers=2) as running:
            began = time.monotonic()
            assert len(load(running.port, lambda n: f"/work/{n}", count)) == count
            assert time.monotonic() - began < 60
            running.wait_for_log("telemetry.export.failing", 2)
            if fault == "absent":
                sink.__enter__()
            sink.status = 200
            sink._released.set()
            sink.wait_until(lambda: len(sink.spans) >= 3 * count and len(sink.logs) >= 2 * count)
            running.wait_for_log("telemetry.export.recovered", 2)
            running.stop()
            log = lines(running.log())
        # One warning for each outage (a busy machine may add a short one), and no trace back.
        told = Counter(line["event"] for line in log)
        assert told["telemetry.export.failing"] == told["telemetry.export.recovered"] <= 6
        assert "Traceback" not in running.log()
        # A batch whose answer never came may arrive twice; none may be missing.
        arrived = {
            str(span.attributes["number"]) for span in sink.spans if span.name == "transcript.fetch"
        }
        assert len(arrived) == count
        assert sink.counter("transcript.requests", source="youtube_api") == count
    finally:
        sink.__exit__()


@pytest.mark.parametrize("fault", ["absent", "hangs"])
def test_a_stop_without_a_collector_is_bounded_and_says_what_was_lost(
    tmp_path: Path, fault: str
) -> None:
    sink = OtlpSink(port=free_port(), status=0)
    if fault == "hangs":
        sink.__enter__()
    try:
        with gunicorn(tmp_path, environ(f"http://127.0.0.1:{sink.port}"), workers=1) as running:
            load(running.port, lambda n: f"/work/{n}", 50)
            running.stop()
            (line,) = [
                line
                for line in lines(running.log())
                if line["event"] == "telemetry.shutdown.finished"
            ]
            assert float(str(line["duration_s"])) < 20  # 8 s, and a busy machine
            assert line["lost_spans"] == 150
            assert int(str(line["lost_logs"])) >= 100
    finally:
        if fault == "hangs":
            sink.__exit__()


def test_created_equals_exported_plus_dropped_while_the_collector_is_away(
    tmp_path: Path,
) -> None:
    """A queue of 200, 300 requests (900 spans, 600 lines), Collector away, then back."""
    sink = OtlpSink(port=free_port())
    env = environ(
        f"http://127.0.0.1:{sink.port}",
        OTEL_BSP_MAX_QUEUE_SIZE="200",
        OTEL_BLRP_MAX_QUEUE_SIZE="200",
    )
    with gunicorn(tmp_path, env, workers=1) as running:
        load(running.port, lambda n: f"/work/{n}", 300)
        running.wait_for_log("telemetry.export.failing")
        with sink:
            running.wait_for_log("telemetry.export.recovered")
            running.stop()
            for noun, created, arrived in (
                ("span", "otel.sdk.span.ended", len(sink.spans)),
                ("log", "otel.sdk.log.created", len(sink.logs)),
            ):
                processed = f"otel.sdk.processor.{noun}.processed"
                made = sink.counter(created)
                dropped = sink.counter(processed, error__type="queue_full")
                exported = sink.counter(f"otel.sdk.exporter.{noun}.exported")
                assert dropped > 0
                assert exported + dropped == made
                # The last lines go out after the last collection of metrics.
                assert 0 <= arrived - exported <= 3
            assert sink.counter("otel.sdk.span.ended") == 900


def test_with_the_sdk_disabled_only_lines_on_stderr_remain(tmp_path: Path) -> None:
    with (
        OtlpSink() as sink,
        gunicorn(tmp_path, environ(sink.url, OTEL_SDK_DISABLED="true"), workers=1) as running,
    ):
        running.get("/work/1")
        running.stop()
        events = [line["event"] for line in lines(running.log())]
        assert "transcript.request.finished" in events
        assert sink.requests == 0


def test_a_full_collection_in_a_worker_has_little_to_look_at(tmp_path: Path) -> None:
    with gunicorn(tmp_path, environ("", OTEL_SDK_DISABLED="true"), workers=1) as running:
        found = json.loads(running.get("/garbage"))
    assert found["frozen"] > 10 * found["looked_at"]


def test_what_gunicorn_refuses_has_a_line_and_a_measurement(tmp_path: Path) -> None:
    with OtlpSink() as sink, gunicorn(tmp_path, environ(sink.url), workers=1) as running:
        with socket.create_connection(("127.0.0.1", running.port), timeout=30) as client:
            client.sendall(b"GET / HTTP/1.1\r\nNo header at all\r\n\r\n")
            response = http.client.HTTPResponse(client)
            response.begin()
            correlation_id = response.headers["X-Correlation-ID"]
        running.stop()
        (line,) = [one for one in lines(running.log()) if one["event"] == "http.request.refused"]
        assert (line["trace_id"], line["status"]) == (correlation_id, 400)
        status = {"http__response__status_code": "400"}
        assert sink.counter("http.server.request.duration", **status) == 1
