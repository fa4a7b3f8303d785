"""What callers may ask the search endpoints, read strictly: one valid value each, or a 400."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Final, NamedTuple

from .errors import invalid_parameter
from .window import hours_in_seconds

VIDEO_ID: Final = re.compile(r"[A-Za-z0-9_-]{11}", re.ASCII)
_DECIMAL: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,20})?(e-[0-9]{1,3})?", re.ASCII)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)


class Range(NamedTuple):
    """A stretch of time in Unix seconds."""

    start: float
    end: float


def once(arguments: Iterable[tuple[str, str]], allowed: Collection[str]) -> Mapping[str, str]:
    """The parameters by name.

    Raises:
        Problem: 400, one is unknown or given twice.
    """
    given: dict[str, str] = {}
    for name, value in arguments:
        if name not in allowed:
            raise invalid_parameter(f"The only parameters are {', '.join(allowed)}.")
        if name in given:
            raise invalid_parameter(f"{name} is given more than once.")
        given[name] = value
    return given


def word(given: Mapping[str, str], name: str, words: Collection[str]) -> str | None:
    """One of the words, `None` where it is not given."""
    value = given.get(name)
    if value is not None and value not in words:
        raise invalid_parameter(f"{name} must be one of {', '.join(words)}.")
    return value


def video(given: Mapping[str, str]) -> str | None:
    """A video's id."""
    value = given.get("video")
    if value is not None and not VIDEO_ID.fullmatch(value):
        raise invalid_parameter("video must be an id of 11 characters.")
    return value


def seconds(given: Mapping[str, str], name: str) -> float | None:
    """A decimal number of seconds, at least 0."""
    value = given.get(name)
    if value is None:
        return None
    if not _DECIMAL.fullmatch(value):
        raise invalid_parameter(f"{name} must be a decimal number of seconds.")
    return float(value)


def count(given: Mapping[str, str], name: str, *, default: int, most: int) -> int:
    """A whole number from 1 to `most`."""
    value = given.get(name)
    if value is None:
        return default
    if not re.fullmatch(r"[0-9]{1,6}", value, re.ASCII) or not 1 <= int(value) <= most:
        raise invalid_parameter(f"{name} must be a whole number from 1 to {most}.")
    return int(value)


def moment(given: Mapping[str, str], name: str) -> float | None:
    """A time of RFC 3339 in UTC as Unix seconds."""
    value = given.get(name)
    if value is None:
        return None
    try:
        at = datetime.fromisoformat(value).timestamp() if _TIME.fullmatch(value) else math.nan
    except (ValueError, OverflowError):
        at = math.nan
    if not 0 <= at < 253370764800:  # the year 9999
        raise invalid_parameter(f"{name} must be a time such as 2026-11-24T17:41:09Z.")
    return at


def time_range(given: Mapping[str, str]) -> Range:
    """The `hours` (1 unless given) before `end` (now unless given).

    Raises:
        Problem: 400 `invalid_parameter`.
    """
    end = moment(given, "end")
    end = time.time() if end is None else end
    return Range(max(0.0, end - hours_in_seconds(given.get("hours", "1"))), end)
