"""Fixtures every test may use."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections import defaultdict
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType

import psutil
import pytest
import requests
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import NodeManager

from simulator.testing import RunningSimulator, running_simulator
from stack.layout import CHECKOUT
from tests.live import FAST_TELEMETRY, LiveStack, running_stack
from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.telemetry.logs import Stderr

# Containers often forbid Python to keep what it has compiled. The tests start it hundreds of times,
# and each time it would compile the service and all its libraries.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# These use one stack, the fixture `live`; those that break it come last.
SHARING = (
    "tests/integration/test_one_request.py",
    "tests/integration/test_engine_pages.py",
    "tests/integration/test_command_line.py",
    "tests/integration/test_canaries.py",
    "tests/faults/test_killed_engines.py",
)
# Seconds that files take in each of the two runs, long ones only. Those that take longest begin
# first, so that at the end none is waited for alone. A run with workers writes what it measured to
# .stack/durations.json.
DURATIONS: dict[str, dict[str, float]] = json.loads(
    Path(__file__).with_name("durations.json").read_text()
)

# Quick in `make test`, thorough in `make test-all`. On a busy machine any example may be slow.
settings.register_profile(
    "quick", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=400)
settings.load_profile("quick")


def pytest_configure(config: pytest.Config) -> None:
    """Let the fixtures clean up at the end of a job (SIGTERM), and in a script's background."""
    if config.getoption("capture") != "no":
        Stderr.write = _write_in_tests  # type: ignore[method-assign]
    once = hasattr(config, "workerinput")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt_once if once else signal.default_int_handler)


def _write_in_tests(self: Stderr, line: bytes) -> None:
    # Threads outlive a test, such as a shared pool's or a query's that timed out. What they write
    # between two tests would stand in the midst of the run's report. Asked for once: pytest puts
    # descriptor 2 back from another thread.
    if (kept := sys.stderr) is not sys.__stderr__:
        with suppress(OSError, ValueError):
            os.write(kept.fileno(), line)


def _interrupt_once(number: int, frame: FrameType | None) -> None:
    # execnet interrupts a worker again 5 s later, which would end the cleaning up.
    for other in (signal.SIGTERM, signal.SIGINT):
        signal.signal(other, signal.SIG_IGN)
    signal.default_int_handler(number, frame)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End a worker that was interrupted and has cleaned up: the run waits for that."""
    if hasattr(config, "workerinput") and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        os._exit(2)


def run_of(config: pytest.Config) -> str:
    """Which of the two runs this is most like."""
    return "make test-all" if config.getoption("markexpr").startswith("slow") else "make test"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the tests into their order."""
    seconds = DURATIONS[run_of(config)]

    def rank(item: pytest.Item) -> tuple[float, str, int]:
        unit, file = unit_of(item.nodeid), item.nodeid.partition("::")[0]
        return -seconds.get(unit, 0), unit, SHARING.index(file) if file in SHARING else 0

    items.sort(key=rank)
    for item in items:
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(f"workers would not agree on the name of {item.nodeid}")
        if "live" in getattr(item, "fixturenames", ()) and not item.nodeid.startswith(SHARING):
            raise pytest.UsageError(f"{item.nodeid} uses the shared stack: add it to SHARING")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage meanwhile, nor later among what was collected.

    Each worker imports everything and makes five thousand tests of it, which stay until the end.
    To look through them again and again took a third of the CPU time of this.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def unit_of(nodeid: str) -> str:
    """What a worker does as a whole: a file, whose tests share fixtures, or the shared stack's."""
    file = nodeid.partition("::")[0]
    return "live" if file in SHARING else file


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Gives a worker all tests of a unit."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)


class Stopwatch:
    """Keeps how long each unit took."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._seconds: dict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[unit_of(report.nodeid)] += report.duration

    def pytest_sessionfinish(self) -> None:
        longest = sorted(self._seconds.items(), key=lambda item: -item[1])
        long = {unit: round(seconds) for unit, seconds in longest if seconds >= 5}
        file = CHECKOUT / ".stack" / "durations.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({self._run: long}, indent=1) + "\n")


class Interrupt:
    """Tells the workers of a run that is broken off, so that their fixtures clean up in time."""

    def pytest_keyboard_interrupt(self) -> None:
        # And waits: execnet ends them after 15 s, in which no stack goes down on a busy machine.
        workers = psutil.Process().children()
        for worker in workers:
            worker.send_signal(signal.SIGINT)
        psutil.wait_procs(workers, timeout=180)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    """Instead of xdist's groups, which pytest 9.2 does not know (pytest-xdist issue 1386)."""
    config.pluginmanager.register(Interrupt())
    config.pluginmanager.register(Stopwatch(run_of(config)))
    NodeManager.EXIT_TIMEOUT = 30
    return ByFile(config, log)


@pytest.fixture
def telemetry() -> Iterator[InMemoryTelemetry]:
    """Spans, metrics and log lines of this test, kept in memory."""
    with InMemoryTelemetry() as memory:
        yield memory


@pytest.fixture(scope="session")
def live() -> Iterator[LiveStack]:
    """A running stack with two workers and the simulator; its users are in `SHARING`."""
    # The Collector's debug output is one of the places that are searched for secrets.
    environ = {
        **FAST_TELEMETRY,
        "WEB_CONCURRENCY": "2",
        "OTELCOL_LOG_LEVEL": "debug",
        "DASHBOARD_CACHE_TTL_S": "1",  # else who asks too early waits for half a minute
    }
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
