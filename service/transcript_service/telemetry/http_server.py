"""The server span and metrics of a Flask application, by OpenTelemetry's own instrumentation.

Added here is what it leaves open: unknown paths give no names, paths that nobody wants to see
are sampled away, and a path is written as it was on the wire.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote

from flask import Flask, g, request
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Span, SpanContext, SpanKind
from opentelemetry.util.http import sanitize_method
from opentelemetry.util.types import Attributes

from . import instruments
from .context import span
from .redaction import MASK

# Without the attributes that a caller chooses, or that say the same for every request; the
# client's are without bound too (hosts of media servers).
_ANSWER: Final = {"http.request.method", "http.response.status_code", "error.type"}
VIEWS: Final = (
    View(instrument_name="http.server.request.duration", attribute_keys={*_ANSWER, "http.route"}),
    View(instrument_name="http.server.active_requests", attribute_keys=set()),
    View(instrument_name="http.client.*", attribute_keys=_ANSWER),
)
_SAFE_IN_PATH: Final = "/%:@!$&'()*+,;=~"

_untraced: Final[set[str]] = set()


class SampleAway(Sampler):
    """Leave the requests of untraced paths to nobody, everything else to another sampler.

    They have a trace id for their log lines and answers, and count in the metrics.
    """

    def __init__(self, inner: Sampler) -> None:
        self._inner = inner

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        *rest: Any,
        **named: Any,
    ) -> SamplingResult:
        if kind is SpanKind.SERVER and (attributes or {}).get("url.path") in _untraced:
            return SamplingResult(Decision.DROP)
        given = parent_context, trace_id, name, kind, attributes, *rest
        return self._inner.should_sample(*given, **named)

    def get_description(self) -> str:
        return self._inner.get_description()


def instrument_app(app: Flask, *, untraced: Collection[str] = ()) -> None:
    """Open a server span and take the time of every request of `app`.

    The application has no hooks of its own yet. Spans do not cover the sending of a streamed body.
    The requests of `untraced` paths (routes without variables) are sampled away with all spans
    below them, whatever the caller's trace says.
    """
    _untraced.update(untraced)
    hooks: dict[str, Any] = {"request_hook": _name_span, "response_hook": _complete_span}
    FlaskInstrumentor.instrument_app(  # type: ignore[no-untyped-call]
        app, **hooks, enable_commenter=False, meter_provider=instruments.deferred()
    )
    app.before_request(_correlate_excluded)
    app.teardown_request(_leave_excluded)


def _correlate_excluded() -> None:
    """A trace id for the lines and the answer of a request that the operator excluded."""
    if not trace.get_current_span().get_span_context().is_valid:
        ids = RandomIdGenerator()
        own = SpanContext(ids.generate_trace_id(), ids.generate_span_id(), is_remote=False)
        g.excluded = otel_context.attach(trace.set_span_in_context(trace.NonRecordingSpan(own)))


def _leave_excluded(_: BaseException | None) -> None:
    if token := g.pop("excluded", None):
        otel_context.detach(token)


@contextmanager
def refused(status: int) -> Iterator[None]:
    """Answer, in the block, a request that will not reach the application: span and measurement.

    The span is current inside, so that lines and the answer carry its trace id.
    """
    with span("http.request.refused", **{"http.response.status_code": status}):
        series = {"http_request_method": "_OTHER", "http_response_status_code": str(status)}
        # `error.type` keeps the series apart from those of requests that were read.
        instruments.HTTP_SERVER_REQUEST_DURATION.record(0.0, error_type="refused", **series)
        yield


def _name_span(span: Span, environ: dict[str, Any]) -> None:
    # By the path, as the instrumentation does, anybody could make as many names as they like.
    if request.url_rule is None:
        method = sanitize_method(environ.get("REQUEST_METHOD"))
        span.update_name("HTTP" if method in (None, "_OTHER") else method)


def _complete_span(span: Span, status: str, headers: list[tuple[str, str]]) -> None:
    if span is None or not span.is_recording():
        return
    # Whoever asks is nobody's business; masked here, the span needs no copy when it is sent.
    span.set_attribute("client.address", MASK)
    path = request.environ.get("PATH_INFO", "")
    if not path.isascii():  # WSGI has bytes as Latin-1; the convention is the URL's own form
        span.set_attribute("url.path", quote(path.encode("latin-1"), safe=_SAFE_IN_PATH))
