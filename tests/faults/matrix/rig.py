"""The real engines with the stack's own configuration, each of which can be broken.

Not the stack's supervisor: it would restart what a fault is about to keep down. What differs
from the shipped configuration is time: rules and scrapes every two seconds, and the minutes of
rules are seconds (`quicken`), unless `shipped_rules` asks for the real ones.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import requests

from stack.layout import Layout
from stack.programs import PROGRAMS, Options
from stack.render import render, write
from tests.faults.matrix.hop import Hop
from tests.live import LiveStack, layout, wait_for
from tests.ports import claimed_offset
from tests.serving import serving

ENGINES = ("otel-collector", "prometheus", "alertmanager", "victorialogs", "jaeger")

_FASTER = {
    "alertmanager": {
        "group_wait: 30s": "group_wait: 1s",
        "group_interval: 15m": "group_interval: 5s",
        "repeat_interval: 14m": "repeat_interval: 4s",
    },
    "prometheus": {
        "scrape_interval: 15s": "scrape_interval: 2s",
        "scrape_timeout: 10s": "scrape_timeout: 2s",
        "evaluation_interval: 15s": "evaluation_interval: 2s",
        "rule_query_offset: 30s": "rule_query_offset: 4s",
    },
}
# A rule's times in seconds by 15, the factor of scrapes; windows not below four scrapes.
_DURATION = re.compile(r"(?<=[\[ ])(\d+)([smh])(?=[\]\n ])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600}


def quicken(rules: str) -> str:
    """Rules whose times are a fifteenth."""

    def shorter(found: re.Match[str]) -> str:
        seconds = int(found[1]) * _UNIT_S[found[2]]
        return f"{max(2 if found.string[found.start() - 1] == ' ' else 8, round(seconds / 15))}s"

    # Back by the offset of rules, as above.
    return _DURATION.sub(shorter, rules).replace("offset -30s", "offset -4s")


@dataclass
class Webhook:
    """Takes Alertmanager's notifications in the service's place."""

    status: int = 200
    port: int = 0
    taken: list[tuple[float, str, str]] = field(default_factory=list)
    """(time, alertname, status) of each alert of each accepted notification."""
    refused: int = 0

    def __enter__(self) -> Webhook:
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if webhook.status == 200:
                    webhook.taken += [
                        (time.time(), alert["labels"]["alertname"], alert["status"])
                        for alert in body["alerts"]
                    ]
                else:
                    webhook.refused += 1
                self.send_response(webhook.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        self._open = ExitStack()
        self.port = self._open.enter_context(serving(Handler, self.port))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def times(self, alertname: str, status: str = "firing") -> list[float]:
        """When one alert was told."""
        return [at for at, name, what in self.taken if (name, what) == (alertname, status)]


class MountingForbidden(RuntimeError):
    """No file system can be mounted here, so no disk can be filled."""


@dataclass
class Rig:
    """Running engines. Names are those of stack/programs.py."""

    layout: Layout
    webhook: Webhook
    hops: Mapping[str, Hop]
    """By receiver: `otel-collector` (from the generator), and the three stores' (from there)."""
    environ: Mapping[str, Mapping[str, str]]
    """By program, beyond what the stack gives it."""
    disks: frozenset[Path]
    """Mounted for one engine each, so small that they can be filled."""

    def __post_init__(self) -> None:
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.live = LiveStack(self.layout)

    def start(self, *names: str) -> None:
        """Start programs, all at once, and wait until they serve."""
        for name in names:
            self.launch(name)
        for name in names:
            self.wait_ready(name)

    def launch(self, name: str) -> None:
        """Start one and do not wait."""
        program, options = PROGRAMS[name], Options(extras=frozenset({"simulator"}))
        environ = {**os.environ, **program.environment(self.layout, options)}
        environ.update(self.environ.get(name, {}))
        with self.layout.log(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                program.command(self.layout, options, self.layout.bin_dir),
                cwd=program.directory(self.layout),
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait_ready(self, name: str) -> None:
        """Wait until it serves. Raises AssertionError where it ends instead."""
        probe = PROGRAMS[name].probe(self.layout)

        def ready() -> bool:
            assert self._processes[name].poll() is None, f"{name} ended: {self.log(name)[-2000:]}"
            return probe() is None

        wait_for(f"{name} to be ready", ready, 60)

    def pid(self, name: str) -> int:
        """Its process id."""
        return self._processes[name].pid

    def running(self, name: str) -> bool:
        """Whether its process lives."""
        return name in self._processes and self._processes[name].poll() is None

    def kill(self, name: str) -> None:
        """kill -9, and wait for the end."""
        self._processes[name].kill()
        self._processes[name].wait()

    def stop(self, name: str) -> None:
        """SIGTERM, and wait for the end."""
        self._processes[name].terminate()
        self._processes[name].wait(60)

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """SIGSTOP during the block."""
        self._processes[name].send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._processes[name].send_signal(signal.SIGCONT)

    @contextmanager
    def full(self, name: str) -> Iterator[None]:
        """A full disk under one engine during the block.

        Raises:
            MountingForbidden: its disk is the machine's, which must not be filled.
        """
        data = self.layout.data(name)
        if data not in self.disks:
            raise MountingForbidden(f"no tmpfs can be mounted on {data.name}")
        ballast = data / "ballast"

        def fill() -> None:
            # To the last byte, and again: engines give back what they compact.
            with suppress(OSError), ballast.open("ab", buffering=0) as file:
                for size in (1 << 20, 4096, 1):
                    with suppress(OSError):
                        while file.write(bytes(size)):
                            pass

        filled = threading.Event()

        def keep_full() -> None:
            while not filled.wait(0.2):
                fill()

        fill()
        filling = threading.Thread(target=keep_full, daemon=True)
        filling.start()
        try:
            yield
        finally:
            filled.set()
            filling.join()
            ballast.unlink(missing_ok=True)

    def log(self, name: str) -> str:
        """What it wrote to stdout and stderr."""
        return self.layout.log(name).read_text(errors="replace")

    def metrics(self, name: str) -> dict[str, float]:
        """An engine's own metrics, straight from it: `name{labels}` → value."""
        port, path = {
            "otel-collector": ("collector-metrics", "/metrics"),
            "jaeger": ("jaeger-metrics", "/metrics"),
        }.get(name, (name, "/metrics"))
        text = requests.get(self.layout.engine(port, path), timeout=10).text
        lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {series: float(value) for series, value in lines}

    def metric(self, name: str, metric: str, **labels: str) -> float:
        """The sum of one metric's series that have these labels."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(
            value
            for series, value in self.metrics(name).items()
            if series.partition("{")[0] == metric and all(label in series for label in wanted)
        )

    def alert(self, name: str, **labels: str) -> str | None:
        """`pending` or `firing` at Prometheus, None where it is neither."""
        answer = requests.get(self.layout.engine("prometheus", "/api/v1/alerts"), timeout=10)
        states = [
            str(alert["state"])
            for alert in answer.json()["data"]["alerts"]
            if alert["labels"]["alertname"] == name and labels.items() <= alert["labels"].items()
        ]
        return min(states, default=None)  # firing is first in the alphabet

    def wait_firing(self, name: str, timeout_s: float = 60.0, **labels: str) -> float:
        """Wait for an alert. Returns how many seconds that took."""
        began = time.monotonic()
        wait_for(f"alert {name}", lambda: self.alert(name, **labels) == "firing", timeout_s)
        return time.monotonic() - began

    def close(self) -> None:
        """End everything that was started here."""
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for hop in self.hops.values():
            hop.close()


def _small_disk(folder: Path, size: str) -> bool:
    """Whether a tmpfs could be mounted there."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "ledger", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def _configure(layout: Layout, webhook: Webhook, shipped_rules: bool) -> None:
    render(layout)
    write(layout.secrets_dir / "webhook_url", f"http://127.0.0.1:{webhook.port}/", mode=0o600)
    for file in sorted((layout.config_dir / "prometheus/targets").glob("*.yml")):
        assert file.read_text(), file
    if shipped_rules:
        return
    for engine, changes in _FASTER.items():
        file = layout.config_dir / engine / f"{engine}.yml"
        text = file.read_text()
        for slow, fast in changes.items():
            assert slow in text, f"{file.name} no longer says {slow}"
            text = text.replace(slow, fast)
        write(file, text)
    for rules in (layout.config_dir / "prometheus/rules").glob("*.yml"):
        if rules.name != "thresholds.yml":
            write(rules, quicken(rules.read_text()))


@contextmanager
def running_rig(
    name: str,
    *engines: str,
    shipped_rules: bool = False,
    disks: Sequence[str] = (),
    environ: Mapping[str, Mapping[str, str]] | None = None,
) -> Iterator[Rig]:
    """Engines that run and serve, with an empty state folder; ended whatever happens.

    Args:
        name: of the state folder.
        engines: which; all of them by default.
        shipped_rules: leave the times of rules, scrapes and notifications as they are shipped.
        disks: which of them get a small disk of their own, where mounting is permitted.
        environ: more environment variables, by program.
    """
    with ExitStack() as stack:
        offset = stack.enter_context(claimed_offset())
        place = layout(name, offset)
        for engine in ENGINES:  # what a killed test run left mounted
            _unmount(place.data(engine))
        shutil.rmtree(place.state_dir, ignore_errors=True)
        mounted = set()
        for engine in disks:
            if _small_disk(place.data(engine), "160m"):
                mounted.add(place.data(engine))
                stack.callback(_unmount, place.data(engine))
        webhook = stack.enter_context(Webhook())
        _configure(place, webhook, shipped_rules)
        hops = {
            "otel-collector": Hop(place.port("otlp-http")),
            "prometheus": Hop(place.port("prometheus")),
            "victorialogs": Hop(place.port("victorialogs")),
            "jaeger": Hop(place.port("jaeger-otlp")),
        }
        through = {
            "PROMETHEUS_OTLP_ENDPOINT": f"http://127.0.0.1:{hops['prometheus'].port}/api/v1/otlp",
            "VICTORIALOGS_OTLP_ENDPOINT": (
                f"http://127.0.0.1:{hops['victorialogs'].port}/insert/opentelemetry"
            ),
            "JAEGER_OTLP_ENDPOINT": f"http://127.0.0.1:{hops['jaeger'].port}",
        }
        rig = Rig(
            place, webhook, hops, {"otel-collector": through, **(environ or {})}, frozenset(mounted)
        )
        stack.callback(rig.close)
        rig.start(*(engines or ENGINES))
        yield rig
