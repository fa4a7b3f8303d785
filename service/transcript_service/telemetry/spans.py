"""One way to open a span."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Span, StatusCode
from opentelemetry.util.types import AttributeValue

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


class span:  # noqa: N801 - used like a function
    """Run the block inside a span of its own.

        with span("transcript.fetch", video_id="dQw4w9WgXcQ") as opened:
            ...

    Entering gives the span, to set what is known only later (`set_attributes`). An exception
    that leaves the block marks it as failed.
    """

    __slots__ = ("_attributes", "_name", "_opened", "_token")

    def __init__(self, name: str, /, **attributes: AttributeValue | None) -> None:
        """Prepare a span; it begins with the block.

        Args:
            name: constant; what varies belongs in attributes.
            attributes: `None` is left out, `error_type` becomes `error.type`.
        """
        self._name = name
        self._attributes = _known(attributes)

    def __enter__(self) -> Span:
        around = otel_context.get_current()
        self._opened = _tracer.start_span(self._name, around, attributes=self._attributes)
        self._token = otel_context.attach(trace.set_span_in_context(self._opened, around))
        return self._opened

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace_back: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception):
            record_error(self._opened, error)
        # As in `log_context`: a generator that is closed elsewhere has nothing to restore.
        with suppress(ValueError, RuntimeError):
            self._token.var.reset(self._token)
        self._opened.end()
