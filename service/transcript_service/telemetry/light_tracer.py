"""A tracer for the spans that every request has, at less than half the SDK's price.

Sampler, ids, resource and limits are the SDK provider's. Left out is what the SDK does for uses
that our spans do not have: attributes of plain types wait in a dict, events and links have a
container once there are some. The rest (a list as a value, more attributes than the limit, links
at the start) goes into the SDK's containers or to the SDK's tracer. `wire` writes what is plain
as it stands; for everything else a span becomes the SDK's `ReadableSpan` where it is sent, and a
property test holds both to the same spans.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, MutableMapping
from time import time_ns
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider, sampling
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import Attributes, AttributeValue

# The SDK's own, whose warnings are told once a minute.
_logger = logging.getLogger("opentelemetry.sdk.trace")

_PLAIN: Final = frozenset({str, int, float, bool})
_UNSET: Final = Status()
_FLAGS: Final = [TraceFlags(flags) for flags in range(4)]


class LightTracer(trace.Tracer):
    """Starts light spans, and the SDK's where a caller wants more than those can do."""

    def __init__(
        self,
        provider: TracerProvider,
        scope: InstrumentationScope,
        *,
        limits: SpanLimits,
        on_end: Callable[[LightSpan], None],
    ) -> None:
        """A tracer beside the SDK's own for the same scope.

        Args:
            provider: whose sampler, ids and resource it uses.
            scope: name and version of the instrumentation.
            limits: those of `provider`.
            on_end: gets each light span that was sampled and has ended, in the thread that
                ended it. Those of the SDK go to the processors of `provider`.
        """
        self.provider = provider
        self.scope = scope
        self.limits = limits
        self.on_end = on_end
        self._sdk = provider.get_tracer(scope.name, scope.version)
        # What nearly everybody uses needs no asking: a new trace, or one that is sampled.
        self._samples_all = provider.sampler is sampling.DEFAULT_ON

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Any = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> trace.Span:
        """As the SDK's, but for the last two: recording what is raised is up to `spans.span`."""
        if links or start_time is not None or self.limits.max_span_attribute_length is not None:
            return self._sdk.start_span(name, context, kind, attributes, links, start_time)
        parent: SpanContext | None = trace.get_current_span(context).get_span_context()
        ids = self.provider.id_generator
        if parent is not None and parent.is_valid:
            trace_id, random = parent.trace_id, parent.trace_flags.random_trace_id
        else:
            parent = None
            trace_id, random = ids.generate_trace_id(), ids.is_trace_id_random()
        if self._samples_all:
            sampled = recorded = parent is None or bool(parent.trace_flags & TraceFlags.SAMPLED)
            state = parent.trace_state if parent is not None else None
        else:
            result = self.provider.sampler.should_sample(
                context, trace_id, name, kind, attributes, ()
            )
            decision: Any = result.decision  # its methods have no types
            sampled, recorded = decision.is_sampled(), decision.is_recording()
            attributes, state = result.attributes, result.trace_state
        flags = _FLAGS[sampled * TraceFlags.SAMPLED | random * TraceFlags.RANDOM_TRACE_ID]
        own = SpanContext(trace_id, ids.generate_span_id(), False, flags, state)
        if not recorded:
            return trace.NonRecordingSpan(own)
        return LightSpan(self, name, own, parent, kind, attributes)

    def start_as_current_span(self, *arguments: Any, **named: Any) -> Any:
        """The SDK's."""
        return self._sdk.start_as_current_span(*arguments, **named)


class LightSpan(trace.Span):
    """A span that is being recorded. Any thread may use it.

    Attributes:
        attributes: a plain dict as long as the values are of plain types and within the limit,
            then the SDK's container.
        events: `()` until there was one, and so are `links`.
    """

    def __init__(
        self,
        tracer: LightTracer,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: Attributes,
    ) -> None:
        self.tracer = tracer
        self.name = name
        self.context = context
        self.parent = parent
        self.kind = kind
        self.status = _UNSET
        self.attributes: MutableMapping[str, Any] = {}
        self.events: Any = ()
        self.links: Any = ()
        self._lock = threading.Lock()
        self._ended = False
        if attributes:
            self._put(attributes)
        self.start_time = time_ns()

    def get_span_context(self) -> SpanContext:
        return self.context

    def is_recording(self) -> bool:
        return not self._ended

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        self.set_attributes({key: value})

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        with self._lock:
            if not self._ended:
                self._put(attributes)
                return
        self._warn()

    def add_event(
        self, name: str, attributes: Attributes = None, timestamp: int | None = None
    ) -> None:
        limits = self.tracer.limits
        event = Event(name, self._bounded(limits.max_event_attributes, attributes), timestamp)
        with self._lock:
            if not self._ended:
                if self.events == ():
                    self.events = BoundedList(limits.max_events)
                self.events.append(event)
                return
        self._warn()

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        if not (context.is_valid or attributes or context.trace_state):
            return
        limits = self.tracer.limits
        link = Link(context, self._bounded(limits.max_link_attributes, attributes))
        with self._lock:
            if not self._ended:
                if self.links == ():
                    self.links = BoundedList(limits.max_links)
                self.links.append(link)
                return
        self._warn()

    def update_name(self, name: str) -> None:
        with self._lock:
            if not self._ended:
                self.name = name
                return
        self._warn()

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        if isinstance(status, StatusCode):
            status = Status(status, description)
        with self._lock:
            if not self._ended:
                # "Ok" is final, and "unset" changes nothing: the API's rules.
                if not status.is_unset and self.status.status_code is not StatusCode.OK:
                    self.status = status
                return
        self._warn()

    # Calls nothing but `add_event`.
    record_exception = SdkSpan.record_exception

    def end(self, end_time: int | None = None) -> None:
        with self._lock:
            late, self._ended = self._ended, True
        if late:
            self._warn()
            return
        self.end_time = time_ns() if end_time is None else end_time
        if self.context.trace_flags & TraceFlags.SAMPLED:
            self.tracer.on_end(self)

    def readable(self) -> ReadableSpan:
        """The span as the SDK's processors and exporters take it, once it has ended."""
        tracer = self.tracer
        return ReadableSpan(
            self.name,
            self.context,
            self.parent,
            tracer.provider.resource,
            self.attributes,
            self.events,
            self.links,
            self.kind,
            status=self.status,
            start_time=self.start_time,
            end_time=self.end_time,
            instrumentation_scope=tracer.scope,
        )

    def _warn(self) -> None:
        # Not under the lock: a log line may wait for stderr.
        _logger.warning("The span %s has ended and takes nothing more.", self.name)

    def _bounded(self, limit: int | None, attributes: Attributes) -> BoundedAttributes:
        longest = self.tracer.limits.max_attribute_length
        return BoundedAttributes(limit, attributes, max_value_len=longest)

    def _put(self, attributes: Mapping[str, Any]) -> None:
        held, limit = self.attributes, self.tracer.limits.max_span_attributes
        if (
            type(held) is dict
            and _PLAIN.issuperset(map(type, attributes.values()))
            and "" not in attributes
            and (limit is None or len(held) + len(attributes) <= limit)
        ):
            if not held.keys().isdisjoint(attributes):
                for key in attributes:
                    held.pop(key, None)  # what was set last is dropped last
            held.update(attributes)
            return
        if type(held) is dict:
            held = self.attributes = BoundedAttributes(limit, held, immutable=False)
        for key, value in attributes.items():
            held[key] = value
