"""Parts of a log line: where it was written, what an exception says, how it gets out."""

from __future__ import annotations

import math
import os
import sys
import traceback
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from typing import Any, Final

_MAX_FRAMES: Final = 30
_PACKAGE_PARENT: Final = os.path.dirname(os.path.dirname(os.path.dirname(__file__))) + os.sep  # noqa: PTH120 - a string prefix, compared for every warning


@cache
def version() -> str:
    """The installed version of this service."""
    try:
        return installed_version("transcript-service")
    except PackageNotFoundError:
        return "0"


def source_location(depth: int) -> str:
    """`path:line` of the caller `depth` frames up, relative to this package's folder."""
    frame = sys._getframe(depth)
    return f"{frame.f_code.co_filename.removeprefix(_PACKAGE_PARENT)}:{frame.f_lineno}"


def describe_exception(exc_info: Any) -> dict[str, str]:
    """Type, message and stack of an exception with its causes, without local variables."""
    if isinstance(exc_info, BaseException):
        error: BaseException | None = exc_info
    elif isinstance(exc_info, tuple):
        error = exc_info[1]
    else:
        error = sys.exc_info()[1]
    if error is None:
        return {}
    lines = traceback.TracebackException.from_exception(
        error, limit=-_MAX_FRAMES, capture_locals=False
    ).format()
    return {
        "exception_type": type(error).__name__,
        "exception_message": text_of(error),
        "exception_stack": "".join(lines).rstrip().replace(_PACKAGE_PARENT, ""),
    }


def write_stderr(line: bytes) -> None:
    """Write one line with one system call, so that workers sharing stderr never mix lines."""
    try:
        os.write(2, line)
    except OSError:
        # Nobody reads stderr any more (or its disk is full); the line still goes over OTLP.
        return


def text_of(value: Any) -> str:
    """`str(value)`, or what it is of where its own text raises."""
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__} without a text>"


def encodable(value: Any) -> Any:
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
        return {
            encodable(text_of(key)): encodable(item)
            for key, item in value.items()
            if item is not None
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [encodable(item) for item in value if item is not None]
    if isinstance(value, datetime):
        return value.isoformat()
    return encodable(text_of(value))
