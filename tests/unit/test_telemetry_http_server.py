"""The server span and metrics of a Flask application."""

from __future__ import annotations

import pytest
from flask import Flask, Response
from opentelemetry.trace import SpanKind, StatusCode

from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.telemetry import (
    MASK,
    current_trace_id,
    get_logger,
    instrument_app,
    span,
)

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def app(telemetry: InMemoryTelemetry) -> Flask:
    app = Flask("test")
    app.config["PROPAGATE_EXCEPTIONS"] = False
    instrument_app(app, untraced=["/alive"])

    @app.get("/alive")
    def alive() -> Response:
        with span("inside"):
            get_logger("test").info("service.started")
        return Response(current_trace_id())

    @app.get("/videos/<video>")
    def video(video: str) -> Response:
        with span("transcript.fetch"):
            return Response(current_trace_id())

    @app.get("/broken")
    def broken() -> Response:
        raise ValueError("password=hunter22")

    return app


def test_a_request_is_one_server_span_named_by_its_route(
    app: Flask, telemetry: InMemoryTelemetry
) -> None:
    answer = app.test_client().get("/videos/abc?lang=en", headers={"User-Agent": "curl"})
    server, fetch = telemetry.span("GET /videos/<video>"), telemetry.span("transcript.fetch")
    assert answer.text == telemetry.trace_id(server) == telemetry.trace_id(fetch)
    assert server.kind is SpanKind.SERVER
    assert fetch.parent is not None
    assert server.context is not None
    assert fetch.parent.span_id == server.context.span_id
    assert server.attributes == {
        "client.address": MASK,
        "server.address": "localhost",
        "server.port": 80,
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/videos/<video>",
        "network.protocol.version": "1.1",
        "url.path": "/videos/abc",
        "url.query": "lang=en",
        "url.scheme": "http",
        "user_agent.original": "curl",
    }
    assert (
        telemetry.metric(
            "http.server.request.duration",
            http_request_method="GET",
            http_route="/videos/<video>",
            http_response_status_code="200",
        )
        == 1
    )


def test_a_callers_trace_is_continued_and_its_tracestate_ignored(
    app: Flask, telemetry: InMemoryTelemetry
) -> None:
    headers = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01", "tracestate": "v=secret"}
    assert app.test_client().get("/videos/abc", headers=headers).text == TRACE_ID
    context = telemetry.span("GET /videos/<video>").context
    assert context is not None
    assert not context.trace_state


def test_unknown_paths_and_methods_do_not_become_names(
    app: Flask, telemetry: InMemoryTelemetry
) -> None:
    for number in range(3):
        app.test_client().get(f"/nowhere/{number}")
        app.test_client().open("/videos/abc", method=f"ODD{number}")
    assert {item.name for item in telemetry.spans()} == {"GET", "HTTP"}
    assert {item.status.status_code for item in telemetry.spans()} == {StatusCode.UNSET}


def test_a_failure_is_an_error_of_the_server(app: Flask, telemetry: InMemoryTelemetry) -> None:
    assert app.test_client().get("/broken").status_code == 500
    server = telemetry.span("GET /broken")
    assert server.status.status_code is StatusCode.ERROR
    assert (server.attributes or {})["error.type"] == "500"
    assert (
        telemetry.metric(
            "http.server.request.duration",
            http_request_method="GET",
            http_route="/broken",
            http_response_status_code="500",
            error_type="500",
        )
        == 1
    )


def test_an_exception_that_reaches_the_server_ends_the_span_too(
    app: Flask, telemetry: InMemoryTelemetry
) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = True
    with pytest.raises(ValueError, match="password"):
        app.test_client().get("/broken")
    assert telemetry.span("GET /broken").status.status_code is StatusCode.ERROR
    assert telemetry.metrics(zeros=True)["http.server.active_requests", ()] == 0
    assert current_trace_id() == "0" * 32


@pytest.mark.parametrize("flags", [None, "00", "01"])
def test_an_untraced_path_has_metrics_and_a_trace_id_and_no_span(
    app: Flask, telemetry: InMemoryTelemetry, flags: str | None
) -> None:
    headers = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-{flags}"} if flags else {}
    answer = app.test_client().get("/alive", headers=headers)
    assert telemetry.spans() == []
    assert len(answer.text) == 32
    assert answer.text == (TRACE_ID if flags else answer.text) != "0" * 32
    assert telemetry.events("service.started")[0]["trace_id"] == answer.text
    labels = {"http_request_method": "GET", "http_response_status_code": "200"}
    assert telemetry.metric("http.server.request.duration", http_route="/alive", **labels) == 1
    # The next request on the same thread is traced again.
    app.test_client().get("/videos/abc")
    assert telemetry.span("GET /videos/<video>")


def test_methods_paths_and_agents_are_as_the_conventions_say(
    app: Flask, telemetry: InMemoryTelemetry
) -> None:
    client = app.test_client()
    client.open("/videos/h\u00e9llo w", method="BREW", headers={"User-Agent": ""})
    (server,) = telemetry.spans()
    attributes = dict(server.attributes or {})
    assert attributes["http.request.method"] == "_OTHER"
    assert attributes["http.request.method_original"] == "BREW"
    assert attributes["url.path"] == "/videos/h%C3%A9llo%20w"
    assert "user_agent.original" not in attributes
