"""Records of the standard library's logging, on the same path as everything else."""

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import Any, Final

from .logs import LEVELS, Pipeline

# Attributes that every record has; the rest came in through `extra=`.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_NAMES: Final = {number: name for name, number in LEVELS.items()}
# Say per request or connection what spans and our own events say better.
_QUIET: Final = ("urllib3", "werkzeug", "asyncio", "requests")

_REPEAT_S: Final = 60.0


class PipelineHandler(logging.Handler):
    """The root logger's only handler."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__()
        self._pipeline = pipeline

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record as the event `log.record`. Never raises."""
        level = min(max(record.levelno // 10 * 10, 10), 50)
        if level < self._pipeline.level:
            return
        try:
            message = record.getMessage()
        except Exception:  # wrong arguments of someone else's call
            message = f"{record.msg} (could not be formatted)"
        fields: dict[str, Any] = {
            key: value for key, value in vars(record).items() if key not in _STANDARD
        }
        fields.update(logger=record.name, message=message)
        if level >= LEVELS["warning"]:
            fields["source"] = f"{record.module}:{record.lineno}"
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        self._pipeline.emit(level, _NAMES[level], "log.record", fields)


class SdkHandler(logging.Handler):
    """What the OpenTelemetry SDK says about itself.

    Its exporters warn about every batch, and a warning about a full log queue would come back
    as one more log record. Delivery is reported by `OutageLog`; the rest comes through once a
    minute per text.
    """

    _REPORTED_ELSEWHERE: Final = (
        "opentelemetry.exporter.otlp",
        "opentelemetry.sdk._shared_internal",
    )

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__(logging.WARNING)
        self._pipeline = pipeline
        self._said: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record as `telemetry.sdk`, unless it was said a moment ago."""
        if record.name.startswith(self._REPORTED_ELSEWHERE):
            return
        text = str(record.msg)
        now = time.monotonic()
        if now - self._said.get(text, -_REPEAT_S) < _REPEAT_S or len(self._said) > 1000:
            return
        self._said[text] = now
        fields: dict[str, Any] = {"logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        self._pipeline.emit(LEVELS["warning"], "warning", "telemetry.sdk", fields)


def install(pipeline: Pipeline) -> None:
    """Make the pipeline the root logger's only handler, and every logger propagate to it."""
    root = logging.getLogger()
    root.handlers[:] = [PipelineHandler(pipeline)]
    root.setLevel(pipeline.level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(pipeline.level, logging.WARNING))
    _catch_the_uncaught(pipeline)
    sdk = logging.getLogger("opentelemetry")
    sdk.handlers[:] = [SdkHandler(pipeline)]
    sdk.propagate = False
    logging.captureWarnings(True)


def _catch_the_uncaught(pipeline: Pipeline) -> None:
    """Python prints exceptions that nobody caught as they are, secrets included."""

    def report(event_fields: dict[str, Any], error: BaseException | None) -> None:
        if error is not None and isinstance(error, Exception):
            fields = {**event_fields, "error_type": type(error).__name__, "exc_info": error}
            pipeline.emit(LEVELS["error"], "error", "worker.exception", fields)

    def in_thread(args: threading.ExceptHookArgs) -> None:
        report({"thread": args.thread.name if args.thread else None}, args.exc_value)

    def nowhere_to_go(args: sys.UnraisableHookArgs) -> None:
        report({"thread": threading.current_thread().name}, args.exc_value)

    threading.excepthook = in_thread
    sys.unraisablehook = nowhere_to_go
