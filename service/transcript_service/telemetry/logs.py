"""Log lines: one pipeline for this project's events and for the standard library's records.

A line is made once, masked, written as one JSON object to stderr and queued for OTLP. Values
common to all lines (service, version, environment) are on stderr only; over OTLP they are
the resource.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import orjson
import structlog
from opentelemetry import trace
from opentelemetry._logs import Logger, LogRecord, SeverityNumber

from ..plain_text import all_visible
from ..settings import Settings
from . import events, instruments
from .context import current_fields
from .lines import (
    describe_exception,
    encodable,
    source_location,
    text_of,
    version,
    write_stderr,
)
from .ratelimit import RateLimit
from .redaction import FAILED, count_masks, redact_mapping

_JSON_OPTIONS: Final = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS
LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}


class LogSink(Protocol):
    """Where finished, masked lines go besides stderr."""

    def __call__(
        self,
        time_ns: int,
        level: int,
        event: str,
        fields: Mapping[str, Any],
    ) -> None: ...


class Pipeline:
    """The process's one path of log lines. Use `get_logger` to write to it."""

    def __init__(self) -> None:
        self.level = LEVELS["info"]
        self.sink: LogSink | None = None
        self.write: Callable[[bytes], None] = write_stderr
        self.human = False
        self.common: dict[str, str] = {}
        self.limit = RateLimit(0)
        self.unknown_events: set[str] = set()
        self._renderer: Any = None

    def configure(self, settings: Settings) -> None:
        """Take over the settings; may be called again."""
        self.level = LEVELS[settings.log_level.lower()]
        self.human = not settings.enable_structured_logging
        self.common = {
            "service": settings.service_name,
            "environment": settings.environment,
            "version": version(),
        }
        self.limit = RateLimit(settings.log_rate_limit_per_min)
        self._renderer = structlog.dev.ConsoleRenderer(
            colors=True, exception_formatter=structlog.dev.plain_traceback
        )

    def emit(self, level: int, level_name: str, event: str, fields: dict[str, Any]) -> None:
        """Write one line. `fields` is taken over; `exc_info` in it becomes a trace back."""
        context_fields = current_fields()
        if context_fields:
            fields = {**context_fields, **fields}
        current = trace.get_current_span().get_span_context()
        suppressed = self.limit.check(event, fields, level, current.trace_id)
        if suppressed < 0:
            instruments.LOGS_SUPPRESSED.add(1, signal="logs")
            return
        if suppressed:
            fields["suppressed"] = suppressed
        if event not in events.CATALOGUE:
            self._unknown(event)
        time_ns = time.time_ns()
        exc_info = fields.pop("exc_info", None)
        if exc_info:
            fields.update(describe_exception(exc_info))
        clean = self._mask(fields)
        self._to_stderr(time_ns, level_name, event, clean, current)
        if self.sink is not None:
            self.sink(time_ns, level, event, clean)

    def _mask(self, fields: dict[str, Any]) -> Mapping[str, Any]:
        try:
            clean = redact_mapping(fields)
        except Exception:  # fail closed: an unmasked line must not get out
            instruments.TELEMETRY_REDACTION_FAILURES.add(1, signal="logs")
            return {"redaction": FAILED}
        if clean is not fields:
            instruments.TELEMETRY_REDACTIONS.add(count_masks(clean), signal="logs")
        return clean

    def _to_stderr(
        self,
        time_ns: int,
        level_name: str,
        event: str,
        fields: Mapping[str, Any],
        current: trace.SpanContext,
    ) -> None:
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(time_ns / 1e9, UTC),
            "level": level_name,
            "event": event,
            **self.common,
        }
        if current.is_valid:
            line["trace_id"] = f"{current.trace_id:032x}"
            line["span_id"] = f"{current.span_id:016x}"
        if line.keys().isdisjoint(fields):
            line.update(fields)
        else:
            line = {**line, **fields, **line}
        if self.human:
            self.write(self._for_people(line))
        else:
            self.write(_as_json(line))

    def _for_people(self, line: dict[str, Any]) -> bytes:
        line["timestamp"] = f"{line['timestamp']:%H:%M:%S.%f}"[:-3]
        for key in self.common:
            line.pop(key, None)
        line = all_visible(line)
        stack = line.pop("exception_stack", None)
        text = self._renderer(None, line["level"], line)
        if stack:
            text += f"\n{stack}"
        return f"{text}\n".encode()

    def _unknown(self, event: str) -> None:
        instruments.TELEMETRY_UNKNOWN.add(1, kind="event")
        if event not in self.unknown_events and len(self.unknown_events) < 1000:
            self.unknown_events.add(event)
            self.emit(
                LEVELS["warning"], "warning", "telemetry.event.unknown", {"unknown_event": event}
            )


def _as_json(line: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(line, default=text_of, option=_JSON_OPTIONS)
    except orjson.JSONEncodeError:
        return orjson.dumps(encodable(line), option=_JSON_OPTIONS)


pipeline: Final = Pipeline()

_SEVERITIES: Final = {
    10: (SeverityNumber.DEBUG, "DEBUG"),
    20: (SeverityNumber.INFO, "INFO"),
    30: (SeverityNumber.WARN, "WARN"),
    40: (SeverityNumber.ERROR, "ERROR"),
    50: (SeverityNumber.FATAL, "FATAL"),
}


def otlp_sink(logger: Logger) -> LogSink:
    """Hand finished lines to a logger of the SDK, as records of the current span."""

    def emit(time_ns: int, level: int, event: str, fields: Mapping[str, Any]) -> None:
        number, text = _SEVERITIES[level]
        attributes = {"event": event}
        for key, value in fields.items():
            if value is not None:
                attributes[key] = encodable(value)
        logger.emit(
            LogRecord(
                timestamp=time_ns,
                observed_timestamp=time_ns,
                severity_number=number,
                severity_text=text,
                body=event,
                event_name=event,
                attributes=attributes,
            )
        )

    return emit


class EventLogger(structlog.BoundLoggerBase):
    """A structlog logger whose first argument is an event of the catalogue.

    `bind`, `unbind` and `new` work as in structlog; values given to a call win over bound
    ones, and both over `log_context`.
    """

    def debug(self, event: str, /, **fields: Any) -> None:
        """Detail for somebody looking for a fault."""
        if pipeline.level <= 10:
            pipeline.emit(10, "debug", event, {**self._context, **fields})

    def info(self, event: str, /, **fields: Any) -> None:
        """Something happened as it should."""
        if pipeline.level <= 20:
            pipeline.emit(20, "info", event, {**self._context, **fields})

    def warning(self, event: str, /, **fields: Any) -> None:
        """Something went wrong and was dealt with. Adds the source location."""
        if pipeline.level <= 30:
            fields.setdefault("source", source_location(2))
            pipeline.emit(30, "warning", event, {**self._context, **fields})

    def error(self, event: str, /, **fields: Any) -> None:
        """Something failed. Adds the source location."""
        if pipeline.level <= 40:
            fields.setdefault("source", source_location(2))
            pipeline.emit(40, "error", event, {**self._context, **fields})

    def critical(self, event: str, /, **fields: Any) -> None:
        """The process cannot go on. Adds the source location."""
        fields.setdefault("source", source_location(2))
        pipeline.emit(50, "critical", event, {**self._context, **fields})

    def exception(self, event: str, /, **fields: Any) -> None:
        """`error` with the exception being handled: type, masked message, stack without locals."""
        if pipeline.level <= 40:
            fields.setdefault("exc_info", True)
            fields.setdefault("source", source_location(2))
            pipeline.emit(40, "error", event, {**self._context, **fields})


def get_logger(name: str | None = None, /, **bound: Any) -> EventLogger:
    """A logger; `name` (usually `__name__`) appears as `logger` in its lines."""
    context = {"logger": name, **bound} if name else bound
    return EventLogger(None, processors=[], context=context)


def configure_logging(settings: Settings) -> None:
    """Set the log pipeline up: level, JSON or text, rate limit, the standard library's records.

    Enough for a command-line process; `start` does it too and adds OTLP.
    """
    from . import stdlib  # the bridge needs this module

    pipeline.configure(settings)
    stdlib.install(pipeline)
