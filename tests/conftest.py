"""Fixtures every test may use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from simulator.testing import RunningSimulator, running_simulator
from transcript_service.telemetry.testing import InMemoryTelemetry


@pytest.fixture
def telemetry() -> Iterator[InMemoryTelemetry]:
    """Spans, metrics and log lines of this test, kept in memory."""
    with InMemoryTelemetry() as memory:
        yield memory


@pytest.fixture(scope="module")
def shared_simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    """One simulator for a whole file; `simulator` hands it out clean."""
    with running_simulator(tmp_path_factory.mktemp("simulator")) as running:
        yield running


@pytest.fixture
def simulator(shared_simulator: RunningSimulator) -> RunningSimulator:
    """The file's simulator, without faults and with an empty record."""
    shared_simulator.reset()
    return shared_simulator


@pytest.fixture
def session(simulator: RunningSimulator) -> Iterator[requests.Session]:
    """A client that finds the simulator under YouTube's names."""
    with simulator.session() as made:
        yield made
