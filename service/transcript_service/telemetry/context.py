"""Which request, video and stage the running code belongs to.

The fields live inside the OpenTelemetry context, beside the current span. Whatever carries
the span therefore carries them too: threads and executors (threading instrumentation),
coroutines and `run_coroutine_threadsafe` (both copy contextvars).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ContextDecorator, suppress
from contextvars import Token
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context

_FIELDS_KEY: Final = otel_context.create_key("transcript_service.log_fields")


def current_fields() -> Mapping[str, Any]:
    """The fields that every log line gets here; treat it as read-only."""
    fields: Any = otel_context.get_value(_FIELDS_KEY)
    return fields or {}


def current_trace_id() -> str:
    """The correlation id: the current trace id as 32 hex digits, zeros outside a trace."""
    return trace.format_trace_id(trace.get_current_span().get_span_context().trace_id)


def restore(token: Token[Context]) -> None:
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
        restore(self._entered.pop())
