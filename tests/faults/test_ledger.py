"""The ledger finds a loss that is put there on purpose, at each hop; without one it is balanced."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.faults.matrix.generating import generating
from tests.faults.matrix.hop import Scripted
from tests.faults.matrix.ledger import Account
from tests.faults.matrix.rig import Rig, running_rig
from tests.live import wait_for

# Where the rows are that it judges.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with running_rig("ledger", "otel-collector", "prometheus", "victorialogs", "jaeger") as running:
        yield running


def test_without_a_fault_it_is_balanced(rig: Rig) -> None:
    account = Account(rig, "whole")
    with generating(rig, "whole") as generator:
        generator.tell("make", 250)
    balance = account.settled()
    assert balance.complete, balance
    assert balance.stored == {"traces": 250, "logs": 250, "metrics": 250}
    assert not balance.duplicates


@pytest.mark.parametrize("signal", ["traces", "logs", "metrics"])
def test_it_finds_what_never_came_to_the_export_queue(rig: Rig, signal: str) -> None:
    service = f"queue-{signal}"
    account = Account(rig, service)
    with generating(rig, service) as generator:
        generator.tell("make", 20)
        generator.tell("skip", 3, signal)
    balance = account.settled()
    assert balance.missing == {"traces": 0, "logs": 0, "metrics": 0, signal: 3}
    if signal == "traces":  # of lines the queue has others of the service's own
        assert "traces: 3 made never came to the export queue" in balance.findings
    if signal == "metrics":
        assert balance.findings == ["the counter says 20, made were 23"]
    assert balance.findings


def test_it_finds_what_was_acknowledged_in_the_collectors_place(rig: Rig) -> None:
    account = Account(rig, "acknowledged")
    with generating(rig, "acknowledged") as generator:
        generator.tell("make", 20)
        generator.tell("flush", 10)
        rig.hops["otel-collector"].script(*[Scripted(200)] * 4)
        generator.tell("make", 30)
        wait_for("all of it taken", lambda: not rig.hops["otel-collector"].answers)
    balance = account.settled()
    assert [one for one in balance.findings if "never came to the Collector" in one], balance


def test_it_finds_what_the_collector_lost(rig: Rig) -> None:
    account = Account(rig, "collector")
    with generating(rig, "collector") as generator:
        generator.tell("make", 20)
    assert account.settled().complete
    rig.hops["victorialogs"].mode = "refuse"
    with generating(rig, "collector") as generator:
        generator.tell("make", 30)
    wait_for("an empty queue of spans", lambda: not account.balance().missing["traces"])
    account.books.note()
    rig.kill("otel-collector")
    shutil.rmtree(rig.layout.data("otel-collector") / "queue")
    rig.start("otel-collector")
    rig.hops["victorialogs"].mode = "pass"
    balance = account.settled()
    assert [one for one in balance.findings if "went into the Collector and not out" in one], (
        balance
    )


@pytest.mark.parametrize(
    ("signal", "store"),
    [("logs", "victorialogs"), ("traces", "jaeger"), ("metrics", "prometheus")],
)
def test_it_finds_what_was_acknowledged_in_a_stores_place(
    rig: Rig, signal: str, store: str
) -> None:
    service = f"store-{signal}"
    account = Account(rig, service)
    hop = rig.hops[store]
    try:
        with generating(rig, service) as generator:
            generator.tell("make", 20)
            generator.tell("flush", 10)
            # To the end: a counter's next value would make up for one that was lost.
            hop.script(*[Scripted(200)] * 200)
            generator.tell("make", 30)
        balance = account.settled()
    finally:
        hop.script()
    assert [one for one in balance.findings if one.startswith(signal)], balance


def test_it_finds_a_wrong_value(rig: Rig) -> None:
    account = Account(rig, "value")
    with generating(rig, "value") as generator:
        generator.tell("make", 20)
        generator.tell("miscount", 5)
    assert "the counter says 25, made were 20" in account.settled().findings
