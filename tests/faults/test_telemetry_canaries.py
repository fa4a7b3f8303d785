"""The first net alone: nothing secret leaves the process, whatever way it takes.

Every kind of secret goes through every way out of a running worker; stderr and the raw bytes
sent over OTLP are searched. The whole stack is searched in tests/integration/test_canaries.py.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.canaries import FORMS, build
from tests.canary_app import CONTROL, leaks, push
from tests.gunicorn_process import CHECKOUT, gunicorn
from tests.otlp_sink import OtlpSink

APP = "tests.canary_app:create_app()"


def test_no_canary_leaves_the_process(tmp_path: Path) -> None:
    environ = {
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
        "PROXY_PASSWORD": f"plain{build(820)}word",
        "SOME_SERVICE_API_KEY": build(821),
        "LOG_RATE_LIMIT_PER_MIN": "0",
    }
    with (
        OtlpSink() as sink,
        gunicorn(
            tmp_path, {**environ, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}, app=APP, workers=1
        ) as running,
    ):
        push(running.port)
        running.stop()
        sent = {
            "stderr": running.log(),
            "OTLP": b"\n".join(sink.bodies).decode("utf-8", "replace"),
        }
        # The search works: what is no secret got through every way.
        assert all(CONTROL in text for text in sent.values())
        # Each form took each of them, and the control did, twice.
        spans = Counter(span.name for span in sink.spans)
        records = Counter(record.event_name for record in sink.logs)
        for name in ("attributes", "event", "status", "exception", "link", "baggage", "metric"):
            assert spans[f"canary.{name}"] == len(FORMS) + 2, name
        assert records["asr.tool_output"] == len(FORMS) + 2
        assert sum("canary " in span.name for span in sink.spans) == len(FORMS) + 2
        assert {f"GET /leak/{path}" for path in ("<entrance>", "keys", "environment")} <= set(spans)
        assert any(CONTROL in record.body for record in sink.logs)
        assert any(CONTROL in span.name for span in sink.spans)
        assert any(CONTROL in dict(series).values() for _, _, series in sink.points)
        for where, text in sent.items():
            assert leaks(text) == [], where
        assert sink.counter("telemetry.redaction.failures") == 0
        for signal in ("traces", "logs"):
            assert sink.counter("telemetry.redactions", signal=signal) > 0


def test_a_configuration_that_cannot_be_used_is_refused_without_its_value(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "gunicorn",
            "--config",
            str(CHECKOUT / "service" / "gunicorn.conf.py"),
            APP,
        ],
        cwd=CHECKOUT,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(CHECKOUT),
            "GRACEFUL_TIMEOUT_S": build(1),
            "PROMETHEUS_URL": f"http://user:{build(2)}@:bad",
            "STATE_DIR": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "GRACEFUL_TIMEOUT_S" in done.stderr
    assert "PROMETHEUS_URL" in done.stderr
    assert leaks(done.stdout + done.stderr) == []
