"""The first net alone: nothing secret leaves the process, whatever way it takes.

Every kind of secret goes through every way out of a running worker; stderr and the raw bytes
sent over OTLP are searched. The whole stack is searched in tests/integration/test_canaries.py.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.canaries import FORMS, build
from tests.canary_app import CONTROL, CONTROLS, leaks, push
from tests.gunicorn_process import CHECKOUT, gunicorn
from tests.otlp_sink import OtlpSink
from tests.ports import free_port
from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.proxies.proxy import Proxy
from transcript_service.resilience import Deadline
from transcript_service.settings import Settings
from transcript_service.telemetry import MASK
from transcript_service.transcripts.audio import download_with_yt_dlp
from transcript_service.transcripts.model import TranscriptError

APP = "tests.canary_app:create_app()"


@pytest.mark.parametrize("level", ["info", "debug"])
def test_no_canary_leaves_the_process(tmp_path: Path, level: str) -> None:
    environ = {
        "LOG_LEVEL": level,
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
        "PROXY_PASSWORD": f"plain{build(820)}word",
        "SOME_SERVICE_API_KEY": build(821),
        "OTEL_RESOURCE_ATTRIBUTES": f"team={CONTROL},db.password={build(822)},x=token={build(823)}",
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
        # Each form took each of them, and the control did.
        spans = Counter(span.name for span in sink.spans)
        records = Counter(record.event_name for record in sink.logs)
        for name in ("attributes", "event", "status", "exception", "link", "baggage", "metric"):
            assert spans[f"canary.{name}"] == len(FORMS) + CONTROLS, name
        assert records["asr.tool_output"] == len(FORMS) + CONTROLS
        assert sum("canary " in span.name for span in sink.spans) == len(FORMS) + CONTROLS
        assert {f"GET /leak/{path}" for path in ("<entrance>", "keys", "environment")} <= set(spans)
        assert any(CONTROL in record.body for record in sink.logs)
        assert any(CONTROL in span.name for span in sink.spans)
        assert any(CONTROL in dict(series).values() for _, _, series in sink.points)
        assert {span.resource["team"] for span in sink.spans} == {CONTROL}
        for where, text in sent.items():
            assert leaks(text) == [], where
        assert sink.counter("telemetry.redaction.failures") == 0
        for signal in ("traces", "logs"):
            assert sink.counter("telemetry.redactions", signal=signal) > 0


_REFUSED = "http.request.refused"
# Requests in whose lines {text} stands: readable ones, and such as gunicorn refuses.
REQUESTS = {
    "path": "GET /{text} HTTP/1.1\r\nHost: h\r\n\r\n",
    "query": "GET /nowhere?{text} HTTP/1.1\r\nHost: h\r\n\r\n",
    "version": "GET /{text} HTTP/9.9\r\n\r\n",
    "method": "{text} / HTTP/1.1\r\n\r\n",
    "line": "{text}\r\n\r\n",
    "header": "GET / HTTP/1.1\r\nHost: h\r\n{text}\r\n\r\n",
    "header's name": "GET / HTTP/1.1\r\nHost: h\r\n{text} : x\r\n\r\n",
    "length": "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {text}\r\n\r\n",
    "coding": "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: {text}\r\n\r\n",
}


def _ask(port: int, request: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request.encode())
        connection.shutdown(socket.SHUT_WR)
        return connection.makefile("rb").readline()


def test_what_gunicorn_says_of_a_request_has_no_secret(tmp_path: Path) -> None:
    """At DEBUG it tells every path; pieces of what it cannot read it would tell at any level."""
    environ = {"LOG_LEVEL": "debug", "LOG_RATE_LIMIT_PER_MIN": "0"}
    secrets = [form.format(c=build(number)) for number, form in enumerate(FORMS)]
    with (
        OtlpSink() as sink,
        gunicorn(
            tmp_path, {**environ, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}, workers=1
        ) as running,
    ):
        for kind, request in REQUESTS.items():
            for text in (CONTROL, *secrets):
                for written in {quote(text), text.replace("\n", " ")}:
                    answer = _ask(running.port, request.format(text=written))
                    assert answer.startswith(b"HTTP/1.1 "), (kind, text)
        running.stop()
        sent = {
            "stderr": running.log(),
            "OTLP": b"\n".join(sink.bodies).decode("utf-8", "replace"),
        }
    for where, text in sent.items():
        assert f"GET /{CONTROL}" in text, where  # so a secret in a path could have been seen
        assert leaks(text) == [], where
    why = {log.attributes["error_type"] for log in sink.logs if log.event_name == _REFUSED}
    assert why >= {"InvalidRequestLine", "InvalidRequestMethod", "InvalidHeaderName"}


@pytest.mark.parametrize(
    ("video", "port", "said"),
    [
        # yt-dlp quotes the end of a URL that is none of YouTube's and could not be loaded …
        (f"cOnTrOl&token={build(840)}", None, f"watch?v=cOnTrOl&token={MASK}"),
        # … and the whole of a proxy's address that it cannot use.
        ("dQw4w9WgXcQ", 99_999, f"http://{MASK}@127.0.0.1:99999"),
    ],
    ids=["url", "proxy"],
)
def test_what_yt_dlp_says_of_urls_and_proxies_is_logged_without_their_secrets(
    telemetry: InMemoryTelemetry, video: str, port: int | None, said: str
) -> None:
    server = f"http://127.0.0.1:{port or free_port()}"
    proxy = Proxy(server, f"user{build(841)}", build(842), "p-1")
    with pytest.raises(TranscriptError):
        download_with_yt_dlp(Settings(_env_file=None), video, Deadline(120), proxy)
    lines = telemetry.events("asr.tool_output")
    assert any(said in line["text"] for line in lines), lines
    assert leaks(telemetry.log_text()) == []


def test_a_configuration_that_cannot_be_used_is_refused_without_its_value(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "gunicorn",
            "--config",
            "python:transcript_service.gunicorn_conf",
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
