"""Every route × every scope × every state a token can be in; origins; peers without tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from stack.layout import CHECKOUT
from tests.dashboard_fakes import FakeEngine, json_of, service
from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.tokens import SCOPES, TokenStore

TRACE = "/api/dashboard/traces/4bf92f3577b34da6a3ce929d0e0e4736"
# Route and the scope that opens it: the table of the design, written out by hand.
ROUTES = {
    "/api/dashboard/metrics": "metrics:read",
    "/api/dashboard/metrics/health": "metrics:read",
    "/api/dashboard/metrics/performance": "metrics:read",
    "/api/dashboard/metrics/circuit-breaker": "metrics:read",
    "/api/dashboard/metrics/browser-contexts": "metrics:read",
    "/api/dashboard/metrics/proxy": "proxy:read",
    "/api/dashboard/metrics/alerts": "alerts:read",
    "/api/dashboard/metrics/export": "export:read",
    TRACE: "metrics:read",
    "/api/dashboard/traces": "metrics:read",
    "/api/dashboard/failures": "metrics:read",
    "/api/dashboard/logs": "metrics:read",
}
ORIGIN = "https://grafana.example.org"


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    engine = FakeEngine()
    yield engine
    engine.close()


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    return TokenStore(tmp_path / "tokens.json")


STATIC = CHECKOUT / "service/transcript_service/dashboard/page/static"


@pytest.fixture
def client(engine: FakeEngine, tmp_path: Path) -> FlaskClient:
    app = service(tmp_path, engine.url, dashboard_cors_origins=(ORIGIN,))
    return app.test_client()


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def test_the_table_has_every_route_of_the_dashboard(client: FlaskClient) -> None:
    rules = {
        rule.rule.replace("<trace_id>", TRACE.rsplit("/", 1)[1])
        for rule in client.application.url_map.iter_rules()
        if rule.rule.startswith("/api/dashboard")
    }
    assert rules == set(ROUTES)


@pytest.mark.parametrize("held", SCOPES)
@pytest.mark.parametrize(("route", "needed"), ROUTES.items())
def test_a_scope_opens_its_routes_and_no_other(
    client: FlaskClient, store: TokenStore, route: str, needed: str, held: str
) -> None:
    _, text = store.create("a", [held], timedelta(days=1))
    answer: Any = client.get(route, headers=bearer(text))
    if held == needed:
        assert answer.status_code in (200, 404)  # 404: the fake engine has no trace
        assert answer.status_code == 200 or answer.json["code"] == "trace_not_found"
    else:
        assert (answer.status_code, answer.json["code"]) == (403, "scope_missing")


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("case", ["none", "wrong", "expired", "revoked", "other store", "query"])
def test_without_a_valid_token_nothing_opens(
    client: FlaskClient, store: TokenStore, tmp_path: Path, route: str, case: str
) -> None:
    token, text = store.create("a", SCOPES, timedelta(days=1))
    headers: dict[str, str] = bearer(text)
    query = {}
    if case == "none":
        headers = {}
    elif case == "wrong":
        headers = bearer("tdash_" + "0" * 12 + "_" + "0" * 72)
    elif case == "revoked":
        store.revoke(token.id)
    elif case == "expired":
        file = tmp_path / "tokens.json"
        file.write_text(file.read_text().replace('"expires_at": "2', '"expires_at": "1'))
    elif case == "other store":
        headers = bearer(
            TokenStore(tmp_path / "other.json").create("a", SCOPES, timedelta(days=1))[1]
        )
    else:
        headers, query = {}, {"access_token": text}
    answer: Any = client.get(route, headers=headers, query_string=query)
    assert answer.status_code == 401
    assert answer.content_type == "application/problem+json"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    # one answer for unknown, expired and revoked, so that a guesser learns nothing
    expected = "token_missing" if case in ("none", "query") else "token_invalid"
    assert answer.json["code"] == expected


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic YTpi", "bearer x y", "Bearer " + "a" * 10_000, "\xff"],
)
def test_a_malformed_authorization_header_is_unauthorised(
    client: FlaskClient, store: TokenStore, header: str
) -> None:
    store.create("a", SCOPES, timedelta(days=1))
    answer: Any = client.get("/api/dashboard/metrics", headers={"Authorization": header})
    assert answer.status_code == 401


def test_the_overview_hides_the_blocks_that_a_token_does_not_open(
    client: FlaskClient, store: TokenStore
) -> None:
    _, narrow = store.create("a", ["metrics:read"], timedelta(days=1))
    _, wide = store.create("b", SCOPES, timedelta(days=1))
    # the wide one first, so that its answers are in the cache
    assert client.get("/api/dashboard/metrics", headers=bearer(wide)).status_code == 200
    blocks = json_of(client.get("/api/dashboard/metrics", headers=bearer(narrow)))["blocks"]
    refused = {name for name, block in blocks.items() if block.get("reason") == "scope"}
    assert refused == {"proxy", "alerts"}
    assert all(blocks[name]["data"] is None for name in refused)


def test_a_narrow_token_gets_another_etag_than_a_wide_one(
    client: FlaskClient, store: TokenStore
) -> None:
    tags = set()
    for name, scopes in (("a", ["metrics:read"]), ("b", SCOPES)):
        _, text = store.create(name, scopes, timedelta(days=1))
        tags.add(client.get("/api/dashboard/metrics", headers=bearer(text)).headers["ETag"])
    assert len(tags) == 2


def test_guessing_is_throttled_and_counted_while_a_valid_token_still_works(
    client: FlaskClient, store: TokenStore, telemetry: InMemoryTelemetry
) -> None:
    _, text = store.create("a", SCOPES, timedelta(days=1))
    path = "/api/dashboard/metrics/health"
    statuses = [client.get(path, headers=bearer("tdash_guess")).status_code for _ in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    last: Any = client.get(path, headers=bearer("tdash_guess"))
    assert 0 < int(last.headers["Retry-After"]) <= 61
    assert client.get(path, headers=bearer(text)).status_code == 200
    assert telemetry.metric("dashboard.auth.failures", reason="malformed") == 10
    assert telemetry.metric("dashboard.auth.failures", reason="throttled") == 3


def test_a_damaged_token_file_closes_the_api(client: FlaskClient, tmp_path: Path) -> None:
    (tmp_path / "tokens.json").write_text("{")
    for route in ROUTES:
        answer: Any = client.get(route)
        assert (answer.status_code, answer.json["code"]) == (503, "tokens_unreadable")


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("peer", "headers", "served"),
    [
        ("127.0.0.1", {}, True),
        ("::1", {"Host": "[::1]:5000"}, True),
        ("127.0.0.1", {"Host": "localhost:5000"}, True),
        ("10.1.2.3", {}, False),
        ("172.17.0.1", {}, False),
        ("127.0.0.1", {"Host": "evil.example"}, False),  # DNS rebinding
        ("127.0.0.1", {"Host": "localhost.evil.example"}, False),
        ("127.0.0.1", {"X-Forwarded-For": "10.1.2.3"}, False),
        ("127.0.0.1", {"X-Forwarded-Proto": "https"}, False),
        ("127.0.0.1", {"X-Real-IP": "10.1.2.3"}, False),
        ("127.0.0.1", {"Via": "1.1 proxy"}, False),
        ("127.0.0.1", {"CF-Connecting-IP": "10.1.2.3"}, False),
        ("10.1.2.3", {"X-Forwarded-For": "127.0.0.1"}, False),
        ("127.0.0.1", {"Forwarded": "for=10.1.2.3"}, False),
    ],
)
def test_where_the_launcher_opened_it_only_this_machine_is_served(
    client: FlaskClient, route: str, peer: str, headers: dict[str, str], served: bool
) -> None:
    answer: Any = client.get(route, headers=headers, environ_base={"REMOTE_ADDR": peer})
    if served:
        assert answer.status_code in (200, 404)
    else:
        assert (answer.status_code, answer.json["code"]) == (403, "tokens_not_configured")


@pytest.mark.parametrize("route", ROUTES)
def test_behind_a_proxy_that_sends_no_header_nothing_is_open_by_itself(
    engine: FakeEngine, tmp_path: Path, route: str
) -> None:
    # What the service sees of a client of nginx's bare `proxy_pass http://127.0.0.1:5000`.
    app = service(tmp_path, engine.url, dashboard_open_on_loopback=False)
    headers = {"Host": "127.0.0.1:5000", "Connection": "close"}
    answer: Any = app.test_client().get(
        route, headers=headers, environ_base={"REMOTE_ADDR": "127.0.0.1"}
    )
    assert (answer.status_code, answer.json["code"]) == (403, "tokens_not_configured")


@pytest.mark.parametrize("lost", ["deleted", "empty list"])
def test_a_token_file_that_is_lost_does_not_open_the_api_again(
    client: FlaskClient, store: TokenStore, tmp_path: Path, lost: str
) -> None:
    assert client.get("/api/dashboard/metrics").status_code == 200
    store.create("a", SCOPES, timedelta(days=1))
    assert client.get("/api/dashboard/metrics").status_code == 401
    file = tmp_path / "tokens.json"
    if lost == "empty list":
        file.write_text("[]")
    else:
        file.unlink()
    answer: Any = client.get("/api/dashboard/metrics")
    assert (answer.status_code, answer.json["code"]) == (403, "tokens_not_configured")


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (ORIGIN, True),
        ("http://grafana.example.org", False),
        ("https://grafana.example.org:8443", False),
        ("https://grafana.example.org.evil.example", False),
        ("https://evil-grafana.example.org", False),
        ("https://GRAFANA.example.org", False),
        ("null", False),
        ("*", False),
        ("", False),
    ],
)
def test_only_listed_origins_may_read_across(
    client: FlaskClient, origin: str, allowed: bool
) -> None:
    answer: Any = client.get("/api/dashboard/metrics/health", headers={"Origin": origin})
    assert ("Access-Control-Allow-Origin" in answer.headers) is allowed
    assert "Origin" in answer.vary
    assert "Access-Control-Allow-Credentials" not in answer.headers
    if allowed:
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
def test_a_preflight_allows_reading_only(client: FlaskClient, method: str) -> None:
    answer: Any = client.options(
        "/api/dashboard/metrics",
        headers={"Origin": ORIGIN, "Access-Control-Request-Method": method},
    )
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Methods"] == "GET, OPTIONS"
    assert answer.headers["Access-Control-Allow-Headers"] == "Authorization, If-None-Match"
    assert answer.headers["Access-Control-Max-Age"] == "600"


def test_a_preflight_from_elsewhere_allows_nothing(client: FlaskClient) -> None:
    answer: Any = client.options(
        "/api/dashboard/metrics",
        headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"},
    )
    assert not any(name.startswith("Access-Control") for name, _ in answer.headers)


def test_a_wildcard_among_the_origins_opens_nothing(engine: FakeEngine, tmp_path: Path) -> None:
    client = service(tmp_path, engine.url, dashboard_cors_origins=("*", "null")).test_client()
    for origin in ("https://evil.example", "null", "*"):
        answer: Any = client.get("/api/dashboard/metrics", headers={"Origin": origin})
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_below_a_sub_path_the_page_stays_below_it(client: FlaskClient) -> None:
    below = {"SCRIPT_NAME": "/video"}  # as gunicorn gives it from its own environment
    page = client.get("/dashboard", environ_overrides=below).text
    assert 'data-root="/video"' in page
    addresses = re.findall(r'(?:href|src)="([^"#]*)"', page)
    assert addresses
    assert all(address.startswith("/video/") for address in addresses)
    # The scripts take that path for everything they ask and link to.
    for script in STATIC.glob("*.js"):
        assert not re.findall(r"""(?:fetch\(|href: )[`"']/""", script.read_text()), script.name
