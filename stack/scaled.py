"""What only the scaled form runs, and what it changes in the rest.

Three services behind a load balancer with one Redis, two Collectors, two Prometheus that each
receive everything under Thanos, two VictoriaLogs storage nodes behind a front. What stands in
front has the port of the single one, so nobody who asks sees a difference. docs/scaling.md says
what the loss of each costs.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from stack.credentials import USER
from stack.errors import StackError
from stack.layout import HOST, REPLICAS, Layout

# Given to the Collector after its usual file, whose keys it replaces.
COLLECTOR = "otel-collector/scaled.yaml"
BALANCER = "balancer/haproxy.cfg"

# The label by which Thanos tells the two answers to one question.
REPLICA = "replica"


def numbered(name: str) -> list[str]:
    """The ports of all replicas of one."""
    return [f"{name}-{number}" for number in range(1, REPLICAS[name] + 1)]


def redis(layout: Layout, _: object, __: Path) -> list[str]:
    """Kept on disk, for jobs that wait in it; it asks for the engines' password."""
    return [
        _from_debian("redis-server"),
        str(layout.secrets_dir / "redis.conf"),
        *("--bind", HOST, "--port", str(layout.port("redis"))),
        *("--dir", str(layout.data("redis")), "--appendonly", "yes"),
        # Else it writes its title over the environment, by which a program left behind is known.
        *("--set-proc-title", "no"),
        # Full of transcripts it forgets the oldest, and takes what breakers and jobs write.
        *("--maxmemory", "256mb", "--maxmemory-policy", "volatile-lru"),
    ]


def service_env(layout: Layout) -> dict[str, str]:
    """What three services share goes through Redis; each is a machine by itself."""
    return {
        "WEB_CONCURRENCY": "1",
        "REDIS_URL": f"redis://{layout.address('redis')}/0",
        "REDIS_PASSWORD_FILE": str(layout.engine_password),
        # Where the single form and `transcript-service token` keep them.
        "DASHBOARD_TOKENS_FILE": str(layout.state_dir / "service/tokens.json"),
    }


def balancer(layout: Layout, _: object, __: Path) -> list[str]:
    return [_from_debian("haproxy"), "-db", "-f", str(layout.checkout / BALANCER)]


def balancer_env(layout: Layout) -> dict[str, str]:
    """Every address in its file."""
    names = ["service", "otlp-http", "otlp-grpc", "balancer-metrics"]
    for name in ("service", "otlp-http", "otlp-grpc"):
        names += numbered(name)
    env = {_variable(name): layout.address(name) for name in names}
    for name in numbered("collector-health"):
        env[_variable(name)] = str(layout.port(name))
    return env


def collector_env(layout: Layout) -> dict[str, str]:
    """Both Prometheus are sent everything, so that each can answer alone."""
    return {
        "OTELCOL_INSTANCE": layout.here("otel-collector"),
        "PROMETHEUS_OTLP_ENDPOINT": layout.url("prometheus-1", "/api/v1/otlp"),
        "PROMETHEUS_2_OTLP_ENDPOINT": layout.url("prometheus-2", "/api/v1/otlp"),
    }


def thanos_sidecar(layout: Layout, _: object, folder: Path) -> list[str]:
    """Beside each Prometheus: hands its series to the query, labelled with the replica."""
    # It is what the replica's own ports are called after.
    prometheus = layout.here("thanos-sidecar").replace("thanos-sidecar", "prometheus")
    client = f"basic_auth: {{username: {USER}, password_file: {layout.engine_password}}}"
    return [
        *(str(folder / "thanos"), "sidecar"),
        f"--prometheus.url={layout.url(prometheus)}",
        f"--prometheus.http-client={client}",
        f"--tsdb.path={layout.data(prometheus)}",
        f"--http-address={layout.address('thanos-sidecar')}",
        f"--http.config={layout.secrets_dir / 'engine_web'}",  # who may ask
        f"--grpc-address={layout.address('thanos-sidecar-grpc')}",
        "--log.level=warn",
    ]


def thanos(layout: Layout, _: object, folder: Path) -> list[str]:
    """Prometheus' API over both, every series once."""
    return [
        *(str(folder / "thanos"), "query"),
        f"--http-address={layout.address('prometheus')}",
        f"--http.config={layout.secrets_dir / 'engine_web'}",  # who may ask
        "--web.disable-cors",  # else every web page may read its answers
        f"--grpc-address={layout.address('thanos-grpc')}",
        *(f"--endpoint={layout.address(name)}" for name in numbered("thanos-sidecar-grpc")),
        f"--query.replica-label={REPLICA}",
        # Both have the same samples. The usual way would stay with one of them and leave a gap of
        # three intervals before it believed the other.
        "--deduplication.func=chain",
        # One that hangs must not take the other's answer with it: the dashboard waits for 2 s.
        "--store.response-timeout=1s",
        "--endpoint.info-timeout=2s",
        "--log.level=warn",
    ]


def as_replica(prometheus_yml: str, replica: str) -> str:
    """The configuration of one of two: its series carry the label, its alerts do not.

    Alertmanager takes two alerts with the same labels for one.
    """
    config = yaml.safe_load(prometheus_yml)
    config["global"]["external_labels"] = {REPLICA: replica}
    config["rule_files"] = [f"../prometheus/{files}" for files in config["rule_files"]]
    drop = {"action": "labeldrop", "regex": REPLICA}
    config["alerting"]["alert_relabel_configs"] = [drop]
    text: str = yaml.safe_dump(config, sort_keys=False)
    return text


def targets(layout: Layout, without: Collection[str] = ()) -> list[dict[str, Any]]:
    """What Prometheus asks besides, as jobs of their own, with the password of the engines."""
    jobs = {
        "thanos": ["prometheus", *numbered("thanos-sidecar")],
        "victorialogs": ["victorialogs"],
        "balancer": ["balancer-metrics"],
    }
    return [
        {"targets": [*map(layout.address, ports)], "labels": {"job": job}}
        for job, ports in jobs.items()
        if job not in without
    ]


def victorialogs_front(layout: Layout, options: object, folder: Path) -> list[str]:
    """Stores nothing itself: spreads lines over the nodes, and asks all of them."""
    nodes = numbered("victorialogs")
    return [
        str(folder / "victoria-logs"),
        f"-httpListenAddr={layout.address('victorialogs')}",
        f"-httpAuth.password=file://{layout.engine_password}",
        f"-httpAuth.username={USER}",
        "-http.disableCORS",
        "-loggerLevel=WARN",
        f"-storageNode={','.join(map(layout.address, nodes))}",
        f"-storageNode.username={','.join(USER for _ in nodes)}",
        f"-storageNode.passwordFile={','.join(str(layout.engine_password) for _ in nodes)}",
        # Half of the lines now rather than none until the other node is back.
        "-search.allowPartialResponse",
    ]


def _variable(name: str) -> str:
    return f"BALANCER_{name.upper().replace('-', '_')}"


def _from_debian(program: str) -> str:
    # Debian has servers in /usr/sbin, which is not on everybody's PATH.
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise StackError(f"{program} is not installed; `make setup` does it as root on Debian")
    return found
