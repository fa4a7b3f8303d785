"""The demo announces each fault before it comes, tells machines the same, and ends as it began."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from simulator.faults import Fault
from simulator.load import Plan, choose
from simulator.tour import PROGRAMME, Marks, conduct
from tests.otlp_sink import OtlpSink

RULES = Path(__file__).parents[2] / "prometheus/rules"


def rule_names() -> set[str]:
    files = (yaml.safe_load(path.read_text()) for path in RULES.glob("*.yml"))
    groups = (group for file in files for group in file["groups"])
    return {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}


def test_every_fault_and_alert_of_the_programme_exists() -> None:
    for phase in PROGRAMME:
        for fault in phase.faults:
            Fault.parse(fault)
        assert set(phase.alerts) <= rule_names()
        assert bool(phase.faults) == bool(phase.name)


def test_each_fault_stands_between_healthy_phases() -> None:
    assert [bool(phase.faults) for phase in PROGRAMME] == [
        number % 2 == 1 for number in range(len(PROGRAMME))
    ]


def test_a_tour_says_each_phase_as_it_switches_and_leaves_no_fault(
    capsys: pytest.CaptureFixture[str],
) -> None:
    switched: list[list[str]] = []
    waits = iter([False] * (len(PROGRAMME) - 1) + [True])

    async def switch(faults: Iterable[str]) -> None:
        switched.append(list(faults))

    async def stopped(_: float) -> bool:
        return next(waits)

    asyncio.run(conduct(switch, stopped, Marks(None)))
    assert switched == [*(["latency", *phase.faults] for phase in PROGRAMME), []]
    said = capsys.readouterr().out
    for phase in PROGRAMME:
        assert phase.says in said
        assert all(alert in said for alert in phase.alerts)


def test_everyday_load_is_seeded_and_mostly_plain_captions() -> None:
    plan = Plan(target="http://127.0.0.1:1", videos="everyday", seed=4)
    first = choose(plan)
    again = choose(plan)
    chosen = [next(first) for _ in range(600)]
    assert chosen == [next(again) for _ in range(600)]


def test_marks_tell_the_collector_which_fault_is_on() -> None:
    name = next(phase.name for phase in PROGRAMME if phase.name)
    with OtlpSink() as sink:
        marks = Marks(sink.url)
        marks.set(name)
        sink.wait_until(lambda: sink.counter("demo.fault", fault=name) == 1)
        marks.set("")
        sink.wait_until(lambda: sink.counter("demo.fault", fault=name) == 0)
        marks.close()
