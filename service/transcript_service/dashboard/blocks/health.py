"""One word about the whole, and the checks it rests on."""

from __future__ import annotations

from typing import Final

from ..answers import Answers
from ..shapes import Check, Health, Level, Verdict
from .performance import success_ratio

_WORST_FIRST: Final[tuple[Level, ...]] = ("fail", "warn", "unknown", "ok")
_VERDICT: Final[dict[Level, Verdict]] = {
    "ok": "healthy",
    "warn": "degraded",
    "fail": "unhealthy",
    "unknown": "unknown",
}
# The availability objective of the alert rules is 95 %; below 80 % their fast page fires.
_GOOD_RATIO: Final = 0.95
_BAD_RATIO: Final = 0.80
# Two missed exports of 15 s are a hiccup, more is a silence.
_TELEMETRY_OLD_S: Final = 45.0
_STOPPED: Final = frozenset({"open", "forced_open"})


def _check(name: str, level: Level, text: str, value: float | None = None) -> Check:
    return {"name": name, "level": level, "text": text, "value": value}


def build(answers: Answers) -> Health:
    checks = [
        _telemetry(answers),
        _success(answers),
        _breakers(answers),
        _engines(answers),
        _alerts(answers),
    ]
    levels: list[Level] = [check["level"] for check in checks]
    # No traffic is no verdict about success, but it does not make the rest unknown.
    if checks[0]["level"] != "unknown":
        levels = [level for level in levels if level != "unknown"] or ["unknown"]
    return {
        "verdict": _VERDICT[min(levels, key=_WORST_FIRST.index)],
        "checks": checks,
        "workers": answers.number("workers"),
        "telemetry_age_s": answers.number("telemetry_age"),
        "engines": None
        if "engines" in answers.failures
        else {job: up == 1 for (job,), up in sorted(answers.by("engines", "job").items())},
        "redaction_failures": answers.number("redaction_failures"),
        "logs_suppressed": answers.number("logs_suppressed"),
    }


def _telemetry(answers: Answers) -> Check:
    if "workers" in answers.failures:
        return _check("telemetry", "unknown", "The metrics store did not say.")
    workers, age = answers.number("workers"), answers.number("telemetry_age")
    if not workers:
        return _check("telemetry", "fail", "No worker has reported in the last two minutes.", age)
    count = f"{workers:.0f} worker{'s' if workers != 1 else ''} reporting"
    if age is not None and age > _TELEMETRY_OLD_S:
        return _check("telemetry", "warn", f"{count}, the last time {age:.0f} s ago.", age)
    return _check("telemetry", "ok", f"{count}.", age)


def _success(answers: Answers) -> Check:
    value = success_ratio(answers.by("recent_requests", "outcome", "error_type"))
    if value is None:
        return _check("success", "unknown", "No request that could succeed in the last 5 minutes.")
    level: Level = "ok" if value >= _GOOD_RATIO else "warn" if value >= _BAD_RATIO else "fail"
    return _check("success", level, f"{value:.1%} of requests succeeded in 5 minutes.", value)


def _breakers(answers: Answers) -> Check:
    states: dict[str, set[str]] = {}
    for name, state in answers.by("breakers_now", "name", "state"):
        states.setdefault(name, set()).add(state)
    if not states:
        return _check("breakers", "unknown", "No breaker has reported.")
    stopped = {name for name, found in states.items() if found & _STOPPED}
    tripped = sorted(stopped | {name for name, found in states.items() if "half_open" in found})
    if not tripped:
        return _check("breakers", "ok", "All breakers are closed.", 0)
    # A stage behind one that works again gets no call, so its breaker no probe that would close
    # it. Nobody is turned away, and whether the stage works is not known.
    called = {name for (name,) in answers.by("breaker_calls_now", "name")}
    waiting = {
        name
        for name in tripped
        if name not in called
        and "forced_open" not in states[name]
        and "breaker_calls_now" not in answers.failures
    }
    level: Level = "unknown" if waiting.issuperset(tripped) else "warn"
    if level == "warn" and len(stopped) == len(states):
        level = "fail"
    text = ", ".join(
        f"{name} is {'open' if name in stopped else 'half-open'}"
        + (" and waits for its next call" if name in waiting else "")
        for name in tripped
    )
    return _check("breakers", level, f"{text}.", len(stopped))


def _engines(answers: Answers) -> Check:
    engines = answers.by("engines", "job")
    # What was never up is not down: the native stack runs what is built while it builds the rest.
    building = f" Not built yet: {', '.join(answers.not_built)}." if answers.not_built else ""
    if not engines:
        text = "No engine is watched by this Prometheus."
        return _check("engines", "unknown", text + building)
    # Of several that stand for one another, some may be there.
    down = sorted(f"part of {job}" if up else job for (job,), up in engines.items() if up < 1)
    if down:
        return _check("engines", "warn", f"Not answering: {', '.join(down)}.{building}", len(down))
    count = "1 engine answers" if len(engines) == 1 else f"{len(engines)} engines answer"
    return _check("engines", "ok", f"{count}.{building}", 0)


def _alerts(answers: Answers) -> Check:
    if "firing" in answers.failures:
        return _check("alerts", "unknown", "The metrics store did not say.")
    firing = answers.by("firing", "severity")
    total = sum(firing.values())
    if not total:
        return _check("alerts", "ok", "No alert is firing.", 0)
    critical = firing.get(("critical",), 0)
    text = f"{total:.0f} firing, {critical:.0f} of them critical."
    return _check("alerts", "fail" if critical else "warn", text, total)
