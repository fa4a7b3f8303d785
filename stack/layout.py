"""Where everything of one stack is: ports, addresses, folders and files.

The port table is here and nowhere else. A stack is known by its state folder; a second one runs
beside the first with another folder and another offset, which is added to every port.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from stack.errors import StackError

CHECKOUT = Path(__file__).resolve().parent.parent

HOST = "127.0.0.1"

# The engines' usual ports where they have one. No two differ by a round number of thousands, so
# that a stack at a round offset never meets another at offset 0 (docs/decisions/ports.md).
_ALWAYS: Mapping[str, int] = {
    "service": 5000,
    "simulator": 8443,
    "simulator-proxy": 8444,
    "otlp-grpc": 4317,
    "otlp-http": 4318,
    "collector-health": 13133,
    "collector-metrics": 8888,
    "prometheus": 9090,
    "alertmanager": 9093,
    "victorialogs": 9428,
    "jaeger": 16686,
    "jaeger-grpc": 16685,
    "jaeger-otlp": 4327,
    "jaeger-health": 13134,
    "jaeger-metrics": 8889,
}

# The scaled form (stack/scaled.py). What stands in front of several keeps the usual port, so that
# nobody who asks needs to know how many there are; each of them has one of its own.
REPLICAS: Mapping[str, int] = {
    "service": 3,
    "otlp-grpc": 2,
    "otlp-http": 2,
    "collector-health": 2,
    "collector-metrics": 2,
    "prometheus": 2,
    "thanos-sidecar": 2,
    "thanos-sidecar-grpc": 2,
    "victorialogs": 2,
}
_SCALED: Mapping[str, int] = {
    "redis": 6383,  # 6379 has the one that Debian starts by itself
    "balancer-metrics": 8405,
    "thanos-grpc": 10903,
    **{
        f"{name}-{number}": {"thanos-sidecar": 10902, "thanos-sidecar-grpc": 10901, **_ALWAYS}[name]
        + 20 * number
        for name, count in REPLICAS.items()
        for number in range(1, count + 1)
    },
}

BASE_PORTS: Mapping[str, int] = {**_ALWAYS, **_SCALED}

MAX_OFFSET = 65535 - max(BASE_PORTS.values())

# sun_path holds 108 bytes, and supervisord binds a name with its process id appended first.
_MAX_SOCKET_PATH = 90

# What the ini file and the shell-like splitting of supervisord cannot carry.
_UNUSABLE_IN_PATHS = frozenset("\"'\n\r;#,")


@dataclass(frozen=True)
class Layout:
    """Ports and paths of one stack. Building one touches no file."""

    state_dir: Path
    offset: int = 0
    bin_dir: Path = CHECKOUT / ".stack" / "bin"
    # The Go toolchain from the Python package, installed only where PATH has none.
    go_dir: Path = CHECKOUT / ".stack" / "go"
    checkout: Path = CHECKOUT
    # Of one of several alike: the names of its own ports and folders, and what they are here.
    renamed: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not 0 <= self.offset <= MAX_OFFSET:
            raise StackError(
                f"STACK_PORT_OFFSET must lie between 0 and {MAX_OFFSET}, not {self.offset}"
            )
        for path in (self.state_dir, self.bin_dir):
            if not path.is_absolute():
                raise StackError(f"{path} must be an absolute path")
            if _UNUSABLE_IN_PATHS.intersection(str(path)):
                raise StackError(f"the path {path} has one of the characters \" ' ; # ,")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Layout:
        """The stack that STACK_DIR, STACK_PORT_OFFSET, STACK_BIN_DIR and STACK_GO_DIR name.

        Raises StackError when a value is of no use.
        """
        offset = environ.get("STACK_PORT_OFFSET") or "0"
        if not (offset.isascii() and offset.isdigit()):
            raise StackError(f"STACK_PORT_OFFSET must be a whole number, not {offset!r}")
        default = CHECKOUT / ".stack"
        return cls(
            state_dir=Path(environ.get("STACK_DIR") or default).absolute(),
            offset=int(offset),
            bin_dir=Path(environ.get("STACK_BIN_DIR") or default / "bin").absolute(),
            go_dir=Path(environ.get("STACK_GO_DIR") or default / "go").absolute(),
        )

    def replica(self, number: int, own: Iterable[str]) -> Layout:
        """This stack as one of several like programs sees it, whose names are `own`."""
        return replace(self, renamed={name: f"{name}-{number}" for name in own})

    def here(self, name: str) -> str:
        """`name`, with its number if it is the own one of a replica."""
        return self.renamed.get(name, name)

    def port(self, name: str) -> int:
        """The TCP port that `name` of BASE_PORTS has in this stack."""
        return BASE_PORTS[self.here(name)] + self.offset

    def address(self, name: str) -> str:
        """`host:port` of `name`."""
        return f"{HOST}:{self.port(name)}"

    def url(self, name: str, path: str = "") -> str:
        """`http://host:port` of `name`, with `path` appended."""
        return f"http://{self.address(name)}{path}"

    @property
    def run_dir(self) -> Path:
        """Lives only while the stack runs: configuration, pid and lock of the supervisor."""
        return self.state_dir / "run"

    @property
    def config_dir(self) -> Path:
        """What the launcher rendered for engines that read no environment variables."""
        return self.state_dir / "config"

    @property
    def secrets_dir(self) -> Path:
        return self.state_dir / "secrets"

    @property
    def log_dir(self) -> Path:
        return self.state_dir / "log"

    def log(self, name: str) -> Path:
        """The log of a program, or of a build (`build-jaeger`)."""
        return self.log_dir / f"{name}.log"

    def data(self, name: str) -> Path:
        """Where a program keeps what must survive `down` and `up`."""
        return self.state_dir / self.here(name)

    def config(self, name: str) -> Path:
        """The folder in `config_dir` that a program is started in."""
        return self.config_dir / self.here(name)

    @property
    def not_built(self) -> Path:
        """The engines that are still being built, one name a line; empty when all are there."""
        return self.run_dir / "not_built"

    @property
    def supervisor_config(self) -> Path:
        return self.run_dir / "supervisord.conf"

    @property
    def supervisor_pid_file(self) -> Path:
        return self.run_dir / "supervisord.pid"

    @property
    def supervisor_socket(self) -> Path:
        """In the state folder, or in the temporary one where that path would be too long."""
        path = self.run_dir / "supervisor.sock"
        if len(os.fsencode(path)) <= _MAX_SOCKET_PATH:
            return path
        digest = hashlib.sha256(os.fsencode(self.state_dir)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"stack-{os.getuid()}-{digest}" / "supervisor.sock"

    @property
    def simulator_ca(self) -> Path:
        """The certificate authority that the simulator makes at its start, in PEM."""
        return self.state_dir / "simulator-ca.pem"

    @property
    def webhook_token(self) -> Path:
        """The bearer token that Alertmanager sends to the service's webhook."""
        return self.secrets_dir / "webhook_token"

    @property
    def engine_password(self) -> Path:
        """The password that every engine asks of user `stack` (stack/credentials.py)."""
        return self.secrets_dir / "engine_password"

    def engine(self, name: str, path: str = "") -> str:
        """`url` with the engines' user and password in it. Raises OSError before the first `up`."""
        password = self.engine_password.read_text()
        return f"http://stack:{password}@{self.address(name)}{path}"

    def binary(self, name: str) -> Path:
        """A stable name for a built program (a link to the newest build of it)."""
        return self.bin_dir / name

    def service_env(self, *, simulator: bool = False) -> dict[str, str]:
        """What the service is told about this stack, as environment variables."""
        env = {
            "SERVICE_BIND": self.address("service"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url("otlp-http"),
            "PROMETHEUS_URL": self.url("prometheus"),
            "ALERTMANAGER_URL": self.url("alertmanager"),
            "JAEGER_URL": self.url("jaeger"),
            "VICTORIALOGS_URL": self.url("victorialogs"),
            "STATE_DIR": str(self.data("service")),
            "ALERT_WEBHOOK_TOKEN_FILE": str(self.webhook_token),
            "ENGINE_PASSWORD_FILE": str(self.engine_password),
            "ENGINES_NOT_BUILT_FILE": str(self.not_built),
            # The person at this machine needs no token. Only here: another way to run the
            # service may stand behind a proxy, whose clients would all look local.
            "DASHBOARD_OPEN_ON_LOOPBACK": "1",
        }
        if simulator:
            env["YOUTUBE_RESOLVE_TO"] = self.address("simulator")
            env["YOUTUBE_CA_FILE"] = str(self.simulator_ca)
            # The stand-in's videos are few: with a cache there would soon be nothing to watch.
            env["ENABLE_TRANSCRIPT_CACHE"] = "0"
        return env

    def endpoints(self) -> dict[str, str]:
        """Addresses for people and tests: what `python -m stack env` prints."""
        return {
            "SERVICE_URL": self.url("service"),
            "PROMETHEUS_URL": self.url("prometheus"),
            "ALERTMANAGER_URL": self.url("alertmanager"),
            "JAEGER_URL": self.url("jaeger"),
            "VICTORIALOGS_URL": self.url("victorialogs"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url("otlp-http"),
            "OTLP_GRPC_ENDPOINT": self.address("otlp-grpc"),
            "COLLECTOR_METRICS_URL": self.url("collector-metrics", "/metrics"),
            "SIMULATOR_URL": f"https://{self.address('simulator')}",
            "SIMULATOR_PROXY": self.url("simulator-proxy"),
            "YOUTUBE_RESOLVE_TO": self.address("simulator"),
            "YOUTUBE_CA_FILE": str(self.simulator_ca),
            "ALERT_WEBHOOK_TOKEN_FILE": str(self.webhook_token),
            "STACK_DIR": str(self.state_dir),
            "STACK_PORT_OFFSET": str(self.offset),
            "STACK_BIN_DIR": str(self.bin_dir),
            "ENGINE_PASSWORD_FILE": str(self.engine_password),
        }
