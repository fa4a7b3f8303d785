"""Every query of every dashboard, asked of the real engines after a load with faults.

A stack of its own, because engines are killed at the end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from stack.layout import CHECKOUT, Layout
from stack.supervise import Supervisor
from tests.contract.places import all_places
from tests.contract.promql import expand
from tests.live import FAST_TELEMETRY, LiveStack, faster_clocks, running_stack, wait_for
from tests.panels import all_good

LISTING = CHECKOUT / ".stack" / "dashboards-live.txt"


@pytest.fixture(scope="module")
def stack() -> Iterator[LiveStack]:
    """A stack under a steady mixed load with three random faults switched on."""
    # At the end nobody waits for the answers that are still held back.
    environ = {**FAST_TELEMETRY, "WEB_CONCURRENCY": "2", "GRACEFUL_TIMEOUT_S": "3"}
    with running_stack("dashboards", environ) as running, _load(running.layout):
        faster_clocks(running)
        yield running


@contextmanager
def _load(place: Layout) -> Iterator[None]:
    command = [sys.executable, "-m", "simulator", "load", "--target", place.url("service")]
    command += ["--rate", "5", "--duration", "600", "--concurrency", "8", "--seed", "7"]
    command += ["--videos", "mix", "--faults", "3", "--ca-file", str(place.simulator_ca)]
    command += ["--control", f"https://{place.address('simulator')}"]
    with (place.state_dir / "load.log").open("wb") as log:
        load = subprocess.Popen(command, cwd=CHECKOUT, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        load.kill()  # it would wait for answers that a fault holds back
        load.wait(120)


def _pid(stack: LiveStack, program: str) -> int:
    """The process id of a program, 0 in the moment between its death and its next start."""
    return int(Supervisor(stack.layout).processes()[program].pid or 0)


def test_every_panel_answers_and_none_that_must_have_data_is_empty(stack: LiveStack) -> None:
    start = time.time()
    answers = all_good(stack, start)
    listing = "\n".join(map(str, answers))
    LISTING.write_text(f"{listing}\n{len(answers)} panels\n")
    print(listing)
    assert len(answers) >= 60
    assert [str(answer) for answer in answers if not answer.is_good] == []


def test_annotations_and_variables_are_queries_that_prometheus_takes(stack: LiveStack) -> None:
    for place in all_places():
        if ".json: annotation" in place.where or ".json: variable" in place.where:
            stack.query(expand(place.expression))  # raises on an error


@pytest.mark.slow  # tests/faults/test_killed_engines.py is the quick one
@pytest.mark.parametrize("engine", ["otel-collector", "prometheus"])
def test_dashboards_recover_by_themselves_when_an_engine_is_killed(
    stack: LiveStack, engine: str
) -> None:
    killed = stack.pid(engine)
    os.kill(killed, signal.SIGKILL)
    wait_for(f"another {engine}", lambda: _pid(stack, engine) not in (0, killed))
    start = time.time()
    wait_for(
        "metrics newer than the restart",
        lambda: (stack.number("max(timestamp(transcript_requests_total))") or 0) > start,
    )
    all_good(stack, start)
