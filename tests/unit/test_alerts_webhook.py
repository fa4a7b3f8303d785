"""The webhook and the runbook pages, as Alertmanager and a browser see them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.alerts import AlertLog, create_blueprint
from transcript_service.settings import Settings
from transcript_service.web import problems

TOKEN = "t0ken-of-the-webhook"
Post = Callable[..., TestResponse]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    (tmp_path / "runbooks").mkdir()
    return Settings(
        state_dir=tmp_path / "state",
        alert_webhook_token_file=tmp_path / "token",
        runbooks_dir=tmp_path / "runbooks",
    )


@pytest.fixture
def client(settings: Settings, telemetry: InMemoryTelemetry) -> FlaskClient:
    app = Flask("test")
    problems.register(app)
    app.register_blueprint(create_blueprint(settings, AlertLog(settings)))
    return app.test_client()


@pytest.fixture
def post(client: FlaskClient) -> Post:
    def send(body: Any, token: str | None = TOKEN, scheme: str = "Bearer") -> TestResponse:
        headers = {} if token is None else {"Authorization": f"{scheme} {token}"}
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        return client.post("/api/alerts/webhook", data=data, headers=headers)

    return send


def alert(**changes: Any) -> dict[str, Any]:
    return {
        "status": "firing",
        "labels": {
            "alertname": "CircuitBreakerOpenTooLong",
            "severity": "critical",
            "job": "tldw-transcript-service",
            "name": "youtubei",
        },
        "annotations": {"summary": "A circuit breaker stays open."},
        "startsAt": "2027-01-15T08:00:00.123456789Z",  # Go writes nanoseconds
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://127.0.0.1:9090/graph",
        "fingerprint": "9f00aa11bb22cc33",
        **changes,
    }


def notification(*alerts: Any) -> dict[str, Any]:
    return {"version": "4", "status": "firing", "receiver": "page", "alerts": list(alerts)}


def received(telemetry: InMemoryTelemetry, **attributes: str) -> float:
    return telemetry.metrics().get(("alerts.received", tuple(sorted(attributes.items()))), 0)


def test_an_alert_becomes_one_line_and_one_count(post: Post, telemetry: InMemoryTelemetry) -> None:
    answer = post(notification(alert()))
    assert (answer.status_code, answer.json) == (
        200,
        {"accepted": 1, "duplicates": 0, "rejected": 0},
    )
    (line,) = telemetry.events("alert.received")
    expected = {
        "level": "error",  # critical
        "alertname": "CircuitBreakerOpenTooLong",
        "severity": "critical",
        "status": "firing",
        "notification": "new",
        "fingerprint": "9f00aa11bb22cc33",
        "alert_stage": "youtubei",
        "alert_labels": "job=tldw-transcript-service, name=youtubei",
        "summary": "A circuit breaker stays open.",
    }
    assert {key: line[key] for key in expected} == expected
    assert (
        received(
            telemetry, alertname="CircuitBreakerOpenTooLong", severity="critical", status="firing"
        )
        == 1
    )


@pytest.mark.parametrize(
    ("severity", "status", "level"),
    [
        ("critical", "firing", "error"),
        ("warning", "firing", "warning"),
        ("info", "firing", "info"),
        ("critical", "resolved", "info"),
        (None, "firing", "info"),
    ],
)
def test_an_alert_is_written_at_its_severity_and_counted(
    post: Post, telemetry: InMemoryTelemetry, severity: str | None, status: str, level: str
) -> None:
    labels = {"alertname": "A"} | ({"severity": severity} if severity else {})
    post(notification(alert(status=status, labels=labels)))
    (line,) = telemetry.events("alert.received")
    assert line["level"] == level
    assert received(telemetry, alertname="A", severity=severity or "none", status=status) == 1


def test_the_same_delivery_again_is_neither_written_nor_counted(
    post: Post, telemetry: InMemoryTelemetry
) -> None:
    post(notification(alert()))
    assert post(notification(alert())).json == {"accepted": 0, "duplicates": 1, "rejected": 0}
    assert len(telemetry.events("alert.received")) == 1


def test_the_end_of_an_alert_is_a_line_of_its_own(post: Post, telemetry: InMemoryTelemetry) -> None:
    post(notification(alert()))
    post(notification(alert(status="resolved", endsAt="2027-01-15T08:06:00Z")))
    lines = telemetry.events("alert.received")
    assert [(e["status"], e["notification"], e["level"]) for e in lines] == [
        ("firing", "new", "error"),
        ("resolved", "resolved", "info"),
    ]


@pytest.mark.parametrize(
    "bad",
    [
        "text",
        None,
        alert(labels={"severity": "critical"}),
        alert(labels={"alertname": 7}),
        alert(labels={f"l{n}": "x" for n in range(65)}),
        alert(labels={"alertname": "A" * 5000}),
        alert(status="burning"),
        alert(startsAt="yesterday"),
        alert(startsAt="2027-01-15T08:00:00"),
        alert(fingerprint="' OR 1=1"),
        {},
    ],
    ids=repr,
)
def test_one_bad_alert_does_not_cost_the_good_one(
    post: Post, telemetry: InMemoryTelemetry, bad: Any
) -> None:
    answer = post(notification(bad, alert()))
    assert answer.json == {"accepted": 1, "duplicates": 0, "rejected": 1}
    assert len(telemetry.events("alert.rejected")) == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"4"', b"{}", b'{"version":"3","alerts":[]}', b'{"version":"4"}',
     b'{"version":"4","alerts":{}}', b"\xff\xfe", b"[" * 100_000],
    ids=lambda body: repr(body[:20]),
)  # fmt: skip
def test_what_is_no_notification_is_refused_and_not_tried_again(
    post: Post, telemetry: InMemoryTelemetry, body: bytes
) -> None:
    answer = post(body)
    assert (answer.status_code, answer.mimetype) == (400, "application/problem+json")
    assert answer.json is not None
    assert answer.json["code"] == "bad_request"
    assert len(telemetry.events("alert.rejected")) == 1


def test_a_body_of_any_size_costs_at_most_a_megabyte(post: Post) -> None:
    assert post(b" " * (1024 * 1024 + 1)).status_code == 413


@pytest.mark.parametrize(
    ("token", "scheme"),
    [(None, ""), ("", "Bearer"), (TOKEN[:-1], "Bearer"), (TOKEN + "x", "Bearer"), (TOKEN, "Basic"),
     ("t0kén", "Bearer")],
)  # fmt: skip
def test_without_the_token_nothing_is_taken(
    post: Post, telemetry: InMemoryTelemetry, token: str | None, scheme: str
) -> None:
    answer = post(notification(alert()), token, scheme)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert TOKEN not in answer.text
    assert telemetry.events("alert.received") == []


@pytest.mark.parametrize("content", [None, "", "  \n"])
def test_a_token_that_is_not_there_locks_the_door(
    post: Post, settings: Settings, content: str | None
) -> None:
    file = settings.alert_webhook_token_file
    assert file is not None
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    for token in (TOKEN, "", None):
        answer = post(notification(alert()), token)
        assert answer.status_code == 503
        assert "ALERT_WEBHOOK_TOKEN_FILE" in answer.text


def test_the_token_can_be_changed_without_a_restart(post: Post, settings: Settings) -> None:
    assert settings.alert_webhook_token_file is not None
    settings.alert_webhook_token_file.write_text("another")
    assert post(notification(), TOKEN).status_code == 401
    assert post(notification(), "another").status_code == 200


def test_alertmanager_is_asked_to_try_again_while_the_history_cannot_be_written(
    post: Post, settings: Settings, telemetry: InMemoryTelemetry
) -> None:
    settings.state_dir.mkdir()
    file = settings.state_dir / "alerts.sqlite"
    file.write_bytes(b"this is no database" * 100)
    answer = post(notification(alert()))
    assert (answer.status_code, answer.json and answer.json["code"]) == (
        503,
        "alert_log_unavailable",
    )
    assert telemetry.events("alert.received") == []
    file.unlink()
    assert post(notification(alert())).json == {"accepted": 1, "duplicates": 0, "rejected": 0}
    assert len(telemetry.events("alert.received")) == 1


# --- runbooks -----------------------------------------------------------------------------


def test_a_runbook_is_a_page_with_its_tables_and_queries(
    client: FlaskClient, tmp_path: Path
) -> None:
    (tmp_path / "runbooks" / "DiskFull.md").write_text(
        "# DiskFull\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```promql\nup < 1\n```\n"
    )
    answer = client.get("/runbooks/DiskFull")
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    assert "<h1>DiskFull</h1>" in answer.text
    assert "<td>2</td>" in answer.text
    assert "up &lt; 1" in answer.text
    assert '<a href="runbooks/DiskFull">' in client.get("/runbooks").text


def test_a_runbook_cannot_carry_a_script(client: FlaskClient, tmp_path: Path) -> None:
    (tmp_path / "runbooks" / "Evil.md").write_text(
        "<script>alert(1)</script>\n\n[x](javascript:alert(1))\n\n<img src=x onerror=alert(1)>"
    )
    answer = client.get("/runbooks/Evil")
    assert "<script" not in answer.text
    assert "<img" not in answer.text
    assert 'href="javascript' not in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "name",
    ["Nothing", "..%2fsecret", "..%2f..%2fetc%2fpasswd", "secret.md", "%00", "a" * 200, "Ünder",
     "sub%2fDiskFull", "."],
)  # fmt: skip
def test_only_the_names_of_alerts_lead_to_a_file(
    client: FlaskClient, tmp_path: Path, name: str
) -> None:
    (tmp_path / "secret.md").write_text("a content")
    (tmp_path / "runbooks" / "sub").mkdir()
    (tmp_path / "runbooks" / "sub" / "DiskFull.md").write_text("a content")
    answer = client.get(f"/runbooks/{name}")
    assert answer.status_code == 404
    assert "a content" not in answer.text


@pytest.mark.parametrize(
    "start", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1969-12-31T23:59:59Z"]
)
def test_an_alert_with_an_impossible_time_is_refused_and_the_others_are_not(
    post: Post, settings: Settings, start: str
) -> None:
    answer = post(
        notification(
            alert(startsAt=start, fingerprint="0a"),
            alert(fingerprint="0b", status="resolved", endsAt="9999-12-31T23:59:59-14:00"),
        )
    )
    assert answer.json == {"accepted": 1, "duplicates": 0, "rejected": 1}
    assert [entry["state"] for entry in AlertLog(settings).recent(9)] == ["resolved"]


def test_five_thousand_alerts_in_one_notification_are_one_transaction(
    post: Post, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    connect = sqlite3.connect

    def counted(path: Path, **how: Any) -> sqlite3.Connection:
        opened.append(path)
        connection: sqlite3.Connection = connect(path, **how)
        return connection

    monkeypatch.setattr(sqlite3, "connect", counted)
    many = [
        {
            "status": "firing",
            "labels": {"alertname": "A", "n": str(number)},
            "startsAt": "2027-01-15T08:00:00Z",
            "fingerprint": f"{number:x}",
        }
        for number in range(5000)
    ]
    assert post(notification(*many)).json == {"accepted": 5000, "duplicates": 0, "rejected": 0}
    assert len(opened) == 1
    kept = AlertLog(settings).recent(10_000)
    assert len(kept) == min(5000, settings.alert_history_limit)
