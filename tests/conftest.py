"""Fixtures every test may use."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from hypothesis import HealthCheck, settings

from simulator.testing import RunningSimulator, running_simulator
from tests.live import FAST_TELEMETRY, LiveStack, running_stack
from transcript_service.telemetry.testing import InMemoryTelemetry

TESTS = Path(__file__).parent

# One worker takes a whole group: the tests of a file (they share fixtures), or of all files that
# share a stack. Those that take longest begin first, so that at the end none is waited for alone.
# In a group, the tests that break what they share come last.
FIRST = (
    "integration/test_alerts_live.py",
    "integration/test_one_request.py",
    "integration/test_command_line.py",
    "integration/test_canaries.py",
    "faults/test_killed_engines.py",
    "integration/test_stack.py",
    "integration/test_dashboards_live.py",
    "browser/test_dashboard_page.py",
    "integration/test_dashboard_under_load.py",
    "faults/test_collector_outage.py",
    "integration/test_stack_launcher.py",
    "faults/",
    "browser/",
    "integration/",
    "contract/",
    "unit/",
)

# Quick in `make test`, thorough in `make test-all`. On a busy machine any example may be slow.
settings.register_profile(
    "quick", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=1000)
settings.load_profile("quick")


def pytest_configure() -> None:
    """Let the fixtures clean up at the end of a job (SIGTERM), and in a script's background."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put every test into a group, and the groups into their order."""

    def place(item: pytest.Item) -> str:
        return item.path.relative_to(TESTS).as_posix()

    def rank(item: pytest.Item) -> int:
        return next((n for n, start in enumerate(FIRST) if place(item).startswith(start)), 0)

    for item in items:
        shares_a_stack = "live" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("live" if shares_a_stack else place(item)))
    items.sort(key=rank)


@pytest.fixture
def telemetry() -> Iterator[InMemoryTelemetry]:
    """Spans, metrics and log lines of this test, kept in memory."""
    with InMemoryTelemetry() as memory:
        yield memory


@pytest.fixture(scope="session")
def live() -> Iterator[LiveStack]:
    """A running stack with two workers and the simulator; its users are in the group `live`."""
    # The Collector's debug output is one of the places that are searched for secrets.
    environ = {**FAST_TELEMETRY, "WEB_CONCURRENCY": "2", "OTELCOL_LOG_LEVEL": "debug"}
    with running_stack("shared", environ) as stack:
        yield stack


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
