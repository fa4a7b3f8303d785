"""A real Prometheus of its own, and a made-up service that pushes telemetry to it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from stack.layout import Layout
from tests.live import wait_for
from tests.ports import free_port
from transcript_service.telemetry import instruments


def binary(name: str) -> Path:
    """A program of the stack's bin folder; the test is skipped where it is not built."""
    path = Layout.from_env(os.environ).binary(name)
    if not path.exists():
        pytest.skip(f"{name} is not built: python -m stack build")
    return path


class Server:
    """One running Prometheus."""

    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        self.pid = pid

    def query(self, promql: str, *, at: float | None = None) -> list[dict[str, Any]]:
        """An instant query's result.

        Raises:
            ValueError: Prometheus rejects it.
        """
        parameters: dict[str, Any] = {"query": promql}
        if at is not None:
            parameters["time"] = at
        answer = requests.get(f"{self.url}/api/v1/query", parameters, timeout=30).json()
        if answer["status"] != "success":
            raise ValueError(answer["error"])
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def number(self, promql: str, *, at: float | None = None) -> float:
        """The only value of a query."""
        (sample,) = self.query(promql, at=at)
        return float(sample["value"][1])

    def names(self) -> set[str]:
        """All metric names it holds."""
        answer = requests.get(f"{self.url}/api/v1/label/__name__/values", timeout=30).json()
        return set(answer["data"])


@contextmanager
def running_prometheus(folder: Path, config: str = "") -> Iterator[Server]:
    """A Prometheus with the OTLP receiver and exemplars, as in the stack, with its own data."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "prometheus.yml"
    file.write_text(f"otlp: {{keep_identifying_resource_attributes: true}}\n{config}")
    address = f"127.0.0.1:{free_port()}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                binary("prometheus"),
                f"--config.file={file}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
                "--web.enable-otlp-receiver",
                "--enable-feature=exemplar-storage",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            url = f"http://{address}"
            wait_for("Prometheus", lambda: requests.get(f"{url}/-/ready", timeout=5).ok)
            yield Server(url, process.pid)
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def pushing(server: Server, **resource: str) -> Iterator[MeterProvider]:
    """The registry's instruments, exported to `server` at every `force_flush`."""
    exporter = OTLPMetricExporter(f"{server.url}/api/v1/otlp/v1/metrics")
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    attributes: Mapping[str, str] = {
        "service.name": "tldw-transcript-service",
        "service.instance.id": "worker-1",
        **resource,
    }
    provider = MeterProvider([reader], resource=Resource.create(dict(attributes)))
    instruments.start(provider.get_meter("test"))
    try:
        yield provider
    finally:
        provider.shutdown()
        instruments.stop()
