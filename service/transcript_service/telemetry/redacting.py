"""Masked copies of what the SDK exports: spans, log records, metric points.

Runs on the export threads, so that requests do not pay for it. What cannot be masked is
replaced whole and counted: nothing leaves unchecked.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from operator import is_
from typing import Any

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.metrics.export import Metric, MetricsData, ScopeMetrics
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext, Status

from . import instruments
from .redaction import FAILED, count_masks, redact_mapping, redact_text, redact_value


def _count(signal: str, *parts: Any) -> None:
    instruments.TELEMETRY_REDACTIONS.add(count_masks(parts), signal=signal)


def redact_spans(spans: Sequence[ReadableSpan]) -> list[ReadableSpan]:
    """The spans with name, attributes, events, links and status masked; clean ones as they are."""
    return [_guarded_span(span) for span in spans]


def _guarded_span(span: ReadableSpan) -> ReadableSpan:
    try:
        return _redact_span(span)
    except Exception:
        instruments.TELEMETRY_REDACTION_FAILURES.add(1, signal="traces")
        return _copy_span(span, FAILED, None)


def _redact_span(span: ReadableSpan) -> ReadableSpan:
    name, said = span.name, span.status.description or ""
    given, given_events, given_links = dict(span.attributes or {}), span.events, span.links
    clean_name, clean_said, attributes = redact_text(name), redact_text(said), redact_mapping(given)
    events = [_redact_event(event) for event in given_events]
    links = [_redact_link(link) for link in given_links]
    if (
        (clean_name, clean_said) == (name, said)
        and attributes is given
        and all(map(is_, events, given_events))
        and all(map(is_, links, given_links))
        and not (span.context and span.context.trace_state)
    ):
        return span
    inner = [event.attributes for event in events], [link.attributes for link in links]
    _count("traces", clean_name, clean_said, attributes, inner)
    return _copy_span(
        span, clean_name, clean_said or None, attributes=attributes, events=events, links=links
    )


def _copy_span(span: ReadableSpan, name: str, said: str | None, **parts: Any) -> ReadableSpan:
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
    name, given = redact_text(event.name), event.attributes or {}
    attributes = redact_mapping(given)
    same = name == event.name and attributes is given
    return event if same else Event(name, attributes, event.timestamp)


def _redact_link(link: Link) -> Link:
    given = link.attributes or {}
    attributes = redact_mapping(given)
    same = attributes is given and not link.context.trace_state
    return link if same else Link(_without_state(link.context), attributes)


def _without_state(context: SpanContext) -> SpanContext:
    """Trace state is free text that came in from outside."""
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags)


def redact_logs(records: Sequence[ReadableLogRecord]) -> list[ReadableLogRecord]:
    """The records with body and attributes masked; clean ones as they are."""
    return [_redact_log(record) for record in records]


def _redact_log(record: ReadableLogRecord) -> ReadableLogRecord:
    inner = record.log_record
    try:
        given = inner.attributes or {}
        body, attributes = redact_value(inner.body), redact_mapping(given)
        if body is inner.body and attributes is given:
            return record
        _count("logs", body, attributes)
    except Exception:
        instruments.TELEMETRY_REDACTION_FAILURES.add(1, signal="logs")
        body, attributes = FAILED, {}
    clean = copy.copy(inner)
    clean.body, clean.attributes = body, dict(attributes)
    return replace(record, log_record=clean)


def redact_metrics(data: MetricsData) -> MetricsData:
    """The data with points' and exemplars' attributes masked; metrics that fail are left out."""

    def clean(scope: ScopeMetrics) -> ScopeMetrics:
        metrics = [made for metric in scope.metrics if (made := _guarded_metric(metric))]
        return replace(scope, metrics=metrics)

    resources = [
        replace(resource, scope_metrics=[clean(scope) for scope in resource.scope_metrics])
        for resource in data.resource_metrics
    ]
    return replace(data, resource_metrics=resources)


def _guarded_metric(metric: Metric) -> Metric | None:
    data: Any = metric.data  # one of four dataclasses, all with data_points
    try:
        points = [_redact_point(point) for point in data.data_points]
    except Exception:
        instruments.TELEMETRY_REDACTION_FAILURES.add(1, signal="metrics")
        return None
    if all(map(is_, points, data.data_points)):
        return metric
    return replace(metric, data=replace(data, data_points=points))


def _redact_point(point: Any) -> Any:
    given = point.attributes or {}
    attributes = redact_mapping(given)
    exemplars = [_redact_exemplar(exemplar) for exemplar in point.exemplars]
    if attributes is given and all(map(is_, exemplars, point.exemplars)):
        return point
    _count("metrics", attributes, [exemplar.filtered_attributes for exemplar in exemplars])
    return replace(point, attributes=attributes, exemplars=exemplars)


def _redact_exemplar(exemplar: Any) -> Any:
    given = exemplar.filtered_attributes or {}
    attributes = redact_mapping(given)
    return exemplar if attributes is given else replace(exemplar, filtered_attributes=attributes)
