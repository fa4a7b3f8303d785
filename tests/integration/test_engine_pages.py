"""The engines' pages in a real browser: whoever signs in may use them, another page may nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, Page
from playwright.sync_api import Error as PlaywrightError

from stack.programs import PAGES, SINGLE, Options
from stack.up import summary
from tests.browser.pages import PATIENT_MS
from tests.chromium import running_chromium
from tests.live import LiveStack, wait_for
from tests.serving import serving

# What a page does to an address: `read` when it saw an answer, else why not.
ATTACK = """async ([url, options]) => {
    try {
        const answer = await fetch(url, options);
        if (answer.type === "opaque") return "sent blindly";
        return answer.ok ? "read" : `refused with ${answer.status}`;
    } catch (error) { return "kept away"; }
}"""

SILENCE = (
    '{"matchers": [{"name": "alertname", "value": ".+", "isRegex": true}], "comment": "mine",'
    ' "startsAt": "2030-01-01T00:00:00Z", "endsAt": "2030-01-02T00:00:00Z", "createdBy": "evil"}'
)
LINE = '{"_msg": "evil line", "service.name": "evil"}'
SPAN = (
    '{"resourceSpans": [{"resource": {"attributes": [{"key": "service.name", "value":'
    ' {"stringValue": "evil"}}]}, "scopeSpans": [{"spans": [{"traceId":'
    ' "4bf92f3577b34da6a3ce929d0e0e4736", "spanId": "00f067aa0ba902b7", "name": "evil",'
    ' "startTimeUnixNano": "1", "endTimeUnixNano": "2"}]}]}]}'
)
JSON = {"Content-Type": "application/json"}
# What there is to read at the engines and the service.
PATHS = (
    *("/", "/health", "/health/live", "/status", "/metrics", "/dashboard", "/api/openapi.json"),
    *("/api/transcripts/dQw4w9WgXcQ", "/api/dashboard/metrics", "/api/services"),
    *("/api/v1/query?query=up", "/api/v2/alerts", "/select/logsql/query?query=*", "/v1/traces"),
)
READ = """async (path) => {
    try {
        const answer = await fetch(path);
        return [answer.status, await answer.text()];
    } catch (error) { return [0, ""]; }  // such as a challenge that nobody answers
}"""
SEND = """async (body) => {
    const headers = {"Content-Type": "application/json"};
    try {
        return (await fetch("/v1/traces", {method: "POST", headers, body})).status;
    } catch (error) { return 0; }
}"""


# A name of somebody else's that leads to this machine: what DNS rebinding comes to.
REBOUND = "evil.example"
# Who answers under it without a password, with what: how they are, and nothing of any request.
OPEN = {
    ("collector-metrics", "/metrics"): "otelcol_",
    ("collector-health", "/"): "Server available",
    ("jaeger-metrics", "/metrics"): "jaeger_storage",
    ("jaeger-health", "/status"): "StatusOK",
    ("victorialogs", "/health"): "OK",
    ("service", "/health/live"): '"ok"',
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_chromium(f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1") as running:
        yield running


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """The address of somebody else's page: another origin, as it has another port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<p>a page")

    with serving(Handler) as port:
        yield f"http://127.0.0.1:{port}/"


def attacks(live: LiveStack) -> Iterator[tuple[str, dict[str, Any]]]:
    """What another page may try: address and fetch options."""
    url = live.layout.url
    for engine, path in (
        ("prometheus", "/api/v1/status/config"),
        ("prometheus", "/api/v1/query?query=up"),
        ("alertmanager", "/api/v2/status"),
        ("jaeger", "/api/services"),
        ("victorialogs", "/select/logsql/query?query=*"),
        ("collector-metrics", "/metrics"),
        ("jaeger-metrics", "/metrics"),
    ):
        yield url(engine, path), {}
    for engine, path, body in (
        ("alertmanager", "/api/v2/silences", SILENCE),
        ("otlp-http", "/v1/traces", SPAN),
        ("jaeger-otlp", "/v1/traces", SPAN),
        ("prometheus", "/api/v1/otlp/v1/metrics", "{}"),
        ("victorialogs", "/insert/jsonline?_stream_fields=service.name", LINE),
    ):
        yield url(engine, path), {"method": "POST", "headers": JSON, "body": body}
        # Without asking first, which a browser allows for plain text; the answer stays unseen.
        yield url(engine, path), {"method": "POST", "mode": "no-cors", "body": body}


def test_a_page_of_another_origin_reads_nothing_and_changes_nothing(
    live: LiveStack, browser: Browser, elsewhere: str
) -> None:
    page = browser.new_page()
    page.set_default_timeout(PATIENT_MS)
    page.goto(elsewhere)
    done = {
        f"{options.get('mode', '')} {url}": page.evaluate(ATTACK, [url, options])
        for url, options in attacks(live)
    }
    page.close()
    assert set(done.values()) == {"kept away", "sent blindly"}, done

    # What was sent blindly has had no effect. Something sent properly afterwards has arrived by
    # when it is looked for.
    proper = requests.post(
        live.layout.engine("victorialogs", "/insert/jsonline?_stream_fields=service.name"),
        data=LINE.replace("evil", "proper"),
        timeout=10,
    )
    assert proper.ok
    wait_for("the proper line", lambda: live.log_lines('{"service.name"="proper"}'))
    assert live.log_lines('{"service.name"="evil"}') == []
    silences = requests.get(live.layout.engine("alertmanager", "/api/v2/silences"), timeout=10)
    assert [found for found in silences.json() if found["createdBy"] == "evil"] == []
    services = requests.get(live.layout.engine("jaeger", "/api/services"), timeout=10).json()
    assert "evil" not in services["data"]


def _steadily(page: Page, act: Callable[[], Any]) -> Any:
    """What an act gives; done again where the error page of the challenge before came over it."""
    for _ in range(10):
        try:
            return act()
        except PlaywrightError as error:
            if "context was destroyed" not in str(error) and "interrupted" not in str(error):
                raise
            page.wait_for_load_state()
    raise AssertionError("the page never stood still")


def test_a_page_whose_name_leads_here_reads_numbers_of_engines_and_nothing_else(
    live: LiveStack, browser: Browser
) -> None:
    """By whole-page navigation, and by fetch, as it is of their origin then."""
    answer = live.get("/api/transcripts/dQw4w9WgXcQ")
    trace_id = answer.headers["X-Correlation-ID"]
    wait_for("the trace", lambda: live.spans(trace_id))
    page = browser.new_page()
    page.set_default_timeout(PATIENT_MS)
    read, taken = {}, set()
    for port in (port for program in SINGLE.values() for port in program.ports):
        if port.startswith("simulator") or port.endswith("grpc"):
            continue  # no HTTP/1.1 without TLS
        origin = f"http://{REBOUND}:{live.layout.port(port)}"
        for path in PATHS:
            with contextlib.suppress(PlaywrightError):  # a challenge again
                shown = _steadily(page, partial(page.goto, origin + path))
                if shown is not None and shown.status == 200:
                    read[port, path] = shown.text()
        # The last one, an error if nothing else, is a page of that origin.
        for path in PATHS:
            status, text = _steadily(page, partial(page.evaluate, READ, path))
            if status == 200:
                read[port, path] = text
        send = partial(page.evaluate, SEND, SPAN.replace("evil", "rebound"))
        if _steadily(page, send) == 200:
            taken.add(port)
    page.close()
    # The Collector takes telemetry from whoever reaches it, and its health is well whatever it is
    # sent; the stores take nothing.
    assert taken == {"otlp-http", "collector-health"}
    # Others of theirs are health again, or a list of what else there is.
    assert set(read) >= set(OPEN)
    assert {port for port, _ in read} == {port for port, _ in OPEN}, {*read}
    assert {path for port, path in read if port == "service"} == {"/health/live"}
    for where, text in read.items():
        assert OPEN.get(where, "") in text, where
        assert "dQw4w9WgXcQ" not in text
        assert trace_id not in text
        assert live.layout.engine_password.read_text() not in text


@pytest.mark.parametrize("engine", ["prometheus", "alertmanager", "jaeger", "victorialogs"])
def test_an_engine_answers_nobody_without_the_password(live: LiveStack, engine: str) -> None:
    # Also under another name than its own, as a page gets there by DNS rebinding.
    for host in (live.layout.address(engine), "evil.example"):
        answer = requests.get(live.layout.url(engine), headers={"Host": host}, timeout=10)
        assert answer.status_code == 401


def test_every_address_that_up_prints_shows_a_page_to_whoever_signs_in(
    live: LiveStack, browser: Browser
) -> None:
    printed = [line.split()[-1] for line in summary(live.layout, Options()).splitlines()]
    if len(printed) < len(PAGES):
        pytest.skip("Prometheus' page is not built here")
    password = live.layout.engine_password.read_text()
    context = browser.new_context(http_credentials={"username": "stack", "password": password})
    page = context.new_page()
    page.set_default_timeout(PATIENT_MS)
    for url in printed:
        answer = page.goto(url)
        assert answer is not None
        assert answer.status == 200, url
        page.wait_for_function("document.body.innerText.trim().length > 40")

    page.goto(live.layout.url("prometheus", "/query?g0.expr=up&g0.tab=table"))
    page.get_by_text('job="otel-collector"').first.wait_for()
    wait_for("the alert that always fires", lambda: live.query('ALERTS{alertname="Watchdog"}'))
    page.goto(live.layout.url("prometheus", "/alerts"))
    page.get_by_text("Watchdog").first.wait_for()
    live.get("/api/transcripts/dQw4w9WgXcQ")
    wait_for("a line", lambda: live.log_lines("event:*"))
    # Its page asks when it opens, and draws only what fits on the screen.
    with page.expect_response(lambda answer: "/select/logsql/query" in answer.url) as asked:
        page.goto(live.layout.url("victorialogs", "/select/vmui/#/?query=event:*"))
    assert asked.value.ok
    assert "tldw-transcript-service" in asked.value.text()
    context.close()
