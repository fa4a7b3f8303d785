"""Log lines as OTLP records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry import trace
from opentelemetry._logs import Logger, LogRecord, SeverityNumber

SEVERITIES: Final = {
    10: (SeverityNumber.DEBUG, "DEBUG"),
    20: (SeverityNumber.INFO, "INFO"),
    30: (SeverityNumber.WARN, "WARN"),
    40: (SeverityNumber.ERROR, "ERROR"),
    50: (SeverityNumber.FATAL, "FATAL"),
}


class OtlpLogSink:
    """Emit every line through a logger of the SDK."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def __call__(
        self, time_ns: int, level: int, event: str, fields: Mapping[str, Any], span: trace.Span
    ) -> None:
        """Queue the line; the current context gives it its trace and span id."""
        number, text = SEVERITIES[level]
        self._logger.emit(
            LogRecord(
                timestamp=time_ns,
                observed_timestamp=time_ns,
                severity_number=number,
                severity_text=text,
                body=event,
                event_name=event,
                attributes={
                    "event": event,
                    **{key: value for key, value in fields.items() if value is not None},
                },
            )
        )
