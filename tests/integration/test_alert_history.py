"""The alert history beside a real Alertmanager: both say the same of an alert."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask
from werkzeug.serving import make_server

from tests.live import wait_for
from tests.ports import free_port
from tests.prometheus_process import binary
from transcript_service.alerts import AlertLog, create_blueprint
from transcript_service.rfc3339 import rfc3339
from transcript_service.settings import Settings
from transcript_service.web import problems

CONFIG = """\
route: {{receiver: service, group_by: [alertname], group_wait: 1s, group_interval: 2s,
  repeat_interval: 1h}}
receivers:
  - name: service
    webhook_configs:
      - url: {url}/api/alerts/webhook
        http_config: {{authorization: {{credentials: t0ken}}}}
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AlertLog:
    # Alertmanager's times here are seconds instead of minutes, and so is how late one comes.
    monkeypatch.setattr("transcript_service.alerts.log._OVERTAKEN_S", 0.5)
    return AlertLog(Settings(state_dir=tmp_path, alert_history_limit=100, alert_cooldown_s=60))


@pytest.fixture
def alertmanager(tmp_path: Path, log: AlertLog) -> Iterator[str]:
    (tmp_path / "token").write_text("t0ken")
    app = Flask("test")
    problems.register(app)
    settings = Settings(state_dir=tmp_path, alert_webhook_token_file=tmp_path / "token")
    app.register_blueprint(create_blueprint(settings, log))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "config.yml").write_text(CONFIG.format(url=f"http://127.0.0.1:{server.port}"))
    port = free_port()
    process = subprocess.Popen(
        [
            str(binary("alertmanager")),
            f"--config.file={tmp_path / 'config.yml'}",
            f"--storage.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for("Alertmanager is ready", lambda: _ready(url), 60)
        yield url
    finally:
        process.terminate()
        process.wait(30)
        server.shutdown()


def _ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/-/ready", timeout=2).ok
    except requests.ConnectionError:
        return False


def _send(url: str, start: float, end: float) -> None:
    """As Prometheus does: an end in the future while it fires."""
    alert: dict[str, Any] = {
        "labels": {"alertname": "Lapsing"},
        "startsAt": rfc3339(start, "milliseconds"),
        "endsAt": rfc3339(end, "milliseconds"),
    }
    requests.post(f"{url}/api/v2/alerts", json=[alert], timeout=5).raise_for_status()


def test_an_alert_that_lapses_and_comes_back_is_as_active_here_as_there(
    alertmanager: str, log: AlertLog
) -> None:
    def state() -> str | None:
        return next((entry["state"] for entry in log.recent(9)), None)

    def active() -> int:
        return len(requests.get(f"{alertmanager}/api/v2/alerts", timeout=5).json())

    start = time.time()
    _send(alertmanager, start, start + 3)  # nobody says that it goes on
    wait_for("the alert is told", lambda: state() == "firing", 30)
    wait_for("its lapse is told", lambda: state() == "resolved", 30)
    _send(alertmanager, start, time.time() + 600)
    wait_for("its return is told", lambda: state() == "firing", 30)
    assert (active(), state()) == (1, "firing")
