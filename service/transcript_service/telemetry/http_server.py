"""The server span and metrics of a Flask application, by the semantic conventions for HTTP.

The Flask instrumentation of OpenTelemetry gives the same names, but collects every request's
attributes twice, rebuilds its URL and counts it in and out with two synchronous counters: a
third of the CPU of a cached answer (bench/bench_telemetry.py). It also names spans of unknown
paths by the path, so that anybody can make as many span names as they like.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

from flask import Flask, request
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Span, SpanContext, SpanKind, StatusCode, TraceFlags

from . import instruments, spans
from .propagation import IncomingTraceparent

_ROUTE: Final = "transcript_service.http_route"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_ids: Final = RandomIdGenerator()
_propagator: Final = IncomingTraceparent()


class _Active:
    """How many requests are being handled; read at collection, not counted into a metric."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = 0

    def add(self, change: int) -> None:
        with self._lock:
            self.count += change


_active: Final = _Active()


def observe(meter: Meter) -> None:
    """Report the number of requests in progress."""

    def read(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(_active.count)]

    meter.create_observable_up_down_counter(
        "http.server.active_requests", [read], "{request}", "Requests being handled."
    )


def instrument_app(app: Flask, *, untraced: Collection[str] = ()) -> None:
    """Open a server span and take the time of every request of `app`.

    The span covers the handling, not the sending of a streamed body. A caller's `traceparent`
    is continued (`IncomingTraceparent`).

    Args:
        app: the application.
        untraced: paths (routes without variables) whose requests are sampled away, whatever
            the caller's trace says, with all spans below them. They have a trace id for their
            log lines and answers, and count in the metrics, like any other.
    """
    app.wsgi_app = _Middleware(app.wsgi_app, frozenset(untraced))  # type: ignore[method-assign]
    # First of all: a hook that answers by itself (a refusal) ends the list.
    app.before_request_funcs.setdefault(None, []).insert(0, _take_route)


def _take_route() -> None:
    # Known only here: when the middleware gets the answer, Flask has forgotten the request.
    if request.url_rule is not None:
        request.environ[_ROUTE] = request.url_rule.rule


def _method(environ: dict[str, Any]) -> str:
    method: str = environ.get("REQUEST_METHOD", "")
    return method if method in _METHODS else "_OTHER"


class _Middleware:
    def __init__(self, wsgi_app: Callable[..., Iterable[bytes]], untraced: frozenset[str]) -> None:
        self._wsgi_app = wsgi_app
        self._untraced = untraced

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        method = _method(environ)
        status = 500  # what a server answers for an application that raises

        def note_status(line: str, *rest: Any) -> Any:
            nonlocal status
            status = int(line[:3])
            return start_response(line, *rest)

        parent = _parent(environ)
        if environ.get("PATH_INFO") in self._untraced:
            span = _sampled_away(parent)
        else:
            span = spans.tracer().start_span(
                method, parent, kind=SpanKind.SERVER, attributes=_attributes(environ, method)
            )
        token = otel_context.attach(trace.set_span_in_context(span, parent))
        began = time.perf_counter()
        _active.add(1)
        try:
            return self._wsgi_app(environ, note_status)
        except Exception as error:
            spans.record_error(span, error)
            raise
        finally:
            _active.add(-1)
            _finish(span, method, environ.get(_ROUTE), status, time.perf_counter() - began)
            otel_context.detach(token)


def _sampled_away(parent: Context) -> Span:
    """A span that nobody records; the sampler drops its children as well."""
    caller = trace.get_current_span(parent).get_span_context()
    trace_id = caller.trace_id if caller.is_valid else _ids.generate_trace_id()
    return trace.NonRecordingSpan(
        SpanContext(trace_id, _ids.generate_span_id(), False, TraceFlags(TraceFlags.DEFAULT))
    )


def _finish(span: Span, method: str, route: str | None, status: int, duration_s: float) -> None:
    code = str(status)
    error_type = code if status >= 500 else None
    # While the span is current, so that the exemplar points to it.
    instruments.HTTP_SERVER_REQUEST_DURATION.record(
        duration_s,
        http_request_method=method,
        http_response_status_code=code,
        http_route=route,
        error_type=error_type,
    )
    known: dict[str, str | int] = {"http.response.status_code": status}
    if route is not None:
        span.update_name(f"{method} {route}")
        known["http.route"] = route
    recorded: Any = span  # the API's type does not show the status
    if error_type and recorded.is_recording() and recorded.status.is_unset:
        span.set_status(StatusCode.ERROR)
        known["error.type"] = error_type
    span.set_attributes(known)
    span.end()


def _parent(environ: dict[str, Any]) -> Context:
    traceparent = environ.get("HTTP_TRACEPARENT")
    # Not the current context: a worker thread's may hold what an earlier request left there.
    return (
        _propagator.extract({"traceparent": traceparent}, Context()) if traceparent else Context()
    )


def _attributes(environ: dict[str, Any], method: str) -> dict[str, str | int]:
    # Not the caller's address: it would be masked, and what is not collected cannot leak.
    attributes: dict[str, str | int] = {
        "http.request.method": method,
        "url.scheme": environ.get("wsgi.url_scheme", "http"),
        "url.path": environ.get("PATH_INFO", ""),
        "network.protocol.version": environ.get("SERVER_PROTOCOL", "").removeprefix("HTTP/"),
        "user_agent.original": environ.get("HTTP_USER_AGENT", ""),
    }
    query = environ.get("QUERY_STRING")
    if query:
        attributes["url.query"] = query
    if method == "_OTHER":
        attributes["http.request.method_original"] = str(environ.get("REQUEST_METHOD"))[:32]
    return attributes
