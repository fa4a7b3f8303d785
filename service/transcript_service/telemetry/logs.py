"""Log lines, made by structlog: this project's events and the standard library's records.

A line is filled in, masked, handed to the SDK's logger and written to stderr as one JSON object.
Values common to all lines (service, version, environment) are on stderr only; over OTLP they
are the resource. Nothing here takes a lock: finalisers, signal handlers and other logging
handlers may write lines while one is held.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from itertools import count
from typing import Any, Final

import orjson
import structlog
from opentelemetry import trace
from opentelemetry._logs import Logger
from opentelemetry.instrumentation.log_utils import std_to_otel
from structlog.contextvars import merge_contextvars
from structlog.processors import CallsiteParameter, CallsiteParameterAdder, TimeStamper
from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level
from structlog.typing import EventDict, FilteringBoundLogger, Processor, ProcessorReturnValue

from ..plain_text import all_visible
from ..settings import Settings
from . import events, instruments
from .context import current_fields
from .redaction import FAILED, count_masks, redact_mapping, text_of

VERSION: Final = version("transcript-service")
# The standard library's numbers.
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_MAX_FRAMES: Final = 30
_FIRST: Final[EventDict] = dict.fromkeys(("timestamp", "level", "event"))
_PACKAGE_PARENT: Final = os.path.dirname(os.path.dirname(os.path.dirname(__file__))) + os.sep  # noqa: PTH120 - a string prefix, compared for every warning

# Say per request or connection what spans and our own events say better.
_QUIET: Final = ("urllib3", "werkzeug", "asyncio", "requests", "opentelemetry")
# Of the SDK's own complaints: delivery is reported by `OutageLog`, and a warning about a full
# log queue would come back as one more log record.
_REPORTED_ELSEWHERE: Final = ("opentelemetry.exporter.otlp", "opentelemetry.sdk._shared_internal")


class RateLimit:
    """At most so many lines a minute for each key, so that no event drowns the others."""

    WINDOW_S: Final = 60.0
    MOST_KEYS: Final = 4096

    def __init__(self, per_min: int) -> None:
        """`per_min` lines a minute and key; 0 for no limit."""
        self.per_min = per_min
        # key → end of its window, numbers of the lines in it (given out without a lock)
        self._windows: OrderedDict[Hashable, tuple[float, Iterator[int]]] = OrderedDict()

    def left_out(self, key: Hashable) -> int:
        """-1: leave this line of `key` out. Else write it; so many were left out before it."""
        if not self.per_min:
            return 0
        now = time.monotonic()
        end, numbers = self._windows.get(key, (now, None))
        if numbers is not None and now < end:
            return 0 if next(numbers) <= self.per_min else -1
        _, ended = self._windows.pop(key, (now, count(1)))
        if len(self._windows) >= self.MOST_KEYS:
            with suppress(KeyError):
                self._windows.popitem(last=False)
        self._windows[key] = (now + self.WINDOW_S, count(2))
        return max(0, next(ended) - 1 - self.per_min)

    def __call__(self, _: Any, __: str, line: EventDict) -> EventDict:
        """Leave out lines, never critical ones, by event, subject and stage.

        The subject is nothing that unrelated requests share: the video where a line has one,
        else the trace, else (outside requests) the logger and text.
        """
        if self.per_min and line["level"] != "critical":
            subject = (
                line.get("video_id")
                or trace.get_current_span().get_span_context().trace_id
                or (line.get("logger"), line.get("message"))
            )
            left_out = self.left_out((line["event"], text_of(subject), text_of(line.get("stage"))))
            if left_out < 0:
                instruments.LOGS_SUPPRESSED.add(1, signal="logs")
                raise structlog.DropEvent
            if left_out:
                line["suppressed"] = left_out
        return line


class Stderr:
    """Where lines end. Each is one system call, so workers that share stderr never mix lines."""

    def write(self, line: bytes) -> None:
        # Nobody reads stderr any more, or its disk is full: the line still goes over OTLP.
        with suppress(OSError):
            os.write(2, line)

    def line(self, line: str | bytes) -> None:
        """Write a finished line; structlog calls this by its level."""
        self.write((line if isinstance(line, bytes) else line.encode()) + b"\n")

    debug = info = warning = error = critical = line


class ToOtlp:
    """Hands masked lines to a logger of the SDK, as records of the current span."""

    logger: Logger | None = None

    def __call__(self, _: Any, __: str, line: EventDict) -> EventDict:
        if self.logger is not None:
            severity = std_to_otel(_LEVELS[line["level"]])
            self.logger.emit(
                timestamp=time.time_ns(),
                severity_number=severity,
                severity_text=severity.name,
                body=line["event"],
                event_name=line["event"],
                attributes={k: v for k, v in line.items() if v is not None and k != "level"},
            )
        return line


stderr: Final = Stderr()
otlp: Final = ToOtlp()
# What makes a line of ours; filled by `arrange`.
_processors: Final[list[Processor]] = []
_root: Final[Any] = structlog.wrap_logger(
    stderr, _processors, structlog.make_filtering_bound_logger(logging.DEBUG), dict
)


def get_logger(name: str | None = None, /, **bound: Any) -> FilteringBoundLogger:
    """A structlog logger whose first argument is an event of the catalogue.

    `name` (usually `__name__`) appears as `logger` in its lines. Values given to a call win over
    bound ones, and both over `log_context`. From `warning` on a line says where it was written.
    """
    if name:
        bound["logger"] = name
    logger: FilteringBoundLogger = _root.bind(**bound)
    return logger


log: Final = get_logger()


def _add_context(_: Any, __: str, line: EventDict) -> EventDict:
    return {**current_fields(), **line}


def _check_event(_: Any, __: str, line: EventDict) -> EventDict:
    if line["event"] not in events.CATALOGUE:
        instruments.TELEMETRY_UNKNOWN.add(1, kind="event")
        warn_about_event(line["event"])
    return line


@lru_cache(maxsize=1000)
def warn_about_event(event: str) -> None:
    """Say once that an event is not in the catalogue."""
    log.warning("telemetry.event.unknown", unknown_event=event)


_callsite: Final = CallsiteParameterAdder(
    (CallsiteParameter.PATHNAME, CallsiteParameter.LINENO), additional_ignores=[__name__]
)


def _add_source(logger: Any, name: str, line: EventDict) -> EventDict:
    if line["level"] not in ("debug", "info") and "source" not in line:
        where = _callsite(logger, name, {})
        path = where["pathname"].removeprefix(_PACKAGE_PARENT)
        line["source"] = f"{path}:{where['lineno']}"
    return line


def _describe_exception(_: Any, __: str, line: EventDict) -> EventDict:
    """Type, message and stack of an exception with its causes, without local variables."""
    raised = line.pop("exc_info", None)
    if raised and not isinstance(raised, BaseException):
        raised = raised[1] if isinstance(raised, tuple) else sys.exc_info()[1]
    if raised:
        stack = traceback.TracebackException.from_exception(raised, limit=-_MAX_FRAMES).format()
        line["exception_type"] = type(raised).__name__
        line["exception_message"] = text_of(raised)
        line["exception_stack"] = "".join(stack).rstrip().replace(_PACKAGE_PARENT, "")
    return line


def _mask(_: Any, __: str, line: EventDict) -> EventDict:
    try:
        clean = redact_mapping(line)
    except Exception:  # fail closed: an unmasked line must not get out
        instruments.TELEMETRY_REDACTION_FAILURES.add(1, signal="logs")
        return {"event": line["event"], "level": line["level"], "redaction": FAILED}
    if clean is not line:
        instruments.TELEMETRY_REDACTIONS.add(count_masks(clean), signal="logs")
    # Most values are plain, and asking here is three times as quick as calling.
    return {
        key if type(key) is str and key.isascii() else _encodable(key): value
        if ((kind := type(value)) is str and value.isascii())
        or (kind is int and abs(value) < 1 << 63)
        or (kind is float and math.isfinite(value))
        or kind is bool
        else _encodable(value)
        for key, value in clean.items()
    }


def _encodable(value: Any) -> Any:
    """The value with what neither JSON nor OTLP can carry replaced: lone surrogates, integers
    beyond 64 bits, keys that are no text, values of other types."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, int):
        return value if -(1 << 63) <= value < 1 << 63 else str(value)
    if isinstance(value, Mapping):
        fields = ((text_of(key), item) for key, item in value.items() if item is not None)
        return {_encodable(key): _encodable(item) for key, item in fields}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_encodable(item) for item in value if item is not None]
    return _encodable(value.isoformat() if isinstance(value, datetime) else text_of(value))


def _with_trace(line: EventDict, **own: str) -> EventDict:
    """The line with what a call cannot replace, which comes first."""
    ids = trace.get_current_span().get_span_context()
    if ids.is_valid:  # formatted in the quickest way
        own |= {"trace_id": "%032x" % ids.trace_id, "span_id": "%016x" % ids.span_id}  # noqa: UP031
    return {**_FIRST, **own, **line, **own}


def _for_people(_: Any, __: str, line: EventDict) -> EventDict:
    shown: EventDict = all_visible(_with_trace(line))
    if "exception_stack" in shown:
        shown["exception"] = shown.pop("exception_stack")
    return shown


def arrange(settings: Settings) -> list[Processor]:
    """Make lines as the settings say; returns what makes one. May be called again."""
    common = {
        "service": _encodable(settings.service_name),
        "environment": _encodable(settings.environment),
        "version": VERSION,
    }
    least = _LEVELS[settings.log_level.lower()]

    def drop_below(_: Any, __: str, line: EventDict) -> EventDict:
        if _LEVELS[line["level"]] < least:
            raise structlog.DropEvent
        return line

    def to_json(_: Any, __: str, line: EventDict) -> ProcessorReturnValue:
        line["timestamp"] = datetime.now(UTC)  # orjson writes it in a quarter of the time
        return orjson.dumps(_with_trace(line, **common), option=orjson.OPT_UTC_Z)

    rendering: list[Processor] = [to_json]
    if not settings.enable_structured_logging:
        console = structlog.dev.ConsoleRenderer(
            colors=True, exception_formatter=structlog.dev.plain_traceback
        )
        rendering = [TimeStamper(fmt="%H:%M:%S.%f", utc=True), _for_people, console]
    made: list[Processor] = [
        drop_below,
        merge_contextvars,
        _add_context,
        RateLimit(settings.log_rate_limit_per_min),
        _check_event,
        _add_source,
        _describe_exception,
        _mask,
        otlp,
        *rendering,
    ]
    _processors[:] = [add_log_level, *made]
    return made


class RecordHandler(logging.Handler):
    """The root logger's only handler: records of the standard library, on the same path."""

    def __init__(self, processors: list[Processor]) -> None:
        super().__init__()
        self._sdk = RateLimit(1)
        self.setFormatter(ProcessorFormatter(processors=[_from_record, *processors, _as_text]))

    def handle(self, record: logging.LogRecord) -> bool:
        """Write the record. Never raises, and does not take the lock that handlers take.

        Who waits for it inside a finaliser may hold another that the one who has it wants.
        """
        if record.name.startswith(_REPORTED_ELSEWHERE):
            return False
        if record.name.startswith("opentelemetry") and self._sdk.left_out(text_of(record.msg)) < 0:
            return False
        try:
            record.getMessage()
        except Exception:  # wrong arguments of someone else's call
            record.msg, record.args = f"{text_of(record.msg)} (could not be formatted)", ()
        with suppress(structlog.DropEvent):
            stderr.line(self.format(record))
        return True


def _from_record(logger: Any, name: str, line: EventDict) -> EventDict:
    """What the chain needs of a record: the event `log.record`, with its text as `message`."""
    line = ExtraAdder()(logger, name, line)
    record: logging.LogRecord = line.pop("_record")
    del line["_from_structlog"]
    line.update(logger=record.name, message=line["event"])
    line["event"] = "telemetry.sdk" if record.name.startswith("opentelemetry") else "log.record"
    line["level"] = list(_LEVELS)[min(max(record.levelno // 10, 1), 5) - 1]
    if record.levelno >= logging.WARNING:
        line["source"] = f"{record.module}:{record.lineno}"
    return line


def _as_text(_: Any, __: str, line: Any) -> str:
    return line.decode() if isinstance(line, bytes) else line


def configure_logging(settings: Settings) -> None:
    """Set the log lines up, without OTLP: level, form, limit, the standard library's records."""
    root = logging.getLogger()
    root.handlers[:] = [RecordHandler(arrange(settings))]
    root.setLevel(settings.log_level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))
    logging.captureWarnings(True)
    threading.excepthook = lambda args: _uncaught(args.exc_value, args.thread)
    sys.unraisablehook = lambda args: _uncaught(args.exc_value, threading.current_thread())


def _uncaught(error: BaseException | None, thread: threading.Thread | None) -> None:
    """Python would print exceptions that nobody caught as they are, secrets included."""
    if isinstance(error, Exception):
        kind, name = type(error).__name__, thread and thread.name
        log.error("worker.exception", thread=name, error_type=kind, exc_info=error)


arrange(Settings.model_construct())
