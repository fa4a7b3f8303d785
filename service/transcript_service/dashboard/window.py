"""How far back to look and at which stage, and the raster that makes of it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Self

from ..rfc3339 import rfc3339
from ..telemetry.vocabulary import Stage
from . import shapes

EXPORT_INTERVAL_S: Final = 15  # the service's metric export; finer steps would repeat samples
MAX_HOURS: Final = 168
# Of a chart, about as many as it has pixels to tell apart. What a week costs hangs on it.
MAX_POINTS: Final = 400
_MIN_SECONDS: Final = 60  # below four exports a rate has nothing to stand on
# Longest window with a point for every export. A point of a rate looks back two minutes and one
# of a breaker one minute, so longer curves miss nothing with half as many; those of gauges
# (contexts, memory, proxies) show every second value.
_EVERY_EXPORT_S: Final = 1800
_STEPS_S: Final = (15, 30, 60, 300, 900, 1800, 3600)


@dataclass(frozen=True)
class Window:
    """A stretch of time, and the raster that charts of it use.

    Attributes:
        seconds: length.
        stage: one of the vocabulary's stages, or `None` for all.
        now: where it ends and single numbers are evaluated (Unix seconds, on the export
            raster, so that equal requests are equal queries).
        past: its end was chosen; otherwise it moves on with the clock.
        step_s: distance of chart points; at most `MAX_POINTS` fit into the window.
    """

    seconds: int
    stage: Stage | None
    now: int
    past: bool = False

    @classmethod
    def of(cls, hours: float, stage: Stage | None = None, end: float | None = None) -> Self:
        """The window of so many hours up to `end` (Unix seconds), or up to now."""
        seconds = max(_MIN_SECONDS, math.ceil(round(hours * 3600, 3)))
        at = int(time.time() if end is None else end)
        return cls(seconds, stage, at - at % EXPORT_INTERVAL_S, past=end is not None)

    @property
    def start(self) -> int:
        """Where it begins, in Unix seconds."""
        return max(0, self.now - self.seconds)

    @property
    def key(self) -> tuple[int, Stage | None, int | None]:
        """What makes two windows the same question, whenever they are asked."""
        return self.seconds, self.stage, self.now if self.past else None

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
            "start": rfc3339(self.start),
            "end": rfc3339(self.now),
            "step_s": self.step_s,
            "stage": self.stage,
        }
