"""The whole stack is searched for secrets that went through every way out of the service.

The positive control is pushed through the same ways and has to be found in the same places
by the same search.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.canaries import FORMS, KEYS, PREFIX, build
from tests.canary_app import CONTROL, ENTRANCES, leaks, push
from tests.gunicorn_process import Gunicorn, gunicorn
from tests.live import FAST_TELEMETRY, LiveStack, wait_for

SERVICE = "canary-service"
ALERT = {
    "version": "4",
    "groupKey": "{}:{alertname='Canary'}",
    "status": "firing",
    "receiver": "service",
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "Canary", "severity": "warning", "stage": "asr"},
            "annotations": {
                "summary": f"{CONTROL} token={build(830)}",
                "description": f"https://u:{build(831)}@h/?sig={build(832)}",
            },
            "startsAt": "2026-01-01T00:00:00Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "fingerprint": "0123456789abcdef",
        }
    ],
}


@pytest.fixture(scope="module")
def leaky(live: LiveStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    """A worker of its own beside the stack's, sending to the same Collector."""
    folder = tmp_path_factory.mktemp("canary")
    environ = {
        **FAST_TELEMETRY,
        "SERVICE_NAME": SERVICE,
        "OTEL_EXPORTER_OTLP_ENDPOINT": live.layout.url("otlp-http"),
        "PROMETHEUS_URL": live.layout.url("prometheus"),
        "JAEGER_URL": live.layout.url("jaeger"),
        "LOKI_URL": live.layout.url("loki"),
        "ALERTMANAGER_URL": live.layout.url("alertmanager"),
        "LOG_RATE_LIMIT_PER_MIN": "0",
        "PROXY_PASSWORD": f"plain{build(820)}word",
    }
    with gunicorn(folder, environ, app="tests.canary_app:create_app()", workers=1) as running:
        push(running.port)
        requests.post(f"http://127.0.0.1:{running.port}/api/alerts/webhook", json=ALERT, timeout=20)
        yield running


def in_jaeger(live: LiveStack, running: Gunicorn) -> str:
    found = [
        requests.get(
            live.layout.url("jaeger", "/api/traces"),
            {"service": SERVICE, "limit": 1500, "lookback": "1h", "operation": operation},
            timeout=30,
        ).text
        for operation in requests.get(
            live.layout.url("jaeger", f"/api/services/{SERVICE}/operations"), timeout=20
        ).json()["data"]
    ]
    return "\n".join(found)


def in_loki(live: LiveStack, running: Gunicorn) -> str:
    lines = live.log_lines(f'{{service_name="{SERVICE}"}}')
    return "\n".join(map(repr, lines))


def in_prometheus(live: LiveStack, running: Gunicorn) -> str:
    series = requests.get(
        live.layout.url("prometheus", "/api/v1/series"),
        {"match[]": '{__name__=~".+"}'},
        timeout=30,
    ).text
    return series + repr(live.exemplars('{job="' + SERVICE + '"}'))


def on_stderr(live: LiveStack, running: Gunicorn) -> str:
    return running.log()


def in_dashboard(live: LiveStack, running: Gunicorn) -> str:
    """The dashboard API of the leaky service: every block, the export, traces, alerts."""
    base = f"http://127.0.0.1:{running.port}/api/dashboard/metrics"
    kinds = ("", "/performance", "/health", "/proxy", "/browser-contexts", "/alerts", "/export")
    return "\n".join(requests.get(base + kind, timeout=30).text for kind in kinds)


def in_files(live: LiveStack, running: Gunicorn) -> str:
    """Logs of all engines, the Collector's queue files, write-ahead logs: as they lie on disk."""
    paths = (path for path in Path(live.layout.state_dir).rglob("*") if path.is_file())
    return "\n".join(path.read_bytes().decode("latin-1") for path in paths)


PLACES = {
    "stderr": on_stderr,
    "Loki": in_loki,
    "Jaeger": in_jaeger,
    "Prometheus": in_prometheus,
    "the dashboard API and alert payloads": in_dashboard,
    "files of the stack": in_files,
}


@pytest.mark.parametrize("place", PLACES)
def test_no_secret_arrives_anywhere_but_what_is_none_does(
    live: LiveStack, leaky: Gunicorn, place: str
) -> None:
    search = PLACES[place]

    def arrived() -> str | None:
        text = search(live, leaky)
        return text if CONTROL in text else None

    text = wait_for(f"the control in {place}", arrived, timeout_s=90)
    assert leaks(text) == []


def test_what_was_pushed_is_enough_to_mean_something(live: LiveStack, leaky: Gunicorn) -> None:
    assert len(FORMS) >= 60
    assert len({form.format(c=build(n)) for n, form in enumerate(FORMS)}) == len(FORMS)
    assert len(ENTRANCES) >= 15
    assert len(KEYS) >= 40
    spans = wait_for(
        "the spans in Jaeger",
        lambda: (text := in_jaeger(live, leaky)) and text.count('"spanID"') > 300 and text,
        timeout_s=60,
    )
    assert PREFIX not in str(spans)
