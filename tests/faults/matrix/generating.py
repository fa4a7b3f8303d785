"""A generator in a process of its own, as a row's or a soak's service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from stack.layout import CHECKOUT
from tests.faults.matrix.rig import Rig


class Generating:
    """A generator in a process of its own, and what it knows."""

    def __init__(
        self, rig: Rig, service: str, environ: Mapping[str, str] | None = None, *, direct: bool
    ) -> None:
        self.service = service
        folder = rig.layout.state_dir / "truth"
        folder.mkdir(exist_ok=True)
        self.truth = folder / f"{service}.jsonl"
        self._rig = rig
        self._environ = dict(environ or {})
        port = rig.layout.port("otlp-http") if direct else rig.hops["otel-collector"].port
        with (folder / f"{service}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.matrix.generator", str(self.truth)],
                cwd=CHECKOUT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={
                    **{key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
                    "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'service'}",
                    "SERVICE_NAME": service,
                    "STATE_DIR": str(folder),
                    "LOG_RATE_LIMIT_PER_MIN": "0",
                    "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
                    "OTEL_METRIC_EXPORT_INTERVAL": "500",
                    "OTEL_BSP_SCHEDULE_DELAY": "200",
                    "OTEL_BLRP_SCHEDULE_DELAY": "200",
                    **self._environ,
                },
            )

    def tell(self, *command: object) -> Any:
        """Give a command and wait for its answer. Raises ValueError where the generator ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(*command, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise ValueError(f"the generator ended at {command}")
        return json.loads(answer)

    def end(self, timeout_s: float = 60.0) -> None:
        """Its orderly end, with SIGTERM."""
        if self.process.poll() is None:
            self.process.terminate()
        assert self.process.stdin is not None
        # A signal that comes just before a read does not interrupt it; the end of the pipe does.
        with suppress(OSError):
            self.process.stdin.close()
        self.process.wait(timeout_s)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()


@contextmanager
def generating(
    rig: Rig, service: str, environ: Mapping[str, str] | None = None, *, direct: bool = False
) -> Iterator[Generating]:
    """A generator through the first hop (or `direct`), ended at the end of the block."""
    running = Generating(rig, service, environ, direct=direct)
    try:
        yield running
        if running.process.poll() is None:
            running.tell("rate", 0)  # or the last item is made while the telemetry ends
    finally:
        running.end()
