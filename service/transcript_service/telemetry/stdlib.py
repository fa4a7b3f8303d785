"""Records of the standard library's logging, on the same path as everything else."""

from __future__ import annotations

import logging
from typing import Any, Final

from .logs import LEVELS, Pipeline

# Attributes that every record has; the rest came in through `extra=`.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_NAMES: Final = {number: name for name, number in LEVELS.items()}
# Say per request or connection what spans and our own events say better.
_QUIET: Final = ("urllib3", "werkzeug", "asyncio", "requests")


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


def install(pipeline: Pipeline) -> None:
    """Make the pipeline the root logger's only handler, and every logger propagate to it."""
    root = logging.getLogger()
    root.handlers[:] = [PipelineHandler(pipeline)]
    root.setLevel(pipeline.level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(pipeline.level, logging.WARNING))
    logging.captureWarnings(True)
