"""What trace context is taken from callers and given to others."""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator


class _OnlyTraceparent(Getter[CarrierT]):
    """Hides every header but `traceparent`."""

    def __init__(self, inner: Getter[CarrierT]) -> None:
        self._inner = inner

    def get(self, carrier: CarrierT, key: str) -> list[str] | None:
        return self._inner.get(carrier, key) if key == "traceparent" else None

    def keys(self, carrier: CarrierT) -> list[str]:
        return self._inner.keys(carrier)


class IncomingTraceparent(TextMapPropagator):
    """Continue a caller's trace, take nothing else from it and tell nobody.

    `tracestate` and `baggage` are free text from outside that would end up in spans, so they
    are ignored. Outgoing requests go to YouTube and proxies, which have no part in our
    traces; a `traceparent` would only mark the client as instrumented.
    """

    def __init__(self) -> None:
        self._traceparent = TraceContextTextMapPropagator()

    def extract(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,
    ) -> Context:
        """The context with the caller's trace and span id, if it sent valid ones."""
        return self._traceparent.extract(carrier, context, _OnlyTraceparent(getter))

    def inject(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        setter: Setter[CarrierT] = default_setter,
    ) -> None:
        """Write nothing."""

    @property
    def fields(self) -> set[str]:
        """No header is ever written."""
        return set()
