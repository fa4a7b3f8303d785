"""The real application with one more route, which leaks on purpose.

`GET /leak/FORMS/...` pushes canaries through every way out that code in the process has: it
does what a careless change might do one day. `tests/faults/test_telemetry_canaries.py` and
`tests/integration/test_canaries.py` then search every place where telemetry ends up.
"""

from __future__ import annotations

import gc
import http.client
import logging
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator

from flask import Flask, Response
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry._logs import LogRecord, SeverityNumber, get_logger_provider
from opentelemetry.trace import Link, SpanContext, StatusCode, TraceFlags

from tests.canaries import FORMS, KEYS, PREFIX, build
from transcript_service.telemetry import (
    emit_performance_metric,
    get_logger,
    instruments,
    log_context,
    log_performance,
    record_error,
    span,
)
from transcript_service.web import create_app as create_real_app

log = get_logger("tests.canary_app")

# Not a secret, pushed through the same ways: what must be found everywhere.
CONTROL = "cOnTrOl-oF-tHe-sEaRcH"
# How often `push` sends it: before, among and after the secrets.
CONTROLS = 3


def _three_causes_deep(text: str) -> Exception:
    error = RuntimeError("the outer of four")
    error.__cause__ = OSError("the second")
    error.__cause__.__context__ = ValueError("the third")
    error.__cause__.__context__.__cause__ = KeyError(text)
    error.add_note(f"note: {text}")
    return error


def _log_field(text: str) -> None:
    log.warning("browser.console", text=text, nested={"list": [text, (text,)]})


def _log_context(text: str) -> None:
    with log_context(detail=text):
        log.info("browser.console")


def _log_exception(text: str) -> None:
    log.error("http.request.failed", exc_info=_three_causes_deep(text))


def _library_record(text: str) -> None:
    logging.getLogger("some.library").warning("it said %s", text, extra={"detail": text})


def _library_exception(text: str) -> None:
    logging.getLogger("some.library").error("failed", exc_info=_three_causes_deep(text))


def _tool_output(text: str) -> None:
    log.info("asr.tool_output", tool="yt-dlp", text=f"[debug] Command-line: yt-dlp {text}")


def _python_warning(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(text, stacklevel=1)


def _thread_exception(text: str) -> None:
    def fails() -> None:
        raise _three_causes_deep(text)

    thread = threading.Thread(target=fails)
    thread.start()
    thread.join()


def _ignored_exception(text: str) -> None:
    def generator() -> Iterator[None]:
        try:
            yield
        finally:
            raise ValueError(text)

    running = generator()
    next(running)
    del running
    gc.collect()


def _otel_log(text: str) -> None:
    get_logger_provider().get_logger("some.library").emit(
        LogRecord(
            severity_number=SeverityNumber.INFO,
            severity_text="INFO",
            body=f"body {text}",
            attributes={"detail": text, "list": [text]},
        )
    )


def _span_attributes(text: str) -> None:
    with span("canary.attributes", detail=text, items=[text, "x"]):
        pass


def _span_name(text: str) -> None:
    with span(f"canary {text}"):
        pass


def _span_event(text: str) -> None:
    with span("canary.event") as opened:
        opened.add_event(f"event {text}", {"detail": text, "list": (text,)})


def _span_status(text: str) -> None:
    with span("canary.status") as opened:
        opened.set_status(StatusCode.ERROR, text)


def _span_exception(text: str) -> None:
    with span("canary.exception") as opened:
        record_error(opened, _three_causes_deep(text))


def _span_link(text: str) -> None:
    context = SpanContext(0xABC, 0xDEF, True, TraceFlags(1))
    tracer = trace.get_tracer("some.library")
    with tracer.start_as_current_span("canary.link", links=[Link(context, {"detail": text})]):
        pass


def _baggage(text: str) -> None:
    token = otel_context.attach(baggage.set_baggage("detail", text))
    try:
        with span("canary.baggage"):
            log.info("browser.console")
    finally:
        otel_context.detach(token)


def _metric_label(text: str) -> None:
    with span("canary.metric"):
        # Of two kinds: with an exemplar, and with room for every form.
        instruments.PROXY_PREFLIGHT_DURATION.record(0.1, proxy=text, outcome="success")
        instruments.ALERTS_RECEIVED.add(1, alertname=text, status="firing")


def _measurement(text: str) -> None:
    with log_performance("canary.measure", detail=text):
        pass
    emit_performance_metric("browser.memory.usage", 1, {"detail": text}, "MiB")
    emit_performance_metric(text, 1)


ENTRANCES: dict[str, Callable[[str], None]] = {
    function.__name__.strip("_"): function
    for function in (
        _log_field,
        _log_context,
        _log_exception,
        _library_record,
        _library_exception,
        _tool_output,
        _python_warning,
        _thread_exception,
        _ignored_exception,
        _otel_log,
        _span_attributes,
        _span_name,
        _span_event,
        _span_status,
        _span_exception,
        _span_link,
        _baggage,
        _metric_label,
        _measurement,
    )
}
_SHARED = "plain words only the environment knows: "


def create_app() -> Flask:
    """What gunicorn loads."""
    app = create_real_app()

    @app.get("/leak/<entrance>")
    def leak(entrance: str) -> Response:
        for number, form in enumerate(FORMS):
            ENTRANCES[entrance](form.format(c=build(number)))
        return Response("leaked")

    @app.get("/leak/keys")
    def keys() -> Response:
        for number, key in enumerate(KEYS, start=300):
            log.info("browser.console", **{key: build(number)})
            with span("canary.keys") as opened:
                opened.set_attribute(key, build(number))
                opened.set_attribute(f"http.request.header.{key}", (build(number),))
        return Response("leaked")

    @app.get("/leak/environment")
    def environment() -> Response:
        log.info("browser.console", text=_SHARED + os.environ["PROXY_PASSWORD"])
        with span("canary.environment", detail=_SHARED + os.environ["PROXY_PASSWORD"]):
            pass
        return Response("leaked")

    @app.get("/leak/uncaught/<int:form>")
    def uncaught(form: int) -> Response:
        raise _three_causes_deep(FORMS[form].format(c=build(form)))

    @app.get("/control")
    def control() -> Response:
        for entrance in ENTRANCES.values():
            entrance(CONTROL)
        with log_performance(CONTROL):
            pass
        return Response("controlled")

    @app.get("/mark/<text>")
    def mark(text: str) -> Response:
        """Text that is no secret, by one way of each signal."""
        for entrance in (_log_field, _span_attributes, _metric_label):
            entrance(text)
        return Response("marked")

    return app


# Headers a caller can send; none may come back out.
HEADERS = {
    "Authorization": f"Bearer {build(800)}",
    "Cookie": f"SID={build(801)}",
    "X-Forwarded-For": build(802),
    "X-Api-Key": build(803),
    "tracestate": f"vendor={build(804)}",
    "baggage": f"user={build(805)}",
    "User-Agent": f"curl/8 token={build(806)}",
    "Referer": f"https://u:{build(807)}@h/?token={build(808)}",
    "Proxy-Authorization": f"Basic {build(809)}==",
}


def paths() -> list[str]:
    """Requests that carry every form into every way out."""
    wanted = [f"/leak/{entrance}" for entrance in ENTRANCES]
    wanted += [f"/leak/uncaught/{form}" for form in range(len(FORMS))]
    wanted += ["/leak/keys", "/leak/environment"]
    wanted += [
        f"/api/transcripts/dQw4w9WgXc!?token={build(810)}",
        f"/api/transcripts/https://www.youtube.com/watch?v=x&sig={build(811)}",
        f"/nowhere?token={build(812)}",
        f"/api/dashboard/metrics?token={build(813)}",
        f"/control?v={build(814)}-and-much-more-than-fits-into-any-video-id-of-eleven-characters-x",
    ]
    return wanted


def push(port: int) -> None:
    """Send all of them, with telling headers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for path in ["/control", *paths(), "/control"]:
        connection.request("GET", path.replace(" ", "%20"), headers=HEADERS)
        response = connection.getresponse()
        response.read()
        # A path that is none would push nothing, and nothing would be found.
        expected = 500 if path.startswith("/leak/uncaught") else 200
        if path.startswith(("/leak", "/control")):
            assert response.status == expected, (path, response.status)
    connection.close()


def leaks(text: str) -> list[str]:
    """What is around each canary."""
    return [text[max(0, m.start() - 60) : m.end() + 20] for m in re.finditer(PREFIX, text)]
