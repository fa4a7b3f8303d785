"""Who may ask for transcripts, how often, and where answers may lead."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.settings import Settings
from transcript_service.tokens import TokenStore
from transcript_service.web import create_app

PROBLEM = "application/problem+json"
# Answered without asking YouTube.
ROUTES = ("/api/transcripts/nonsense", "/api/transcripts", "/api/transcripts/", "/api/jobs/x")

ANYWHERE = "0.0.0.0:5000"


def client(folder: Path, **settings: Any) -> FlaskClient:
    return create_app(Settings(state_dir=folder, **settings)).test_client()


def bearer(folder: Path, *scopes: str) -> dict[str, str]:
    _, text = TokenStore(folder / "tokens.json").create("a", scopes, timedelta(days=1))
    return {"Authorization": f"Bearer {text}"}


@pytest.mark.parametrize("route", ROUTES)
def test_by_default_nobody_is_asked_for_a_token(tmp_path: Path, route: str) -> None:
    assert client(tmp_path).get(route).status_code in (400, 404)


@pytest.mark.parametrize("route", ROUTES)
def test_with_tokens_required_the_scope_opens_transcripts_and_jobs(
    tmp_path: Path, route: str
) -> None:
    closed = client(tmp_path, transcripts_require_token=True)
    assert closed.get(route).status_code == 403
    narrow, wide = bearer(tmp_path, "metrics:read"), bearer(tmp_path, "transcripts:read")
    assert closed.get(route).status_code == 401
    refused: Any = closed.get(route, headers=narrow)
    assert (refused.status_code, refused.json["code"]) == (403, "scope_missing")
    assert closed.get(route, headers=wide).status_code in (400, 404)


def test_a_client_over_its_limit_waits_and_others_do_not(
    tmp_path: Path, telemetry: InMemoryTelemetry
) -> None:
    limited = client(tmp_path, transcripts_per_minute=3)

    def ask(address: str) -> Any:
        return limited.get(ROUTES[0], environ_base={"REMOTE_ADDR": address})

    assert [ask("10.0.0.1").status_code for _ in range(4)] == [400, 400, 400, 429]
    late = ask("10.0.0.1")
    assert late.json["code"] == "too_many_requests"
    assert 0 < int(late.headers["Retry-After"]) <= 61
    assert ask("10.0.0.2").status_code == 400
    assert limited.get("/health/live").status_code == 200
    assert telemetry.metric("requests.rejected", reason="rate") == 2


def test_the_front_page_leads_to_the_dashboard(tmp_path: Path) -> None:
    answer = client(tmp_path, service_bind=ANYWHERE).get("/", headers={"Host": "evil.example"})
    assert (answer.status_code, answer.headers["Location"]) == (302, "/dashboard")


@pytest.mark.parametrize(
    ("bind", "listed", "host", "served"),
    [
        ("127.0.0.1:5000", "", "127.0.0.1:5000", True),
        ("127.0.0.1:5000", "", "LocalHost", True),
        ("[::1]:5000", "", "[::1]", True),
        ("localhost:5000", "", "localhost:5000", True),
        ("127.0.0.1:5000", "", "evil.example:5000", False),  # DNS rebinding
        ("localhost:5000", "", "evil.example", False),
        ("[::1]:5000", "", "evil.example:5000", False),
        ("127.0.0.1:5000", "", "127.0.0.1.evil.example:5000", False),
        ("127.0.0.1:5000", "", "evil.example/127.0.0.1", False),
        ("127.0.0.1:5000", "", "", False),
        ("127.0.0.1:5000", "video.example", "Video.Example", True),  # a proxy in front
        ("127.0.0.1:5000", "video.example", "127.0.0.1:5000", False),
        (ANYWHERE, "", "video.example", True),
        (ANYWHERE, "localhost, service", "service:5000", True),
        (ANYWHERE, "localhost, service", "evil.example:5000", False),
    ],
)
def test_a_name_that_is_not_the_services_gets_no_answer(
    tmp_path: Path, bind: str, listed: str, host: str, served: bool
) -> None:
    asked = client(tmp_path, service_bind=bind, service_hosts=listed)
    for path in (*ROUTES, "/", "/dashboard", "/api/openapi.json", "/health/x", "/nowhere"):
        answer: Any = asked.get(path, headers={"Host": host})
        assert (answer.status_code != 421) is served, path
        assert served or answer.json["code"] == "misdirected_request"


def test_probes_and_alertmanager_need_not_know_the_public_name(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("sesame")
    asked = client(
        tmp_path, service_hosts="video.example", alert_webhook_token_file=tmp_path / "token"
    )
    for host in ("127.0.0.1:5000", "10.1.2.3:5000", "service:5000"):
        assert asked.get("/health/live", headers={"Host": host}).status_code == 200
        assert asked.get("/health/ready", headers={"Host": host}).status_code == 200
        told: Any = asked.post(
            "/api/alerts/webhook",
            json={"version": "4", "alerts": []},
            headers={"Host": host, "Authorization": "Bearer sesame"},
        )
        assert told.status_code == 200
        refused = asked.post("/api/alerts/webhook", json={"alerts": []}, headers={"Host": host})
        assert refused.status_code == 401
        assert asked.get("/api/alerts/webhook", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize(
    "path", ["/api/transcripts", "/dashboard/", "/runbooks/", "/api/jobs", "//evil.example/x", "/"]
)
def test_no_answer_leads_where_the_host_header_says(tmp_path: Path, path: str, method: str) -> None:
    answer = client(tmp_path, service_bind=ANYWHERE).open(
        path,
        method=method,
        headers={"Host": "evil.example", "X-Forwarded-Host": "evil.example"},
    )
    assert "evil.example" not in answer.headers.get("Location", "")
    if answer.status_code >= 400:
        assert answer.mimetype == PROBLEM


@pytest.mark.parametrize("text", ["x", "g" * 32, '"><script>alert(1)</script>', "..", "0" * 10_000])
def test_what_is_no_trace_id_gets_the_page_that_says_so(tmp_path: Path, text: str) -> None:
    answer = client(tmp_path).get(f"/dashboard/trace/{quote(text, safe='')}")
    assert (answer.status_code, answer.mimetype) in ((400, "text/html"), (404, PROBLEM))
    assert answer.mimetype == PROBLEM or "<script>alert" not in answer.text
    assert len(answer.text) < 10_000


def test_the_description_of_the_api_is_sent_once(tmp_path: Path) -> None:
    asked = client(tmp_path)
    first = asked.get("/api/openapi.json")
    again = asked.get("/api/openapi.json", headers={"If-None-Match": first.headers["ETag"]})
    assert (first.status_code, again.status_code, again.data) == (200, 304, b"")
