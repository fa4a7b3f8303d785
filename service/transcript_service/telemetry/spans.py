"""One way to open a span."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Span, StatusCode
from opentelemetry.util.types import AttributeValue

from .context import restore

TRACER_NAME: Final = "transcript_service"
# Attribute names of the semantic conventions that are no Python identifiers.
_CONVENTIONAL: Final = {"error_type": "error.type"}

# Until a provider is set this does nothing. `trace.get_tracer` would make the one that
# OTEL_PYTHON_TRACER_PROVIDER names at once, before the fork and without our arguments.
_tracer: Final = trace.ProxyTracerProvider().get_tracer(TRACER_NAME)


def _known(attributes: Mapping[str, AttributeValue | None]) -> dict[str, AttributeValue]:
    return {
        _CONVENTIONAL.get(name, name): value
        for name, value in attributes.items()
        if value is not None
    }


def set_attributes(target: Span, **attributes: AttributeValue | None) -> None:
    """Set attributes on a span, `None` left out and `error_type` spelt `error.type`."""
    target.set_attributes(_known(attributes))


def record_error(target: Span, error: BaseException) -> None:
    """Mark a span as failed by `error`.

    The status says the type only: backends show it everywhere, and messages of HTTP
    libraries carry whole URLs. The message goes, masked, into the exception event. An error
    that knows its word of the vocabulary is named by it, as in metrics and log lines.
    """
    target.set_status(StatusCode.ERROR, type(error).__name__)
    known = getattr(error, "error_type", None)
    target.set_attribute("error.type", known if isinstance(known, str) else type(error).__name__)
    with suppress(Exception):  # an exception whose own text raises another
        target.record_exception(error)


@contextmanager
def span(name: str, /, **attributes: AttributeValue | None) -> Iterator[Span]:
    """Run the block inside a span of its own.

        with span("transcript.fetch", video_id="dQw4w9WgXcQ") as opened:
            ...

    What is known only later is set on `opened` (`set_attributes`). An exception that leaves the
    block marks it as failed.

    Args:
        name: constant; what varies belongs in attributes.
        attributes: `None` is left out, `error_type` becomes `error.type`.
    """
    opened = _tracer.start_span(name, attributes=_known(attributes))
    token = otel_context.attach(trace.set_span_in_context(opened))
    try:
        yield opened
    except Exception as error:
        record_error(opened, error)
        raise
    finally:
        restore(token)
        opened.end()
