"""Masked copies of what the SDK exports: spans, log records, metric points.

Runs on the export threads, so that requests do not pay for it. What cannot be masked is
replaced whole and counted: nothing leaves unchecked.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import is_
from typing import Any

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.metrics.export import Metric, MetricsData
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext, Status, TraceState

from . import instruments
from .redaction import FAILED, count_masks, redact_mapping, redact_text, redact_value


def redact_spans(spans: Sequence[ReadableSpan]) -> list[ReadableSpan]:
    """The spans with name, attributes, events, links and status masked; clean ones as they are."""
    return [_guarded_span(span) for span in spans]


def _guarded_span(span: ReadableSpan) -> ReadableSpan:
    try:
        return _redact_span(span)
    except Exception:
        instruments.TELEMETRY_REDACTION_FAILURES.add(1, signal="traces")
        return _copy_span(span, FAILED, {}, (), (), Status(span.status.status_code))


def _redact_span(span: ReadableSpan) -> ReadableSpan:
    name = redact_text(span.name)
    given = dict(span.attributes or {})
    attributes = redact_mapping(given)
    given_events, given_links = span.events, span.links  # copies, too
    events = [_redact_event(event) for event in given_events]
    links = [_redact_link(link) for link in given_links]
    description = span.status.description
    clean_description = redact_text(description) if description else description
    if (
        name == span.name
        and attributes is given
        and all(map(is_, events, given_events))
        and all(map(is_, links, given_links))
        and clean_description == description
        and not (span.context and span.context.trace_state)
    ):
        return span
    masks = (
        count_masks(name)
        + count_masks(attributes)
        + sum(count_masks(event.attributes) for event in events)
        + sum(count_masks(link.attributes) for link in links)
        + count_masks(clean_description)
    )
    instruments.TELEMETRY_REDACTIONS.add(masks, signal="traces")
    status = Status(span.status.status_code, clean_description)
    return _copy_span(span, name, attributes, events, links, status)


def _copy_span(
    span: ReadableSpan,
    name: str,
    attributes: Mapping[str, Any],
    events: Sequence[Event],
    links: Sequence[Link],
    status: Status,
) -> ReadableSpan:
    return ReadableSpan(
        name,
        context=_without_state(span.context) if span.context else None,
        parent=span.parent,
        resource=span.resource,
        attributes=attributes,
        events=events,
        links=links,
        kind=span.kind,
        status=status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _redact_event(event: Event) -> Event:
    name = redact_text(event.name)
    given = event.attributes or {}
    attributes = redact_mapping(given)
    if name == event.name and attributes is given:
        return event
    return Event(name, attributes, event.timestamp)


def _redact_link(link: Link) -> Link:
    given = link.attributes or {}
    attributes = redact_mapping(given)
    if attributes is given and not link.context.trace_state:
        return link
    return Link(_without_state(link.context), attributes)


def _without_state(context: SpanContext) -> SpanContext:
    """Trace state is free text that came in from outside."""
    return SpanContext(
        context.trace_id, context.span_id, context.is_remote, context.trace_flags, TraceState()
    )


def redact_logs(records: Sequence[ReadableLogRecord]) -> list[ReadableLogRecord]:
    """The records with body and attributes masked; clean ones as they are."""
    return [_redact_log(record) for record in records]


def _redact_log(record: ReadableLogRecord) -> ReadableLogRecord:
    inner = record.log_record
    try:
        body = redact_value(inner.body)
        given = inner.attributes or {}
        attributes = redact_mapping(given)
        if body is inner.body and attributes is given:
            return record
        instruments.TELEMETRY_REDACTIONS.add(
            count_masks(body) + count_masks(attributes), signal="logs"
        )
    except Exception:
        instruments.TELEMETRY_REDACTION_FAILURES.add(1, signal="logs")
        body, attributes = FAILED, {}
    clean = copy.copy(inner)
    clean.body = body
    clean.attributes = dict(attributes)
    return replace(record, log_record=clean)


def redact_metrics(data: MetricsData) -> MetricsData:
    """The data with points' and exemplars' attributes masked; metrics that fail are left out."""
    return replace(
        data,
        resource_metrics=[
            replace(
                resource,
                scope_metrics=[
                    replace(
                        scope,
                        metrics=[
                            clean for metric in scope.metrics if (clean := _guarded_metric(metric))
                        ],
                    )
                    for scope in resource.scope_metrics
                ],
            )
            for resource in data.resource_metrics
        ],
    )


def _guarded_metric(metric: Metric) -> Metric | None:
    try:
        points = [_redact_point(point) for point in metric.data.data_points]
    except Exception:
        instruments.TELEMETRY_REDACTION_FAILURES.add(1, signal="metrics")
        return None
    if all(new is old for new, old in zip(points, metric.data.data_points, strict=True)):
        return metric
    data: Any = metric.data  # one of four dataclasses, all with data_points
    return replace(metric, data=replace(data, data_points=points))


def _redact_point(point: Any) -> Any:
    given = point.attributes or {}
    attributes = redact_mapping(given)
    exemplars = [_redact_exemplar(exemplar) for exemplar in point.exemplars]
    if attributes is given and all(
        new is old for new, old in zip(exemplars, point.exemplars, strict=True)
    ):
        return point
    instruments.TELEMETRY_REDACTIONS.add(
        count_masks(attributes) + sum(count_masks(item.filtered_attributes) for item in exemplars),
        signal="metrics",
    )
    return replace(point, attributes=attributes, exemplars=exemplars)


def _redact_exemplar(exemplar: Any) -> Any:
    given = exemplar.filtered_attributes or {}
    attributes = redact_mapping(given)
    if attributes is given:
        return exemplar
    return replace(exemplar, filtered_attributes=attributes)
