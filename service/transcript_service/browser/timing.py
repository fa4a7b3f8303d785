"""The pool's own times, which no operator has to choose; tests shorten them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Times in seconds."""

    # How often the pool looks for expired contexts and asks the browser for a sign of life.
    tick_s: float = 1.0
    heartbeat_s: float = 5.0
    memory_interval_s: float = 5.0
    # Making, cleaning or closing one context takes 0.05 to 0.5 s, several seconds on a
    # machine that is overloaded; past this it is stuck.
    operation_s: float = 15.0
    # How long before its age limit a context's replacement is started.
    replace_ahead_s: float = 3.0
    # Share of the age limit by which it is made longer or shorter per context, so that
    # contexts made together do not expire together.
    age_jitter: float = 0.1
