"""The real application under gunicorn, with YouTube's part played by the simulator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import requests

from simulator.testing import RunningSimulator
from tests.gunicorn_process import Gunicorn, gunicorn


class Service:
    """One running service, asked like any client would."""

    def __init__(self, process: Gunicorn) -> None:
        self.process = process

    def get(
        self, path: str, timeout_s: float = 240, headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """One request; `timeout_s` is for a machine that is busy with something else."""
        return requests.get(
            f"http://127.0.0.1:{self.process.port}{path}",
            timeout=timeout_s,
            headers=dict(headers or {}),
        )


@contextmanager
def service(
    folder: Path, simulator: RunningSimulator, environ: Mapping[str, str]
) -> Iterator[Service]:
    """Serve with one worker while the context is open; telemetry leaves to nowhere.

    Args:
        folder: for its state and its log.
        simulator: where its direct connections to YouTube go.
        environ: more settings, which win.
    """
    given = {
        "OTEL_SDK_DISABLED": "true",
        "YOUTUBE_RESOLVE_TO": simulator.resolve_to,
        "YOUTUBE_CA_FILE": str(simulator.ca_file),
        **environ,
    }
    app = "transcript_service.web:create_app()"
    with gunicorn(folder, given, app=app, workers=1) as running:
        yield Service(running)
