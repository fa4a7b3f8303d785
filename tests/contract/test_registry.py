"""The registry is the only place that makes instruments, and what it makes fits Prometheus."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import transcript_service
from transcript_service.telemetry.instruments import (
    REGISTRY,
    Counter,
    Gauge,
    Histogram,
    Instrument,
    UpDownCounter,
)

PACKAGE = Path(str(transcript_service.__file__)).parent
# They report what is counted elsewhere: the SDK's own names, read at collection.
OBSERVERS = {"telemetry/self_metrics.py", "telemetry/http_server.py", "telemetry/instruments.py"}
METHODS = {
    "add": (Counter, UpDownCounter),
    "set": (Gauge,),
    "refreshed_by": (Gauge,),
    "record": (Histogram,),
}


def nodes() -> Iterator[tuple[str, ast.AST]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            yield str(path.relative_to(PACKAGE)), node


def test_nothing_but_the_registry_makes_instruments() -> None:
    makers = {
        file
        for file, node in nodes()
        if isinstance(node, ast.Attribute)
        and re.fullmatch(
            r"create_(observable_)?(counter|gauge|histogram|up_down_counter)", node.attr
        )
    }
    assert makers <= OBSERVERS


def calls() -> Iterator[tuple[str, int, str, str, list[str]]]:
    """(file, line, constant, method, keywords) of every `instruments.NAME.method(...)`."""
    for file, node in nodes():
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Attribute)
            and isinstance(node.func.value.value, ast.Name)
            and node.func.value.value.id == "instruments"
            and node.func.value.attr.isupper()
            and node.func.value.attr != "REGISTRY"
        ):
            keywords = [keyword.arg for keyword in node.keywords if keyword.arg]
            yield file, node.lineno, node.func.value.attr, node.func.attr, keywords


def test_every_call_uses_an_instrument_as_it_is_declared() -> None:
    by_constant = {name.upper().replace(".", "_"): item for name, item in REGISTRY.items()}
    wrong = []
    for file, line, constant, method, keywords in calls():
        instrument = by_constant.get(constant)
        if instrument is None or not isinstance(instrument, METHODS[method]):
            wrong.append(f"{file}:{line} {constant}.{method}")
        elif unknown := set(keywords) - set(instrument.attributes):
            wrong.append(f"{file}:{line} {constant} has no {unknown}")
    assert wrong == []
    assert len(list(calls())) > 20


@pytest.mark.parametrize("instrument", REGISTRY.values(), ids=lambda item: item.name)
def test_an_instrument_is_named_described_and_bounded(instrument: Instrument) -> None:
    assert re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", instrument.name)
    assert instrument.description.endswith(".")
    assert len(instrument.description) < 120
    # Unit "1" on a gauge would make Prometheus append _ratio.
    assert re.fullmatch(r"s|By|\{[a-z]+\}|", instrument.unit)
    assert all(item.values or item.limit for item in instrument.attributes.values())
    assert 1 <= instrument.series_limit <= 2000
    for zero in instrument.zeros:
        for parameter, value in zero.items():
            assert value in instrument.attributes[parameter].values


def test_names_and_labels_do_not_collide_in_prometheus() -> None:
    names = [instrument.prometheus_name for instrument in REGISTRY.values()]
    assert len(set(names)) == len(names)
    for instrument in REGISTRY.values():
        labels = [item.key.replace(".", "_") for item in instrument.attributes.values()]
        assert len(set(labels)) == len(labels)
        assert not {"job", "instance", "le", "quantile", "otel_scope_name"} & set(labels)
