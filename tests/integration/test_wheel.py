"""The wheel is the product: what `pip install` of it alone gives, in an environment of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from stack.layout import CHECKOUT
from tests.ports import free_port

UV = [sys.executable, "-m", "uv"]


class Installed:
    """A fresh environment with the wheel in it, used from an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.elsewhere = folder / "elsewhere"
        self.bin = folder / "venv/bin"
        for made in (self.home, self.elsewhere):
            made.mkdir()

    def environ(self, **more: str) -> dict[str, str]:
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        return {"PATH": path, "HOME": str(self.home), "OTEL_SDK_DISABLED": "true", **more}

    def run(self, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.bin / command[0], *command[1:]],
            cwd=self.elsewhere,
            env=self.environ(**environ),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    made = Installed(folder)
    steps = [
        [*UV, "build", "--wheel", "--no-build-isolation", "--out-dir", str(folder), str(CHECKOUT)],
        [*UV, "venv", "--python", sys.executable, str(folder / "venv")],
    ]
    for step in steps:
        subprocess.run(step, check=True, capture_output=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    pins = ["--constraint", str(CHECKOUT / "requirements.lock")]
    install = [*UV, "pip", "install", "--python", str(made.bin / "python"), *pins, str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=600)
    return made


@pytest.fixture(scope="module")
def address(installed: Installed) -> Iterator[str]:
    """`transcript-service serve`, with nothing set but where it listens."""
    address = f"127.0.0.1:{free_port()}"
    with (installed.folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [installed.bin / "transcript-service", "serve"],
            cwd=installed.elsewhere,
            env=installed.environ(SERVICE_BIND=address),
            stderr=log,
        )
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            assert process.poll() is None, (installed.folder / "serve.log").read_text()
            try:
                if requests.get(f"http://{address}/health/ready", timeout=5).status_code == 200:
                    break
            except requests.ConnectionError:
                time.sleep(0.1)
        yield f"http://{address}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/dashboard", "<title>"),
        ("/dashboard/static/dashboard.js", "import"),
        ("/runbooks/Watchdog", "Watchdog"),
        ("/api/docs", "swagger"),
        ("/api/openapi.json", '"openapi":"3.1.0"'),
    ],
)
def test_serve_has_its_pages_and_files(address: str, path: str, said: str) -> None:
    answer = requests.get(f"{address}{path}", timeout=30)
    assert answer.status_code == 200
    assert said in answer.text


def test_state_is_in_the_platforms_folder_and_closed_to_others(
    installed: Installed, address: str
) -> None:
    requests.get(f"{address}/api/transcripts/nonsense", timeout=30)
    state = installed.home / ".local/state/transcript-service"
    assert {path.name for path in state.iterdir()} >= {"jobs.sqlite3"}
    assert list(installed.elsewhere.iterdir()) == []
    assert [p for p in (state, *state.rglob("*")) if p.stat().st_mode & 0o077] == []


def test_every_command_runs(installed: Installed) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    engines = {f"{name}_URL": nobody for name in ("PROMETHEUS", "ALERTMANAGER", "JAEGER")}
    assert installed.run("transcript-service", "-V").stdout.startswith("transcript-service ")
    assert installed.run("transcript-service", "token", "create", "ci").returncode == 0
    listed = json.loads(installed.run("transcript-service", "token", "list", "--json").stdout)
    assert [token["client"] for token in listed] == ["ci"]
    assert installed.run("transcript-service", "status", **engines).returncode == 3
    assert installed.run("transcript-service", "trace", "0" * 32, **engines).returncode in (1, 2)
    fetch = installed.run("transcript-service", "fetch", "no video")
    assert (fetch.returncode, len(fetch.stderr.splitlines())) == (2, 1)


def test_the_promised_modules_are_there(installed: Installed) -> None:
    names = "import performance_monitor, structured_logging; print(performance_monitor.__file__)"
    done = installed.run("python", "-I", "-c", names)
    assert str(installed.bin.parent) in done.stdout, done.stderr
