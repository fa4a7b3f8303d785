"""What callers may ask, declared once: read strictly here, described by `web.openapi`."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Final, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)

from ..problem import Problem, TraceId
from ..telemetry.vocabulary import ErrorType, Outcome, Source, Stage
from .window import MAX_HOURS, Window

MOST_LINES: Final = 500
MOST_TRACES: Final = 200
# Decimals in ASCII digits, with a negative exponent as programs write very small numbers.
# pydantic alone would take "1e2", "1_0", "+1" and spaces around: two ways to write one window.
_DECIMAL: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,20})?(e-[0-9]{1,3})?", re.ASCII)
_WHOLE: Final = re.compile(r"[0-9]{1,6}", re.ASCII)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
# The days that every month has: a pattern cannot say more.
_TIME_SCHEMA: Final = (
    "^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"
    r"T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?Z$"
)


def _decimal(text: str) -> float:
    if not _DECIMAL.fullmatch(text):
        raise ValueError("must be a decimal number")
    return float(text)


def _whole(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError("must be a whole number")
    return int(text)


def _moment(text: str) -> float:
    try:
        at = datetime.fromisoformat(text).timestamp() if _TIME.fullmatch(text) else math.nan
    except (ValueError, OverflowError):
        at = math.nan
    if not 0 <= at < 253370764800:  # the year 9999
        raise ValueError("must be a time such as 2026-11-24T17:41:09Z")
    return at


# Limits stand before the validators, or pydantic's schema does not know them.
_Duration = Annotated[float, Field(ge=0, le=999_999, examples=[5]), BeforeValidator(_decimal)]
# Unix seconds; a caller writes RFC 3339.
_Moment = Annotated[
    float,
    BeforeValidator(_moment),
    WithJsonSchema(
        {"type": "string", "pattern": _TIME_SCHEMA, "examples": ["2026-11-24T17:41:09Z"]}
    ),
]
_Stage = Annotated[Stage | None, Field(description="Look at one stage only.")]
_Video = Annotated[str | None, Field(pattern="^[A-Za-z0-9_-]{11}$", examples=["dQw4w9WgXcQ"])]


class Nothing(BaseModel):
    """No parameters; those that have some know no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Recent(Nothing):
    """A window that ends now, or where it is told to."""

    hours: Annotated[
        float,
        Field(
            gt=0,
            le=MAX_HOURS,
            description=f"How far back to look: above 0, at most {MAX_HOURS}.",
            examples=[0.25],
        ),
        BeforeValidator(_decimal),
    ] = 1
    stage: _Stage = None
    end: Annotated[_Moment | None, Field(description="Where the hours end; now, unless given.")] = (
        None
    )

    def window(self) -> Window:
        return Window.of(self.hours, self.stage, self.end)


class OneTrace(Nothing):
    trace_id: TraceId


class Search(Recent):
    """Traces by what is known of them. Durations are those of the whole request."""

    video: _Video = None
    outcome: Annotated[Outcome | None, Field(examples=["blocked"])] = None
    error_type: Annotated[ErrorType | None, Field(examples=["ip_blocked"])] = None
    source: Annotated[Source | None, Field(examples=["timedtext"])] = None
    min_s: Annotated[
        _Duration | None, Field(description="Duration of the whole request, in seconds.")
    ] = None
    max_s: _Duration | None = None
    limit: Annotated[int, Field(ge=1, le=MOST_TRACES), BeforeValidator(_whole)] = 50

    def within(self) -> tuple[float, float]:
        """Start and end in Unix seconds."""
        end = time.time() if self.end is None else self.end
        return max(0.0, end - self.hours * 3600), end


LogLevel = Literal["debug", "info", "warning", "error"]


class Tail(Nothing):
    """The newest log lines."""

    since: Annotated[
        _Moment | None,
        Field(description="The `next_since` of the answer before; without it five minutes."),
    ] = None
    level: Annotated[
        LogLevel | None, Field(description="This level and above.", examples=["warning"])
    ] = None
    stage: _Stage = None
    video: _Video = None
    limit: Annotated[int, Field(ge=1, le=MOST_LINES), BeforeValidator(_whole)] = 200


def invalid_parameter(detail: str) -> Problem:
    """What a caller asked for that cannot be asked."""
    return Problem(400, "invalid_parameter", detail)


A = TypeVar("A", bound=Nothing)


def read(shape: type[A], arguments: Iterable[tuple[str, str]]) -> A:
    """The parameters of a query string, repetitions included.

    Raises:
        Problem: 400 `invalid_parameter`: not exactly one valid value of each.
    """
    given: dict[str, str] = {}
    for name, value in arguments:
        if name not in shape.model_fields:
            known = ", ".join(shape.model_fields)
            raise invalid_parameter(
                f"The only parameters are {known}." if known else "This takes no parameters."
            )
        if name in given:
            raise invalid_parameter(f"{name} is given more than once.")
        given[name] = value
    try:
        return shape.model_validate(given)
    except ValidationError as error:
        wrong = error.errors(include_input=False, include_url=False)[0]
        told = wrong["msg"].removeprefix("Value error, ")
        raise invalid_parameter(f"{wrong['loc'][0]}: {told}.") from None
