"""What each program of the stack is when it runs: command, ports, readiness, order."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from stack import scaled
from stack.layout import HOST, REPLICAS, Layout
from stack.ready import Probe, http_probe, redis_probe, simulator_probe

# Stopped from the highest to the lowest, those of one tier together: nobody loses the one it
# is still sending to.
BACKEND, PIPELINE, APPLICATION, OUTSIDE, LOAD = 10, 20, 30, 40, 50

# VictoriaLogs reads no configuration file; docker-compose.yml gives it the same.
VICTORIALOGS_FLAGS = (
    "-retentionPeriod=7d",  # as long as a trace is kept (jaeger/config.yaml)
    # Lines are acknowledged before they are on disk: the shortest time that can be asked for
    # (docs/decisions/victorialogs.md).
    "-inmemoryDataFlushInterval=1s",
    "-httpAuth.username=stack",
    "-http.disableCORS",  # else every web page may read
    "-memory.allowedPercent=10",  # of the machine, for caches; the default is 60
    "-loggerLevel=WARN",
)

# What people open, the first first: title, port, path. Not Jaeger, whose Go module has no page
# (the dashboard shows traces).
PAGES = (
    ("Dashboard", "service", "/dashboard"),
    ("Prometheus", "prometheus", "/query"),
    ("Alertmanager", "alertmanager", "/"),
    ("VictoriaLogs", "victorialogs", "/select/vmui/"),
)
SCALED_PAGES = tuple(
    ("Thanos", port, "/") if port == "prometheus" else (title, port, path)
    for title, port, path in PAGES
)

# Run only when asked for; the load asks the service about the simulator's videos.
EXTRAS: Mapping[str, tuple[str, ...]] = {"simulator": (), "load": ("simulator",)}


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line."""

    without: frozenset[str] = frozenset()
    extras: frozenset[str] = frozenset()
    recordings: Path | None = None
    # Whether Prometheus' own page is built too, after everything else.
    page: bool = False
    # Several of each behind something that keeps its address (docs/scaling.md).
    scaled: bool = False

    @property
    def simulator(self) -> bool:
        return "simulator" in self.names()

    def names(self) -> tuple[str, ...]:
        """The programs to run, in the order in which they are started."""
        extras = self.extras.union(*(EXTRAS[extra] for extra in self.extras))
        form = SCALED if self.scaled else SINGLE
        names = (name for name in form if name not in EXTRAS or name in extras)
        return tuple(name for name in names if name not in self.without)


@dataclass(frozen=True)
class Program:
    """One process that the supervisor keeps running."""

    name: str
    tier: int
    ports: tuple[str, ...]
    command: Callable[[Layout, Options, Path], list[str]]
    probe: Callable[[Layout], Probe]
    ready_within_s: float
    stop_within_s: int
    environment: Callable[[Layout, Options], dict[str, str]] = lambda layout, options: {}
    directory: Callable[[Layout], Path] = lambda layout: layout.checkout
    # Files whose change calls for a restart, as given to the program.
    config_files: tuple[str, ...] = ()
    # Started when these serve, as far as they are run at all.
    after: tuple[str, ...] = ()
    scheme: str = "http"
    # What it is built as, where that is not its own name.
    engine: str = ""

    @property
    def built_as(self) -> str:
        """The engine (stack/pins.py) that it is a process of, if it is one's at all."""
        return self.engine or self.name

    def url(self, layout: Layout) -> str | None:
        """Where people reach it; None for one that only sends."""
        if not self.ports:
            return None
        return layout.url(self.ports[0]).replace("http:", f"{self.scheme}:")


def _probe(port: str, path: str) -> Callable[[Layout], Probe]:
    return lambda layout: http_probe(layout, port, path)


def _collector(layout: Layout, options: Options, folder: Path) -> list[str]:
    config = layout.checkout / "otel-collector/config.yaml"
    gate = "--feature-gates=+connector.spanmetrics.excludeResourceMetrics"  # why: see the config
    return [str(folder / "otelcol"), f"--config={config}", gate]


def _collector_env(layout: Layout, options: Options) -> dict[str, str]:
    return {
        "OTELCOL_OTLP_GRPC_ENDPOINT": layout.address("otlp-grpc"),
        "OTELCOL_OTLP_HTTP_ENDPOINT": layout.address("otlp-http"),
        "OTELCOL_HEALTH_ENDPOINT": layout.address("collector-health"),
        "OTELCOL_METRICS_HOST": HOST,
        "OTELCOL_METRICS_PORT": str(layout.port("collector-metrics")),
        "OTELCOL_QUEUE_DIR": str(layout.data("otel-collector") / "queue"),
        "OTELCOL_MEMORY_LIMIT_MIB": "256",
        "GOMEMLIMIT": "205MiB",  # four fifths of it: collect garbage before refusing data
        "ENGINE_AUTHORIZATION_FILE": str(layout.secrets_dir / "engine_authorization"),
        "PROMETHEUS_OTLP_ENDPOINT": layout.url("prometheus", "/api/v1/otlp"),
        "VICTORIALOGS_OTLP_ENDPOINT": layout.url("victorialogs", "/insert/opentelemetry"),
        "JAEGER_OTLP_ENDPOINT": layout.url("jaeger-otlp"),
    }


def _prometheus(layout: Layout, options: Options, folder: Path) -> list[str]:
    return [
        str(folder / "prometheus"),
        f"--config.file={layout.config('prometheus') / 'prometheus.yml'}",
        f"--storage.tsdb.path={layout.data('prometheus')}",
        f"--web.listen-address={layout.address('prometheus')}",
        f"--web.external-url={layout.url('prometheus')}",  # links in alerts
        f"--web.config.file={layout.secrets_dir / 'engine_web'}",  # who may ask
        "--web.cors.origin=none",  # no page of another origin; the default is every one
        "--web.enable-otlp-receiver",  # off by default; metrics are pushed here
        "--enable-feature=exemplar-storage",  # off by default; trace ids of slow requests
        # With the default, ten minutes, a restart forgets how long an alert with a shorter `for`
        # (all of ours) has been pending.
        "--rules.alert.for-grace-period=1m",
    ]


def _alertmanager(layout: Layout, options: Options, folder: Path) -> list[str]:
    return [
        str(folder / "alertmanager"),
        f"--config.file={layout.config_dir / 'alertmanager/alertmanager.yml'}",
        f"--storage.path={layout.data('alertmanager')}",
        f"--web.listen-address={layout.address('alertmanager')}",
        f"--web.external-url={layout.url('alertmanager')}",
        f"--web.config.file={layout.secrets_dir / 'engine_web'}",  # who may ask
        "--cluster.listen-address=",  # one instance: no gossip port on all interfaces
    ]


def _victorialogs(layout: Layout, options: Options, folder: Path) -> list[str]:
    return [
        str(folder / "victoria-logs"),
        f"-storageDataPath={layout.data('victorialogs')}",
        f"-httpListenAddr={layout.address('victorialogs')}",
        f"-httpAuth.password=file://{layout.engine_password}",
        *VICTORIALOGS_FLAGS,
    ]


def _jaeger(layout: Layout, options: Options, folder: Path) -> list[str]:
    return [str(folder / "jaeger"), f"--config=file:{layout.checkout / 'jaeger/config.yaml'}"]


def _jaeger_env(layout: Layout, options: Options) -> dict[str, str]:
    return {
        "JAEGER_DATA_DIR": str(layout.data("jaeger")),
        "JAEGER_QUERY_HTTP_ENDPOINT": layout.address("jaeger"),
        "JAEGER_QUERY_GRPC_ENDPOINT": layout.address("jaeger-grpc"),
        "JAEGER_OTLP_ENDPOINT": layout.address("jaeger-otlp"),
        "JAEGER_HTPASSWD_FILE": str(layout.secrets_dir / "engine_htpasswd"),
        "JAEGER_HEALTH_ENDPOINT": layout.address("jaeger-health"),
        "JAEGER_METRICS_HOST": HOST,
        "JAEGER_METRICS_PORT": str(layout.port("jaeger-metrics")),
        # Else it traces itself to port 4317, whoever listens there, and waits for that at its end.
        "OTEL_TRACES_SAMPLER": "always_off",
    }


def _service(layout: Layout, options: Options, folder: Path) -> list[str]:
    return [sys.executable, "-m", "transcript_service.cli", "serve"]


def _simulator(layout: Layout, options: Options, folder: Path) -> list[str]:
    command = [sys.executable, "-m", "simulator", "serve", "--host", HOST]
    command += ["--port", str(layout.port("simulator"))]
    command += ["--proxy-port", str(layout.port("simulator-proxy"))]
    command += ["--ca-file", str(layout.simulator_ca)]
    if options.recordings:
        command += ["--recordings", str(options.recordings)]
    return command


def _load(layout: Layout, options: Options, folder: Path) -> list[str]:
    command = [sys.executable, "-m", "simulator", "load", "--target", layout.url("service")]
    # A fraction of what two cores can do: in a healthy phase nothing may look unhealthy.
    command += ["--rate", "2" if options.scaled else "0.5", "--duration", "0"]
    command += ["--videos", "everyday", *(() if options.scaled else ("--tour",))]
    command += ["--otlp", layout.url("otlp-http")]
    command += ["--control", f"https://{layout.address('simulator')}"]
    return [*command, "--ca-file", str(layout.simulator_ca)]


# In the order in which they are started, as far as their builds allow. The time to become ready
# is generous: two cores may be compiling the next engine meanwhile.
SINGLE: Mapping[str, Program] = {
    program.name: program
    for program in (
        Program(
            "simulator",
            OUTSIDE,
            ("simulator", "simulator-proxy"),
            command=_simulator,
            probe=simulator_probe,
            scheme="https",
            ready_within_s=180,
            stop_within_s=5,
        ),
        Program(
            "otel-collector",
            PIPELINE,
            ("otlp-http", "otlp-grpc", "collector-health", "collector-metrics"),
            command=_collector,
            environment=_collector_env,
            config_files=("otel-collector/config.yaml",),
            probe=_probe("collector-health", "/"),
            ready_within_s=60,
            stop_within_s=15,
        ),
        Program(
            "prometheus",
            BACKEND,
            ("prometheus",),
            command=_prometheus,
            directory=lambda layout: layout.config("prometheus"),
            config_files=("prometheus/prometheus.yml", "prometheus/rules"),
            probe=_probe("prometheus", "/-/ready"),
            ready_within_s=180,  # replays its write-ahead log first
            stop_within_s=30,
        ),
        Program(
            "service",
            APPLICATION,
            ("service",),
            command=_service,
            environment=lambda layout, options: layout.service_env(simulator=options.simulator),
            config_files=("service/transcript_service/gunicorn_conf.py",),
            probe=_probe("service", "/health/ready"),
            ready_within_s=90,
            stop_within_s=45,  # finishes its requests (25 s), then sends what it measured (8 s)
            # Its HTTP stages read the simulator's certificate authority when they start.
            after=("simulator",),
        ),
        Program(
            "alertmanager",
            BACKEND,
            ("alertmanager",),
            command=_alertmanager,
            # Where alertmanager.yml's relative paths start.
            directory=lambda layout: layout.config_dir / "alertmanager",
            config_files=("prometheus/alertmanager.yml",),
            probe=_probe("alertmanager", "/-/ready"),
            ready_within_s=60,
            stop_within_s=15,
        ),
        Program(
            "victorialogs",
            BACKEND,
            ("victorialogs",),
            command=_victorialogs,
            probe=_probe("victorialogs", "/health"),
            ready_within_s=60,
            stop_within_s=30,  # writes what it holds in memory
        ),
        Program(
            "jaeger",
            BACKEND,
            ("jaeger", "jaeger-grpc", "jaeger-otlp", "jaeger-health", "jaeger-metrics"),
            command=_jaeger,
            environment=_jaeger_env,
            config_files=("jaeger/config.yaml",),
            probe=_probe("jaeger-health", "/status"),
            ready_within_s=120,
            stop_within_s=15,
        ),
        Program(
            "load",
            LOAD,
            (),
            command=_load,
            probe=lambda layout: lambda: None,  # nobody asks it anything: running is all
            ready_within_s=30,
            stop_within_s=5,
            # Not the stores of logs and traces: the Collector keeps what is for them.
            after=("simulator", "service", "otel-collector", "prometheus", "balancer", "thanos"),
        ),
    )
}


def _replicas(program: Program) -> Iterator[Program]:
    """As many as REPLICAS says, each with ports and folders of its own."""
    for number in range(1, REPLICAS[program.ports[0]] + 1):
        yield _replica(program, number)


def _replica(program: Program, number: int) -> Program:
    def own(layout: Layout) -> Layout:
        return layout.replica(number, (program.name, *program.ports))

    return replace(
        program,
        name=f"{program.name}-{number}",
        engine=program.built_as,
        ports=tuple(f"{port}-{number}" for port in program.ports),
        command=lambda layout, options, folder: program.command(own(layout), options, folder),
        environment=lambda layout, options: program.environment(own(layout), options),
        directory=lambda layout: program.directory(own(layout)),
        probe=lambda layout: program.probe(own(layout)),
    )


def _scaled() -> Iterator[Program]:
    yield SINGLE["simulator"]
    yield Program(
        "redis",
        BACKEND,
        ("redis",),
        command=scaled.redis,
        probe=redis_probe,
        scheme="redis",
        ready_within_s=30,
        stop_within_s=10,
    )
    collector = SINGLE["otel-collector"]
    yield from _replicas(
        replace(
            collector,
            command=lambda *of: [*_collector(*of), f"--config={of[0].checkout / scaled.COLLECTOR}"],
            environment=lambda *of: _collector_env(*of) | scaled.collector_env(of[0]),
            config_files=(*collector.config_files, scaled.COLLECTOR),
        )
    )
    yield from _replicas(SINGLE["prometheus"])
    yield from _replicas(
        Program(
            "thanos-sidecar",
            BACKEND,
            ("thanos-sidecar", "thanos-sidecar-grpc"),
            command=scaled.thanos_sidecar,
            probe=_probe("thanos-sidecar", "/-/ready"),
            ready_within_s=60,
            stop_within_s=15,
            engine="thanos",
        )
    )
    yield Program(
        "thanos",
        BACKEND,
        ("prometheus", "thanos-grpc"),
        command=scaled.thanos,
        probe=_probe("prometheus", "/-/ready"),
        ready_within_s=60,
        stop_within_s=15,
    )
    service = SINGLE["service"]
    services = replace(
        service, environment=lambda *of: service.environment(*of) | scaled.service_env(of[0])
    )
    yield from _replicas(services)
    yield Program(
        "balancer",
        OUTSIDE,
        ("service", "otlp-http", "otlp-grpc", "balancer-metrics"),
        command=scaled.balancer,
        environment=lambda layout, options: scaled.balancer_env(layout),
        config_files=(scaled.BALANCER,),
        probe=_probe("service", "/health/ready"),
        ready_within_s=60,
        stop_within_s=30,
        after=tuple(program.name for program in _replicas(services)),
    )
    yield SINGLE["alertmanager"]
    yield from _replicas(SINGLE["victorialogs"])
    yield replace(
        SINGLE["victorialogs"],
        name="victorialogs-front",
        command=scaled.victorialogs_front,
        engine="victorialogs",
    )
    yield SINGLE["jaeger"]
    yield SINGLE["load"]


SCALED: Mapping[str, Program] = {program.name: program for program in _scaled()}

# Of either form. What both run is the same in both.
PROGRAMS: Mapping[str, Program] = {**SINGLE, **SCALED}
