"""A stack of its own for tests: the real engines, the service, the simulator, and questions.

`make test` builds the engines first; everything here listens on 127.0.0.1, at an offset
(tests/ports.py) that is free.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import requests

from stack.layout import CHECKOUT, Layout
from stack.ports import listeners, socket_inodes
from stack.supervise import Supervisor, orphans
from tests.ports import claimed_offset

T = TypeVar("T")

# 127.0.0.1, ::1 and ::ffff:127.0.0.1 as the kernel writes them.
LOOPBACK = {
    "0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"
}  # fmt: skip

# Telemetry arrives within two seconds instead of fifteen; nothing else differs.
FAST_TELEMETRY = {
    "OTEL_METRIC_EXPORT_INTERVAL": "1000",
    "OTEL_BSP_SCHEDULE_DELAY": "300",
    "OTEL_BLRP_SCHEDULE_DELAY": "300",
}

# Prometheus' times, a fifth of what they are or less.
_FASTER_CLOCKS = {
    "scrape_interval: 15s": "scrape_interval: 3s",
    "scrape_timeout: 10s": "scrape_timeout: 3s",
    "evaluation_interval: 15s": "evaluation_interval: 3s",
    "rule_query_offset: 30s": "rule_query_offset: 3s",
}


def wait_for(
    what: str, check: Callable[[], T | None], timeout_s: float = 180.0, every_s: float = 0.25
) -> T:
    """The first true value of `check`, asked again and again with a pause between.

    The pause is as long as the check took, or `every_s`: what is awaited needs the machine, too.

    Raises:
        AssertionError: it stayed false for `timeout_s`; the text says what was awaited and
            what the last answer or error was.
    """
    end = time.monotonic() + timeout_s
    last: object = None
    while (began := time.monotonic()) < end:
        try:
            if value := check():
                return value
            last = value
        except (requests.RequestException, KeyError, IndexError, ValueError) as error:
            last = error
        now = time.monotonic()
        time.sleep(max(0, min(max(every_s, now - began), end - now)))
    raise AssertionError(f"waited {timeout_s:.0f} s for {what}; last: {last!r}")


@dataclass(frozen=True)
class LiveStack:
    """One running stack."""

    layout: Layout
    environ: Mapping[str, str] = field(default_factory=dict)

    def launcher(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m stack ...` for this stack."""
        return subprocess.run(
            [sys.executable, "-m", "stack", *arguments],
            cwd=CHECKOUT,
            env={
                **os.environ,
                "STACK_DIR": str(self.layout.state_dir),
                "STACK_PORT_OFFSET": str(self.layout.offset),
                "STACK_BIN_DIR": str(self.layout.bin_dir),
                **self.environ,
            },
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

    def up(self, *arguments: str) -> None:
        done = self.launcher("up", *arguments)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"

    def down(self) -> None:
        done = self.launcher("down")
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"

    def pid(self, program: str) -> int:
        """The process id of a running program, the supervisor's word.

        Raises:
            ValueError: it has none at this moment; `wait_for` asks again.
        """
        info = Supervisor(self.layout).processes()[program]
        if not info.pid:
            raise ValueError(f"{program} is not running")
        return int(info.pid)

    def listening(self) -> set[tuple[str, int]]:
        """Addresses, hexadecimal, and ports of all its processes, as the kernel has them."""
        inodes = set().union(*map(socket_inodes, orphans(self.layout)))
        return {(address, port) for address, port, inode in listeners() if inode in inodes}

    def get(self, path: str, **kwargs: Any) -> requests.Response:
        """GET from the service."""
        return requests.get(self.layout.url("service", path), timeout=90, **kwargs)

    def query(self, promql: str) -> list[dict[str, Any]]:
        """An instant query: `[{metric, value}]` with values as floats where they are."""
        answer = requests.get(
            self.layout.engine("prometheus", "/api/v1/query"), {"query": promql}, timeout=10
        ).json()
        if answer["status"] != "success":
            raise ValueError(answer["error"])
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def number(self, promql: str) -> float | None:
        """The only value of a query, `None` where there is none."""
        result = self.query(promql)
        return float(result[0]["value"][1]) if result else None

    def exemplars(self, selector: str) -> list[dict[str, Any]]:
        """Exemplars of the last hour."""
        now = time.time()
        answer = requests.get(
            self.layout.engine("prometheus", "/api/v1/query_exemplars"),
            {"query": selector, "start": str(now - 3600), "end": str(now + 60)},
            timeout=10,
        ).json()
        return [exemplar for series in answer["data"] for exemplar in series["exemplars"]]

    def spans(self, trace_id: str) -> list[dict[str, Any]]:
        """The spans of a trace in Jaeger, none where it is unknown."""
        answer = requests.get(self.layout.engine("jaeger", f"/api/traces/{trace_id}"), timeout=10)
        data = answer.json().get("data") or []
        return list(data[0]["spans"]) if data else []

    def log_lines(self, logsql: str) -> list[dict[str, str]]:
        """The lines of the last hour that a LogsQL query finds, with all their fields."""
        answer = requests.post(
            self.layout.engine("victorialogs", "/select/logsql/query"),
            {"query": logsql, "start": str(time.time() - 3600)},
            timeout=20,
        )
        answer.raise_for_status()
        return [json.loads(line) for line in answer.text.splitlines()]

    def simulator(self, method: str, path: str, body: object = None) -> Any:
        """Call the simulator's control API."""
        answer = requests.request(
            method,
            f"https://{self.layout.address('simulator')}/_sim/{path}",
            json=body,
            verify=str(self.layout.state_dir / "simulator-ca.pem"),
            timeout=10,
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None


def change_config(stack: LiveStack, engine: str, changes: Mapping[str, str]) -> None:
    """Replace texts in a running engine's configuration, which it reads again.

    Raises:
        AssertionError: one of them is not there.
    """
    file = stack.layout.config_dir / engine / f"{engine}.yml"
    text = file.read_text()
    for old, new in changes.items():
        assert old in text, f"{file.name} no longer says {old}"
        text = text.replace(old, new)
    file.write_text(text)
    os.kill(stack.pid(engine), signal.SIGHUP)


def faster_clocks(stack: LiveStack) -> None:
    """Scrape targets and evaluate rules every three seconds."""
    change_config(stack, "prometheus", _FASTER_CLOCKS)
    wait_for(
        "rules every 3 s",
        lambda: stack.number(
            'min(prometheus_rule_group_interval_seconds{rule_group=~".*breakers.alerts"}) == 3'
        ),
    )


def healthy_videos(stack: LiveStack) -> list[str]:
    """The simulator's videos that have captions and no fault of their own."""
    videos = stack.simulator("GET", "videos")["videos"]
    return [v["id"] for v in videos if v["tracks"] and not v["default_fault"]]


class Load:
    """Steady requests from some threads until the block ends, each answer kept.

    Args:
        stack: whom to ask.
        videos: which transcripts to ask for, at random.
        threads: how many clients.
        pause_s: what each waits before its next request, in seconds.
    """

    def __init__(
        self, stack: LiveStack, videos: Sequence[str], *, threads: int = 1, pause_s: float = 0.1
    ) -> None:
        self._stack = stack
        self._videos = videos
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(seed),), daemon=True)
            for seed in range(threads)
        ]
        self.statuses: list[int] = []
        """Of every request so far; 0 where no answer came."""
        self.trace_ids: list[str] = []
        self.began: list[float] = []
        """When those of `trace_ids` were asked, in seconds since the epoch."""

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(90)

    def _run(self, dice: random.Random) -> None:
        while not self._stop.wait(self._pause_s):
            began = time.time()
            try:
                answer = self._stack.get(f"/api/transcripts/{dice.choice(self._videos)}")
            except requests.RequestException:
                self.statuses.append(0)
            else:
                self.statuses.append(answer.status_code)
                # A balancer's own answers have none.
                self.trace_ids.append(answer.headers.get("X-Correlation-ID", ""))
                self.began.append(began)

    def more(self, count: int, timeout_s: float = 240) -> None:
        """Wait for `count` further answers."""
        wanted = len(self.statuses) + count
        wait_for(f"{count} more answers", lambda: len(self.statuses) >= wanted, timeout_s)


def layout(name: str, offset: int) -> Layout:
    """A stack's place below the checkout's own state folder, sharing its built engines."""
    base = CHECKOUT / ".stack"
    bin_dir = Path(os.environ.get("STACK_BIN_DIR") or base / "bin").absolute()
    return Layout(state_dir=base / "tests" / name, offset=offset, bin_dir=bin_dir)


@contextmanager
def new_stack(name: str, environ: Mapping[str, str] | None = None) -> Iterator[LiveStack]:
    """A stack that is not up yet, with an empty state folder; stopped whatever happens.

    Args:
        name: of its state folder.
        environ: settings of the service and of the launcher.
    """
    with claimed_offset() as offset:
        stack = LiveStack(layout(name, offset), environ or {})
        if Supervisor(stack.layout).pid() or orphans(stack.layout):  # a killed test run left it
            stack.down()
        shutil.rmtree(stack.layout.state_dir, ignore_errors=True)
        try:
            yield stack
        finally:
            stack.down()


@contextmanager
def running_stack(
    name: str, environ: Mapping[str, str] | None = None, *without: str
) -> Iterator[LiveStack]:
    """A stack with the simulator, up and ready; see `new_stack`."""
    with new_stack(name, environ) as stack:
        stack.up("--with", "simulator", *(("--without", *without) if without else ()))
        yield stack
