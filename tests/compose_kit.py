"""What the compose test needs: a container engine, Compose, images, and questions to ask.

Where the registry of images cannot be reached, substitutes are built under the official tags
from the engines that the native stack has built, on a base made with debootstrap. They have the
programs, paths and users of the originals and nothing else; Grafana, which no package registry
has, is left out and said so.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stack.layout import CHECKOUT
from tests.live import wait_for

STATE = CHECKOUT / ".stack" / "containers"
BASE = "python:3.13-slim-trixie"

# Beside a native stack, whose ports are the same by default.
PORTS = {
    "SERVICE_PORT": "25000",
    "OTLP_GRPC_PORT": "24317",
    "OTLP_HTTP_PORT": "24318",
    "COLLECTOR_HEALTH_PORT": "23133",
    "PROMETHEUS_PORT": "29090",
    "ALERTMANAGER_PORT": "29093",
    "JAEGER_PORT": "26686",
    "VICTORIALOGS_PORT": "29428",
    "GRAFANA_PORT": "23000",
}

# How a substitute is told from an official image under the same tag, in a later run too.
_LABEL = '{{ index .Config.Labels "substitute" }}'


class NoContainers(Exception):
    """Containers cannot be run here; the text says why."""


@dataclass(frozen=True)
class Substitute:
    """An image built from native engines: program -> its path in the official image."""

    programs: Mapping[str, str]
    entrypoint: str
    # The official images of these have a shell; the others are one program and nothing else.
    base: str = "scratch"


SUBSTITUTES = {
    "otel-collector": Substitute({"otelcol": "/otelcol-contrib"}, "/otelcol-contrib"),
    "prometheus": Substitute(
        {"prometheus": "/bin/prometheus", "promtool": "/bin/promtool"}, "/bin/prometheus", BASE
    ),
    "alertmanager": Substitute(
        {"alertmanager": "/bin/alertmanager", "amtool": "/bin/amtool"}, "/bin/alertmanager", BASE
    ),
    "jaeger": Substitute({"jaeger": "/cmd/jaeger/jaeger-linux"}, "/cmd/jaeger/jaeger-linux", BASE),
    "victorialogs": Substitute(
        {"victoria-logs": "/victoria-logs-prod"}, "/victoria-logs-prod", BASE
    ),
}


def _run(
    *command: str, env: Mapping[str, str] | None = None, timeout: float = 1800
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=CHECKOUT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def _must(*command: str, env: Mapping[str, str] | None = None, timeout: float = 1800) -> str:
    done = _run(*command, env=env, timeout=timeout)
    assert done.returncode == 0, (
        f"{' '.join(command)}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    )
    return done.stdout


@contextmanager
def container_engine() -> Iterator[str]:
    """The address of a container engine: the one that runs, or one started for the test.

    Raises:
        NoContainers: there is none and none can be started.
    """
    if shutil.which("docker") is None:
        raise NoContainers("no docker command on PATH")
    if _run("docker", "info", timeout=30).returncode == 0:
        yield os.environ.get("DOCKER_HOST", "")
        return
    if shutil.which("dockerd") is None or os.geteuid() != 0:
        raise NoContainers("no container engine answers, and none can be started from here")
    STATE.mkdir(parents=True, exist_ok=True)
    # Sockets have short paths, which a checkout's may not be.
    with tempfile.TemporaryDirectory(prefix="compose-") as run:
        address = f"unix://{run}/docker.sock"
        command = ["dockerd", "--host", address, "--data-root", str(STATE / "data")]
        command += ["--exec-root", f"{run}/exec", "--pidfile", f"{run}/dockerd.pid"]
        with (STATE / "dockerd.log").open("wb") as log:
            daemon = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_for(
                "dockerd",
                lambda: _run("docker", "info", env={"DOCKER_HOST": address}).returncode == 0,
            )
            yield address
        except AssertionError as error:
            raise NoContainers(f"dockerd does not start, see {STATE / 'dockerd.log'}") from error
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(60)


def compose_command() -> list[str]:
    """How Compose is called here.

    Raises:
        NoContainers: there is no Compose, or one too old for the file.
    """
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is None:
            continue
        done = _run(*command, "version", "--short", timeout=30)
        version = done.stdout.strip().removeprefix("v").partition("-")[0].split(".")
        if done.returncode == 0 and [int(part) for part in version[:2]] >= [2, 24]:
            return command
    raise NoContainers("no Docker Compose 2.24 or newer (Debian 13 has it as docker-compose)")


class Compose:
    """The project of docker-compose.yml, as a user would run it, on ports of its own."""

    def __init__(self, engine: str) -> None:
        self.command = [*compose_command(), "--project-name", "transcripts-test"]
        self.env = {**PORTS, "COMPOSE_PROFILES": "simulator"}
        self.env |= {"YOUTUBE_RESOLVE_TO": "127.0.0.1:8443"}
        self.env |= {"YOUTUBE_CA_FILE": "/run/simulator/ca.pem"}
        if engine:
            self.env["DOCKER_HOST"] = engine
        self.missing: list[str] = []
        self.substituted: list[str] = []

    def make_secrets(self) -> None:
        """What `make secrets` does; secrets that exist stay."""
        _must(sys.executable, "-m", "stack.create_secrets")

    def __call__(self, *arguments: str) -> str:
        return _must(*self.command, *arguments, env=self.env)

    def docker(self, *arguments: str) -> str:
        return _must("docker", *arguments, env=self.env)

    def services(self) -> dict[str, dict[str, Any]]:
        """The services of the file as Compose understands it."""
        found: dict[str, dict[str, Any]] = json.loads(self("config", "--format", "json"))[
            "services"
        ]
        return found

    def up(self) -> None:
        """Everything that there are images for."""
        wanted = [name for name in self.services() if name not in self.missing]
        self("up", "--detach", "--no-build", "--pull", "never", *wanted)

    def inspect(self, service: str) -> dict[str, Any]:
        """What the engine says about the container of a service, ended ones too."""
        name = self("ps", "--all", "--quiet", service).strip()
        found: dict[str, Any] = json.loads(self.docker("inspect", name))[0]
        return found

    def provide_images(self) -> None:
        """Pulls what can be pulled, builds substitutes for the rest, then the project's own."""
        pulled = {n: s["image"] for n, s in self.services().items() if "build" not in s}
        pulled = {
            name: image for name, image in pulled.items() if not image.startswith("transcripts/")
        }
        for image in (BASE, *pulled.values()):
            if not self._is_here(image):
                _run("docker", "pull", "--quiet", image, env=self.env, timeout=300)
        if not self._is_here(BASE):
            self._make_base()
        for name, image in pulled.items():
            if not self._is_here(image) and name in SUBSTITUTES:
                self._substitute(image, SUBSTITUTES[name])
            if not self._is_here(image):
                self.missing.append(name)
            elif self.docker("image", "inspect", "--format", _LABEL, image).strip():
                self.substituted.append(image)
        self("build", "service", "simulator")

    def _is_here(self, image: str) -> bool:
        return _run("docker", "image", "inspect", image, env=self.env).returncode == 0

    def _make_base(self) -> None:
        """Debian with Python under the tag of the official image, once."""
        if shutil.which("debootstrap") is None:
            raise NoContainers(
                "images cannot be pulled, and there is no debootstrap to make a base"
            )
        with tempfile.TemporaryDirectory(prefix="base-") as folder:
            root = Path(folder) / "root"
            packages = "--include=python3,python3-venv,ca-certificates,busybox"
            _must("debootstrap", "--variant=minbase", packages, "trixie", str(root))
            # The packages come through this machine's way out, which may have its own authority.
            certificates = Path("etc/ssl/certs/ca-certificates.crt")
            shutil.copy(Path("/") / certificates, root / certificates)
            archive = Path(folder) / "base.tar"
            _must("tar", "--directory", str(root), "--create", "--file", str(archive), ".")
            self.docker("import", str(archive), BASE)

    def _substitute(self, image: str, substitute: Substitute) -> None:
        binaries = Path(os.environ.get("STACK_BIN_DIR") or CHECKOUT / ".stack" / "bin")
        with tempfile.TemporaryDirectory(prefix="image-") as folder:
            lines = [f"FROM {substitute.base}"]
            for program, path in substitute.programs.items():
                if not (binaries / program).exists():
                    raise NoContainers(f"{program} is not built yet: python -m stack build")
                shutil.copy(binaries / program, folder)
                lines.append(f"COPY {program} {path}")
            if substitute.base == BASE:
                lines.append("RUN ln -s /bin/busybox /usr/bin/wget")
            lines.append(f'ENTRYPOINT ["{substitute.entrypoint}"]')
            (Path(folder) / "Dockerfile").write_text("\n".join(lines) + "\n")
            self.docker("build", "--quiet", "--label", "substitute=yes", "--tag", image, folder)
