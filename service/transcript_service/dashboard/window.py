"""The only two things a caller may choose: how far back to look, and at which stage."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from ..rfc3339 import rfc3339
from ..telemetry.vocabulary import STAGES, Stage
from . import shapes
from .errors import invalid_parameter

EXPORT_INTERVAL_S: Final = 15  # the service's metric export; finer steps would repeat samples
MAX_HOURS: Final = 168
MAX_POINTS: Final = 720
_MIN_SECONDS: Final = 60  # below four exports a rate has nothing to stand on
# Longest window with a point for every export. A point of a rate looks back two minutes and one
# of a breaker one minute, so longer curves miss nothing with half as many; those of gauges
# (contexts, memory, proxies) show every second value.
_EVERY_EXPORT_S: Final = 1800
_STEPS_S: Final = (15, 30, 60, 300, 900, 3600)
# Decimals in ASCII digits, with a negative exponent as programs write very small numbers.
# float() alone would take "nan", "inf", "1e309", "1_0" and the digits of every script.
_HOURS: Final = re.compile(r"[0-9]{1,3}(\.[0-9]{1,20})?(e-[0-9]{1,3})?", re.ASCII)


@dataclass(frozen=True)
class Window:
    """A stretch of time that ends now, and the raster that charts of it use.

    Attributes:
        seconds: length.
        stage: one of the vocabulary's stages, or `None` for all.
        now: when single numbers are evaluated (Unix seconds, on the export raster, so that
            equal requests are equal queries).
        step_s: distance of chart points; at most `MAX_POINTS` fit into the window.
    """

    seconds: int
    stage: Stage | None
    now: int

    @property
    def key(self) -> tuple[int, Stage | None]:
        """What makes two windows the same question, whenever they are asked."""
        return self.seconds, self.stage

    @cached_property
    def step_s(self) -> int:
        finest = EXPORT_INTERVAL_S if self.seconds <= _EVERY_EXPORT_S else 2 * EXPORT_INTERVAL_S
        return next(
            step for step in _STEPS_S if step >= finest and self.seconds / step < MAX_POINTS
        )

    @property
    def rate_s(self) -> int:
        """Range of a chart's rates: it must hold several exports and leave no gap between steps."""
        return max(120, self.step_s + EXPORT_INTERVAL_S)

    @property
    def gauge_s(self) -> int:
        """Range of a chart's gauges: short, so that a dead worker's last value does not linger."""
        return max(4 * EXPORT_INTERVAL_S, self.step_s)

    @cached_property
    def chart_steps(self) -> range:
        """The Unix times of a chart's points."""
        last = self.now - self.now % self.step_s
        return range(last - self.seconds // self.step_s * self.step_s, last + 1, self.step_s)

    def as_json(self) -> shapes.Window:
        return {
            "hours": round(self.seconds / 3600, 6),
            "start": rfc3339(self.now - self.seconds),
            "end": rfc3339(self.now),
            "step_s": self.step_s,
            "stage": self.stage,
        }


def moment(now: float | None = None) -> int:
    """The present on the export raster, so that equal requests are equal queries."""
    at = int(time.time() if now is None else now)
    return at - at % EXPORT_INTERVAL_S


def parse_window(arguments: Iterable[tuple[str, str]], *, now: float | None = None) -> Window:
    """The window that a query string asks for; one hour over all stages by default.

    Args:
        arguments: name and value of every parameter, repetitions included.
        now: Unix time, for tests.

    Raises:
        Problem: 400 `invalid_parameter` for anything that is not exactly one valid value.
    """
    given: dict[str, str] = {}
    for name, value in arguments:
        if name not in ("hours", "stage"):
            raise invalid_parameter("The only parameters are hours and stage.")
        if name in given:
            raise invalid_parameter(f"{name} is given more than once.")
        given[name] = value
    return Window(
        seconds=hours_in_seconds(given.get("hours", "1")),
        stage=_stage(given.get("stage")),
        now=moment(now),
    )


def hours_in_seconds(text: str) -> int:
    """A number of hours as a caller writes it, in seconds.

    Raises:
        Problem: 400 `invalid_parameter`.
    """
    hours = float(text) if _HOURS.fullmatch(text) else math.nan
    if not 0 < hours <= MAX_HOURS:  # also false for NaN
        raise invalid_parameter(f"hours must be a decimal number above 0 and at most {MAX_HOURS}.")
    return max(_MIN_SECONDS, math.ceil(round(hours * 3600, 3)))


def _stage(text: str | None) -> Stage | None:
    found = next((stage for stage in STAGES if stage == text), None)
    if found is None and text is not None:
        raise invalid_parameter(f"stage must be one of {', '.join(STAGES)}.")
    return found
