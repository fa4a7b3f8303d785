"""One way to open a span."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import Span, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

TRACER_NAME: Final = "transcript_service"
# Attribute names of the semantic conventions that are no Python identifiers.
_CONVENTIONAL: Final = {"error_type": "error.type"}

# Until a provider is started this is the API's proxy, which does nothing.
_tracer: Tracer = trace.get_tracer(TRACER_NAME)


def use_tracer(tracer: Tracer | None) -> None:
    """Send the spans of `span` to another tracer; `None` for the global provider's."""
    global _tracer  # noqa: PLW0603 - one per process, set at start
    _tracer = tracer or trace.get_tracer(TRACER_NAME)


def tracer() -> Tracer:
    """The tracer that `span` uses."""
    return _tracer


def set_attributes(target: Span, **attributes: AttributeValue | None) -> None:
    """Set attributes on a span, `None` left out and `error_type` spelt `error.type`."""
    for name, value in attributes.items():
        if value is not None:
            target.set_attribute(_CONVENTIONAL.get(name, name), value)


def record_error(target: Span, error: BaseException) -> None:
    """Mark a span as failed by `error`.

    The status says the type only: backends show it everywhere, and messages of HTTP
    libraries carry whole URLs. The message goes, masked, into the exception event.
    """
    target.record_exception(error)
    target.set_status(StatusCode.ERROR, type(error).__name__)
    target.set_attribute("error.type", type(error).__name__)


@contextmanager
def span(name: str, /, **attributes: AttributeValue | None) -> Iterator[Span]:
    """Run the block inside a span of its own.

    Args:
        name: constant; what varies belongs in attributes.
        attributes: `None` is left out, `error_type` becomes `error.type`.

    Yields:
        The span, to set what is known only later (`set_attributes`).
    """
    given = {
        _CONVENTIONAL.get(key, key): value for key, value in attributes.items() if value is not None
    }
    with _tracer.start_as_current_span(
        name, attributes=given, record_exception=False, set_status_on_exception=False
    ) as opened:
        try:
            yield opened
        except Exception as error:
            record_error(opened, error)
            raise
