"""Holds queries against what exists; the rules behind test_dashboards.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.contract import logsql, promql
from tests.contract.places import Place, all_places, load_rules, metrics_mentioned
from tests.contract.series import CHECKOUT, Series, engine_series, service_series
from transcript_service.telemetry.instruments import Instrument

# Units of Grafana in which a kind of value may be shown.
_SHOWN_AS = {
    promql.SECONDS: {"s"},
    promql.BYTES: {"bytes"},
    promql.BYTES_PER_SECOND: {"Bps"},
    promql.PER_SECOND: {"ops", "reqps"},
    promql.COUNT: {"short", "none"},
    promql.RATIO: {"percentunit", "short"},
}

_UNIT_OF_RECORD = {
    promql.SECONDS: "s",
    promql.BYTES: "By",
    promql.RATIO: "ratio",
    promql.COUNT: "",
}
# Where the expression does not tell (a threshold is a bare number), the record's name does.
_UNIT_IN_NAME = {"seconds": "s", "bytes": "By", "ratio": "ratio", "count": "", "minimum": ""}


def known_series(
    registry: Iterable[Instrument] | None = None, checkout: Path = CHECKOUT
) -> dict[str, Series]:
    """Everything that may be named: instruments, engines, and what the rules record."""
    known = engine_series() | service_series(registry, checkout)
    known["ALERTS"] = _alerts(known["ALERTS"], checkout)
    recording = [(rule["record"], rule) for _, rule in load_rules(checkout) if "record" in rule]
    # A record may be made of other records, whatever the order of the files.
    while ready := [item for item in recording if not _names_missing(item[1], known, recording)]:
        for name, rule in ready:
            reading = promql.read(str(rule["expr"]), known)
            labels = None if reading.labels is None else dict(reading.labels)
            for label in rule.get("labels", {}):
                labels = {**(labels or {}), label: None}
            known[name] = Series(
                name,
                reading.kind if reading.kind in ("histogram", "counter") else "gauge",
                _UNIT_OF_RECORD.get(reading.unit, _unit_in(name)),
                {"*": None} if labels is None else labels,
            )
            recording.remove((name, rule))
    return known


def _unit_in(record: str) -> str:
    word = record.rpartition(":")[2].partition("_")[0]
    return _UNIT_IN_NAME.get(word, "?")


def _names_missing(
    rule: Mapping[str, object],
    known: Mapping[str, Series],
    recording: list[tuple[str, dict[str, object]]],
) -> bool:
    """Whether a rule is made of records that are not known yet."""
    waiting = {name for name, _ in recording if name not in known}
    return any(name in str(rule["expr"]) for name in waiting if name != rule["record"])


def _alerts(series: Series, checkout: Path) -> Series:
    alerts = [rule for _, rule in load_rules(checkout) if "alert" in rule]
    labels = dict(series.labels)
    labels["alertname"] = frozenset(rule["alert"] for rule in alerts)
    labels["alertstate"] = frozenset(("pending", "firing"))
    labels["severity"] = frozenset(rule["labels"]["severity"] for rule in alerts)
    return Series(series.name, series.kind, series.unit, labels)


def problems_at(place: Place, known: Mapping[str, Series]) -> list[str]:
    """What is wrong at one place, each with the place in front."""
    if place.language == "logsql":
        return [f"{place.where}: {problem}" for problem in logsql.problems_of(place.expression)]
    reading = promql.read(place.expression, known)
    problems = list(reading.problems)
    if not problems:
        shown = _SHOWN_AS.get(reading.unit)
        if place.unit is not None and shown is not None and place.unit not in shown:
            problems.append(f"shown as {place.unit!r}, but its values are {reading.unit!r}")
        if reading.labels is not None:
            problems += [
                f"names the label {label}, which the result does not have"
                for label in place.named
                if label not in reading.labels
            ]
    return [f"{place.where}: {problem}" for problem in problems]


def all_problems(
    registry: Iterable[Instrument] | None = None, checkout: Path = CHECKOUT
) -> list[str]:
    """Everything wrong with any query of a checkout."""
    known = known_series(registry, checkout)
    found = [problem for place in all_places(checkout) for problem in problems_at(place, known)]
    found += [
        f"{where}: no such metric: {name}"
        for where, name in metrics_mentioned(checkout)
        if name not in known
    ]
    return found
