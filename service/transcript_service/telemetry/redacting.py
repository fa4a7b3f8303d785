"""Masked copies of what the SDK exports: spans, log records, metric points.

Runs on the export threads, so that requests do not pay for it. What cannot be masked is
replaced whole and counted: nothing leaves unchecked.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.metrics.export import Metric, MetricsData, ScopeMetrics
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext, Status

from . import instruments
from .redaction import FAILED, count_masks, redact_value

T = TypeVar("T")


def _masked(signal: str, value: Any) -> Any:
    """The value with its secrets masked, and counted; itself where there are none."""
    clean = redact_value(value)
    if clean is value or clean == value:
        return value
    instruments.TELEMETRY_REDACTIONS.add(count_masks(clean), signal=signal)
    return clean


def _guarded(signal: str, mask: Callable[[T], T], record: T, failed: Callable[[T], Any]) -> Any:
    try:
        return mask(record)
    except Exception:
        instruments.TELEMETRY_REDACTION_FAILURES.add(1, signal=signal)
        return failed(record)


def redact_spans(spans: Sequence[ReadableSpan]) -> list[ReadableSpan]:
    """The spans with name, attributes, events, links and status masked; clean ones as they are."""
    return [_guarded("traces", _redact_span, span, _copy_span) for span in spans]


def _redact_span(span: ReadableSpan) -> ReadableSpan:
    events, links = list(span.events), list(span.links)
    given = [span.name, span.status.description, dict(span.attributes or {}), events, links]
    clean: list[Any] = [
        *(_masked("traces", part) for part in given[:3]),
        [_redact_event(event) for event in events],
        [_redact_link(link) for link in links],
    ]
    if clean == given and not (span.context and span.context.trace_state):
        return span
    name, said, attributes, events, links = clean
    return _copy_span(span, name, said, attributes=attributes, events=events, links=links)


def _copy_span(
    span: ReadableSpan, name: str = FAILED, said: str | None = None, **parts: Any
) -> ReadableSpan:
    return ReadableSpan(
        name,
        context=_without_state(span.context) if span.context else None,
        parent=span.parent,
        resource=span.resource,
        kind=span.kind,
        status=Status(span.status.status_code, said),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
        **parts,
    )


def _redact_event(event: Event) -> Event:
    name, attributes = _masked("traces", event.name), _masked("traces", event.attributes)
    same = name is event.name and attributes is event.attributes
    return event if same else Event(name, attributes, event.timestamp)


def _redact_link(link: Link) -> Link:
    attributes = _masked("traces", link.attributes)
    same = attributes is link.attributes and not link.context.trace_state
    return link if same else Link(_without_state(link.context), attributes)


def _without_state(context: SpanContext) -> SpanContext:
    """Trace state is free text that came in from outside."""
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags)


def redact_logs(records: Sequence[ReadableLogRecord]) -> list[ReadableLogRecord]:
    """The records with body and attributes masked; clean ones as they are."""
    return [_guarded("logs", _redact_log, record, _copy_log) for record in records]


def _redact_log(record: ReadableLogRecord) -> ReadableLogRecord:
    inner = record.log_record
    body, attributes = _masked("logs", inner.body), _masked("logs", inner.attributes)
    same = body is inner.body and attributes is inner.attributes
    return record if same else _copy_log(record, body, attributes)


def _copy_log(
    record: ReadableLogRecord, body: Any = FAILED, attributes: Any = None
) -> ReadableLogRecord:
    clean = copy.copy(record.log_record)
    clean.body, clean.attributes = body, dict(attributes or {})
    return replace(record, log_record=clean)


def redact_metrics(data: MetricsData) -> MetricsData:
    """The data with points' and exemplars' attributes masked; metrics that fail are left out."""

    def clean(scope: ScopeMetrics) -> ScopeMetrics:
        made = (_guarded("metrics", _redact_metric, each, lambda _: None) for each in scope.metrics)
        return replace(scope, metrics=[metric for metric in made if metric])

    resources = [
        replace(resource, scope_metrics=[clean(scope) for scope in resource.scope_metrics])
        for resource in data.resource_metrics
    ]
    return replace(data, resource_metrics=resources)


def _redact_metric(metric: Metric) -> Metric:
    data: Any = metric.data  # one of four dataclasses, all with data_points
    points = [_redact_point(point) for point in data.data_points]
    return replace(metric, data=replace(data, data_points=points))


def _redact_point(point: Any) -> Any:
    exemplars = [
        replace(each, filtered_attributes=_masked("metrics", each.filtered_attributes))
        for each in point.exemplars
    ]
    return replace(point, attributes=_masked("metrics", point.attributes), exemplars=exemplars)
