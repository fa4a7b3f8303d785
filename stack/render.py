"""Writes what the engines read from the state folder: Prometheus' targets, secrets, rules."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Collection
from pathlib import Path

from stack import credentials
from stack.layout import REPLICAS, Layout
from stack.pins import PAGE
from stack.programs import PROGRAMS, Options
from stack.scaled import as_replica, numbered
from stack.scaled import targets as scaled_targets

# File in targets/ → named port; the jobs of prometheus/prometheus.yml.
TARGETS = {
    "otel-collector.yml": "collector-metrics",
    "prometheus.yml": "prometheus",
    "alertmanager.yml": "alertmanager",
    "victorialogs.yml": "victorialogs",
    "jaeger.yml": "jaeger-metrics",
    "alertmanagers.yml": "alertmanager",  # where alerts are sent, not a scrape job
}

# Those that must find their folder there.
_KEEPING = ("prometheus", "alertmanager", "victorialogs", "jaeger", "service", "redis")

WEBHOOK_PATH = "/api/alerts/webhook"

# How the rules write links to runbooks and dashboard: the service at its default port.
LINK_BASE = "http://127.0.0.1:5000"


def render(layout: Layout, options: Options | None = None) -> None:
    """Brings the state folder up to date with the checkout. Raises OSError."""
    for folder in (layout.state_dir, layout.run_dir, layout.log_dir, layout.secrets_dir):
        folder.mkdir(parents=True, exist_ok=True)
    # Secrets lie below, and logs may hold what nobody else should read.
    layout.state_dir.chmod(0o700)
    options = options or Options()
    for name in options.names():
        if PROGRAMS[name].built_as in _KEEPING:
            layout.data(name).mkdir(exist_ok=True)
    _secret(layout.webhook_token, secrets.token_hex(32))
    _secret(layout.engine_password, secrets.token_hex(32))
    password = layout.engine_password.read_text()
    for name, text in credentials.files(password).items():
        _secret(layout.secrets_dir / name, text)
    write(layout.secrets_dir / "webhook_url", layout.url("service", WEBHOOK_PATH), mode=0o600)
    if options.scaled:
        layout.data("service").mkdir(exist_ok=True)  # the tokens of all three
        _secret(layout.secrets_dir / "redis.conf", f"requirepass {password}\n")
        for number in range(1, REPLICAS["prometheus"] + 1):
            _prometheus(layout.replica(number, ["prometheus"]), options, str(number))
    else:
        _prometheus(layout, options)
    not_built(layout, options, frozenset())
    _alertmanager(layout)
    _grafana(layout)


def not_built(layout: Layout, options: Options, engines: Collection[str]) -> None:
    """Tells Prometheus and the service which engines are still being built.

    They are no targets yet: what was never up is not down. Prometheus watches the files.
    """
    for file, port in TARGETS.items():
        ports = numbered(port) if options.scaled and port in REPLICAS else [port]
        groups = [{"targets": [*map(layout.address, ports)]}]
        if options.scaled and file == "prometheus.yml":
            groups += scaled_targets(layout, without=engines)
        if any(file.startswith(engine) for engine in engines):
            groups = []
        for folder in layout.config_dir.glob("prometheus*/targets"):
            write(folder / file, json.dumps(groups) + "\n")
    # Thanos answers in Prometheus' place: without it the service asks in vain.
    names = {*engines, "prometheus"} if "thanos" in engines else engines
    write(layout.not_built, "".join(f"{name}\n" for name in sorted(names)))


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Replaces a file in one step, so that no reader ever sees half of it."""
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
            file.write(text)
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def _secret(path: Path, value: str) -> None:
    """Made once and kept: both sides may hold it in memory."""
    if not path.exists():
        write(path, value, mode=0o600)


def _prometheus(layout: Layout, options: Options, replica: str = "") -> None:
    source, target = layout.checkout / "prometheus", layout.config("prometheus")
    (target / "targets").mkdir(parents=True, exist_ok=True)
    _link_secrets(layout, target)
    text = (source / "prometheus.yml").read_text()
    write(target / "prometheus.yml", as_replica(text, replica) if replica else text)
    # Where a Prometheus without built-in assets looks for its page, which may come later or never.
    page = target / "web/ui/static"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.unlink(missing_ok=True)
    page.symlink_to(layout.binary(PAGE.name))
    # Replicas share theirs: two files would be two rules to Thanos, and every alert would be there
    # twice.
    rules = layout.config_dir / "prometheus/rules"
    shutil.rmtree(rules, ignore_errors=True)  # a rule file that was deleted must go
    rules.mkdir(parents=True)
    for file in sorted((source / "rules").glob("*.yml")):
        # An alert of this stack leads to this stack's service.
        write(rules / file.name, file.read_text().replace(LINK_BASE, layout.url("service")))


def _alertmanager(layout: Layout) -> None:
    target = layout.config_dir / "alertmanager"
    target.mkdir(parents=True, exist_ok=True)
    source = layout.checkout / "prometheus" / "alertmanager.yml"
    write(target / "alertmanager.yml", source.read_text())
    _link_secrets(layout, target)


def _grafana(layout: Layout) -> None:
    """For a Grafana of one's own: the sources and boards that containers give to theirs.

    In the scaled form the address of `prometheus` is Thanos', that of `victorialogs` the front's.
    """
    source = layout.checkout / "grafana"
    here = {
        "http://prometheus:9090": layout.url("prometheus"),
        "http://jaeger:16686": layout.url("jaeger"),
        "http://victorialogs:9428": layout.url("victorialogs"),
        "/run/secrets/engine_password": str(layout.engine_password),
        "/etc/grafana/dashboards": str(source / "dashboards"),
    }
    for file in source.glob("provisioning/*/*.yaml"):
        text = file.read_text()
        for elsewhere, address in here.items():
            text = text.replace(elsewhere, address)
        target = layout.config_dir / file.relative_to(layout.checkout)
        target.parent.mkdir(parents=True, exist_ok=True)
        write(target, text)


def _link_secrets(layout: Layout, target: Path) -> None:
    """Both name their secrets relative to their configuration file."""
    link = target / "secrets"
    if not link.is_symlink():
        link.symlink_to(Path("..") / ".." / layout.secrets_dir.name)
