"""The native stack with the real engines: what it keeps and masks.

The launcher's own behaviour (failures, signals, builds) is in test_stack_launcher.py,
with stand-ins; a whole stack under kill -9 is in tests/faults/.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
import requests

from stack.pins import ENGINES
from stack.supervise import Supervisor, orphans
from tests.live import LiveStack, change_config, layout, new_stack, wait_for
from tests.serving import serving

pytestmark = pytest.mark.timeout(1800)  # the first run may have to build the engines

ENGINE_NAMES = [engine.name for engine in ENGINES]


@pytest.fixture(scope="module")
def stack() -> Iterator[LiveStack]:
    """The five engines on ports of their own, from an empty state folder; no service."""
    with new_stack("engines") as running:
        bring_up(running)
        yield running


def bring_up(stack: LiveStack) -> None:
    stack.up("--without", "service")


def all_ready(stack: LiveStack) -> bool:
    return stack.launcher("status").returncode == 0


@dataclass
class Sent:
    """One span, one log line and one counter that carry the same marks."""

    trace_id: str = field(default_factory=lambda: secrets.token_hex(16))
    service: str = field(default_factory=lambda: f"probe-{secrets.token_hex(4)}")


SECRETS = {
    "http.request.header.cookie": "SID=canary-cookie",
    "access_token": "canary-token",
    "authorization.used": "Bearer canary-0123456789",
    "url.full": "https://user:canary-pw@h/timedtext?v=dQw4w9WgXcQ&sig=canary-sig&lang=en",
    "api": "AIzaSyCanary0123456789012345678901234567",
}
PLAIN = {
    "video_id": "dQw4w9WgXcQ",
    "stage": "timedtext",
    "outcome": "success",
    "error_type": "po_token_required",
    "profile": "desktop",
}


def send(stack: LiveStack) -> Sent:
    """Sends the three signals to the Collector; it answers when they are on its disk."""
    sent, span_id, now = Sent(), secrets.token_hex(8), time.time_ns()
    attributes = _pairs(PLAIN | SECRETS)
    resource = {"attributes": _pairs({"service.name": sent.service, "service.instance.id": "w1"})}
    span = {
        "traceId": sent.trace_id,
        "spanId": span_id,
        "name": "transcript.stage",
        "kind": 1,
        "startTimeUnixNano": str(now - 250_000_000),
        "endTimeUnixNano": str(now),
        "attributes": attributes,
    }
    record = {
        "traceId": sent.trace_id,
        "spanId": span_id,
        "timeUnixNano": str(now),
        "severityText": "INFO",
        "body": {"stringValue": "asked with Bearer canary-0123456789 for dQw4w9WgXcQ"},
        "attributes": attributes,
    }
    point = {"startTimeUnixNano": str(now - 10**9), "timeUnixNano": str(now), "asInt": "7"}
    counter = {
        "name": "probe.runs",
        "sum": {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": [point]},
    }
    for signal_, groups, scopes, items, item in (
        ("traces", "resourceSpans", "scopeSpans", "spans", span),
        ("logs", "resourceLogs", "scopeLogs", "logRecords", record),
        ("metrics", "resourceMetrics", "scopeMetrics", "metrics", counter),
    ):
        body = {groups: [{"resource": resource, scopes: [{"scope": {}, items: [item]}]}]}
        url = stack.layout.url("otlp-http", f"/v1/{signal_}")
        answer = requests.post(url, json=body, timeout=10)
        assert answer.status_code == 200, answer.text
    return sent


def _pairs(attributes: dict[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": text}} for key, text in attributes.items()]


def arrived(stack: LiveStack, sent: Sent, timeout_s: float = 60) -> dict[str, str]:
    """Waits until all three signals are where they belong; the log line with its attributes."""
    lines = f'{{"service.name"="{sent.service}"}} trace_id:="{sent.trace_id}"'
    wait_for("the span in Jaeger", lambda: stack.spans(sent.trace_id), timeout_s)
    wait_for(
        "the counter in Prometheus",
        lambda: stack.number(f'last_over_time(probe_runs_total{{job="{sent.service}"}}[1h])') == 7,
        timeout_s,
    )
    return wait_for("the line in VictoriaLogs", lambda: stack.log_lines(lines), timeout_s)[0]


def test_every_engine_serves_and_is_scraped(stack: LiveStack) -> None:
    assert all_ready(stack)

    def jobs_up() -> set[str]:
        return {sample["metric"]["job"] for sample in stack.query("up == 1")}

    wait_for("every scrape", lambda: jobs_up() == set(ENGINE_NAMES))
    alertmanagers = requests.get(
        stack.layout.engine("prometheus", "/api/v1/alertmanagers"), timeout=10
    ).json()["data"]["activeAlertmanagers"]
    assert [entry["url"] for entry in alertmanagers] == [
        stack.layout.url("alertmanager", "/api/v2/alerts")
    ]


def test_secrets_are_masked_on_the_way_and_everything_else_arrives(stack: LiveStack) -> None:
    sent = send(stack)
    line = arrived(stack, sent)

    (span,) = stack.spans(sent.trace_id)
    tags = {tag["key"]: tag["value"] for tag in span["tags"]}
    for key, value in PLAIN.items():
        assert tags[key] == value
        assert line[key] == value
    assert line["trace_id"] == sent.trace_id
    assert tags["url.full"] == "https****h/timedtext?v=dQw4w9WgXcQ&****&lang=en"
    assert line["_msg"] == "asked with **** for dQw4w9WgXcQ"
    assert "canary" not in json.dumps([span, line]).lower()
    # Whoever looks for holes in the first net finds them by this.
    assert tags["redaction.masked.count"] == len(SECRETS)


def test_span_metrics_are_native_histograms_in_seconds_with_the_trace_as_exemplar(
    stack: LiveStack,
) -> None:
    sent = send(stack)
    selector = f'traces_span_metrics_duration_seconds{{service_name="{sent.service}"}}'

    median = wait_for(
        "the span's duration", lambda: stack.number(f"histogram_quantile(0.5, {selector})")
    )
    assert median == pytest.approx(0.25, rel=0.01)
    exemplars = wait_for("the exemplar", lambda: stack.exemplars(selector))
    assert exemplars[0]["labels"]["trace_id"] == sent.trace_id
    (series,) = stack.query(selector)
    # No worker's identity: it would outlive the worker, and its target_info with it.
    assert set(series["metric"]) == {
        "__name__",
        "service_name",
        "span_name",
        "span_kind",
        "status_code",
        "stage",
        "outcome",
    }


def test_label_names_need_no_quotes(stack: LiveStack) -> None:
    names = requests.get(stack.layout.engine("prometheus", "/api/v1/labels"), timeout=10).json()

    assert [name for name in names["data"] if "." in name] == []


def test_logs_are_streams_by_service_and_not_by_worker(stack: LiveStack) -> None:
    sent = send(stack)
    arrived(stack, sent)

    answer = requests.get(
        stack.layout.engine("victorialogs", "/select/logsql/streams"),
        {"query": f'{{"service.name"="{sent.service}"}}'},
        timeout=10,
    ).json()
    streams = [stream["value"] for stream in answer["values"]]
    assert streams == [f'{{service.name="{sent.service}"}}']


def test_what_the_collector_accepted_outlives_it_while_every_backend_is_away(
    stack: LiveStack,
) -> None:
    supervisor = Supervisor(stack.layout)
    backends = ["prometheus", "victorialogs", "jaeger"]
    supervisor.stop(backends)
    sent = [send(stack) for _ in range(5)]
    os.kill(stack.pid("otel-collector"), signal.SIGKILL)

    bring_up(stack)

    for one in sent:
        arrived(stack, one)


def test_state_survives_down_and_up(stack: LiveStack) -> None:
    sent = send(stack)
    arrived(stack, sent)
    silence = silence_everything(stack)
    token = stack.layout.webhook_token.read_text()

    stack.down()
    assert orphans(stack.layout) == []
    assert Supervisor(stack.layout).pid() is None
    bring_up(stack)

    arrived(stack, sent)
    assert silence in {entry["id"] for entry in silences(stack)}
    assert stack.layout.webhook_token.read_text() == token


def silence_everything(stack: LiveStack) -> str:
    now = datetime.now(UTC)
    body = {
        "matchers": [{"name": "alertname", "value": "Kept", "isRegex": False, "isEqual": True}],
        "startsAt": now.isoformat(),
        "endsAt": (now + timedelta(hours=1)).isoformat(),
        "createdBy": "test",
        "comment": "must survive",
    }
    url = stack.layout.engine("alertmanager", "/api/v2/silences")
    answer = requests.post(url, json=body, timeout=10)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["silenceID"])


def silences(stack: LiveStack) -> list[dict[str, Any]]:
    url = stack.layout.engine("alertmanager", "/api/v2/silences")
    found: list[dict[str, Any]] = requests.get(url, timeout=10).json()
    return found


def test_an_alert_reaches_the_services_webhook_with_the_token(stack: LiveStack) -> None:
    received: list[tuple[str, str, Any]] = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            received.append((self.path, self.headers["Authorization"], body))
            self.send_response(200)
            self.end_headers()

    change_config(stack, "alertmanager", {"group_wait: 30s": "group_wait: 1s"})
    with serving(Webhook, stack.layout.port("service")):
        name = f"Test{secrets.token_hex(3)}"
        alert = {"labels": {"alertname": name, "stage": "timedtext"}}
        url = stack.layout.engine("alertmanager", "/api/v2/alerts")
        assert requests.post(url, json=[alert], timeout=10).status_code == 200
        wait_for("the webhook", lambda: any(name in json.dumps(r[2]) for r in received))

    path, authorization, _ = received[0]
    assert path == "/api/alerts/webhook"
    assert authorization == f"Bearer {stack.layout.webhook_token.read_text()}"


def test_a_second_stack_runs_beside_the_first_and_goes_without_touching_it(
    stack: LiveStack,
) -> None:
    before = {name: stack.pid(name) for name in ENGINE_NAMES}
    with new_stack("beside") as second:
        bring_up(second)
        sent = send(second)
        arrived(second, sent)
        assert stack.spans(sent.trace_id) == []

    assert {name: stack.pid(name) for name in ENGINE_NAMES} == before
    assert all_ready(stack)


def test_a_taken_port_is_said_and_the_running_stack_is_left_alone(stack: LiveStack) -> None:
    second = LiveStack(layout("clash", offset=stack.layout.offset))

    done = second.launcher("up", "--without", "service")

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    port = stack.layout.port("otlp-http")
    assert f"port {port}, which otel-collector needs (otlp-http), is taken by otelcol" in line
    assert all_ready(stack)


@pytest.fixture
def fresh() -> Iterator[LiveStack]:
    with new_stack("interrupted") as made:
        yield made


def test_ctrl_c_while_waiting_stops_what_was_started(fresh: LiveStack) -> None:
    place = fresh.layout
    process = subprocess.Popen(
        [sys.executable, "-m", "stack", "up", "--without", "service"],
        env=dict(os.environ)
        | {
            "STACK_DIR": str(place.state_dir),
            "STACK_PORT_OFFSET": str(place.offset),
            "STACK_BIN_DIR": str(place.bin_dir),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # At the first word of it: on an idle machine all engines are ready a second later.
    assert process.stdout is not None
    assert any("starting" in line for line in process.stdout)

    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert err.strip() == "stack: interrupted"
    assert orphans(place) == []
    assert fresh.launcher("status").returncode == 1


def test_the_engines_accept_their_configuration_files(stack: LiveStack) -> None:
    done = stack.launcher("check")

    assert done.returncode == 0, done.stdout
    assert all(line.endswith(": ok") for line in done.stdout.splitlines())
