"""Which request, video, stage and span the running code belongs to.

The fields of log lines live inside the OpenTelemetry context, beside the current span. Whatever
carries the span therefore carries them too: threads and executors (threading instrumentation),
coroutines and `run_coroutine_threadsafe` (both copy contextvars).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ContextDecorator, contextmanager, suppress
from contextvars import Token
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, StatusCode
from opentelemetry.util.types import AttributeValue

TRACER_NAME: Final = "transcript_service"
_FIELDS_KEY: Final = otel_context.create_key("transcript_service.log_fields")
# Until a provider is set this does nothing. `trace.get_tracer` would make the one that
# OTEL_PYTHON_TRACER_PROVIDER names at once, before the fork and without our arguments.
_tracer: Final = trace.ProxyTracerProvider().get_tracer(TRACER_NAME)


def current_fields() -> Mapping[str, Any]:
    """The fields that every log line gets here; treat it as read-only."""
    fields: Any = otel_context.get_value(_FIELDS_KEY)
    return fields or {}


def current_trace_id() -> str:
    """The correlation id: the current trace id as 32 hex digits, zeros outside a trace."""
    return trace.format_trace_id(trace.get_current_span().get_span_context().trace_id)


def _restore(token: Token[Context]) -> None:
    """Go back to the context before an `attach`.

    A generator that is closed elsewhere (another thread, another task, the garbage collector)
    leaves its blocks in a context that was never ours: there is nothing to restore, and the API's
    own `detach` would log an error with a traceback.
    """
    with suppress(ValueError, RuntimeError):
        token.var.reset(token)


class log_context(ContextDecorator):  # noqa: N801 - the name callers were promised, used like a function
    """Add fields to every log line written inside, in this thread and all it hands work to.

        with log_context(video_id="dQw4w9WgXcQ", stage="timedtext"):
            ...

    Nests (the inner value wins), ends with the block whatever is raised, and works as a
    decorator. A field set to `None` is taken away inside the block.
    """

    def __init__(self, **fields: Any) -> None:
        self._fields = fields
        self._entered: list[Token[Context]] = []

    def _recreate_cm(self) -> log_context:
        # A decorated function may run in many threads at once: one object per call.
        return log_context(**self._fields)

    def __enter__(self) -> log_context:
        merged = {**current_fields(), **self._fields}
        merged = {key: value for key, value in merged.items() if value is not None}
        self._entered.append(otel_context.attach(otel_context.set_value(_FIELDS_KEY, merged)))
        return self

    def __exit__(self, *_: object) -> None:
        _restore(self._entered.pop())


@contextmanager
def span(name: str, /, **attributes: AttributeValue | None) -> Iterator[Span]:
    """Run the block inside a span of its own, whose name is constant: what varies is an attribute.

        with span("transcript.fetch", video_id="dQw4w9WgXcQ") as opened:
            ...

    What is known only later is set on `opened` (`set_attributes`). An exception that leaves the
    block marks it as failed.
    """
    opened = _tracer.start_span(name, attributes=_known(attributes))
    token = otel_context.attach(trace.set_span_in_context(opened))
    try:
        yield opened
    except Exception as error:
        record_error(opened, error)
        raise
    finally:
        _restore(token)
        opened.end()


def set_attributes(target: Span, **attributes: AttributeValue | None) -> None:
    """Set attributes on a span, `None` left out and `error_type` spelt `error.type`."""
    target.set_attributes(_known(attributes))


def _known(attributes: Mapping[str, AttributeValue | None]) -> dict[str, AttributeValue]:
    return {
        "error.type" if name == "error_type" else name: value
        for name, value in attributes.items()
        if value is not None
    }


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
