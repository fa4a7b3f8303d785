"""The scaled form's configuration, held against that of the single one."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from stack import scaled
from stack.layout import CHECKOUT, Layout
from stack.programs import SCALED, Options
from stack.render import not_built, render
from tests.needed import needed

SINGLE = yaml.safe_load((CHECKOUT / "otel-collector/config.yaml").read_text())
CHANGES = yaml.safe_load((CHECKOUT / scaled.COLLECTOR).read_text())
PROMETHEUS = (CHECKOUT / "prometheus/prometheus.yml").read_text()


def test_both_prometheus_are_sent_the_same_in_the_same_way() -> None:
    first = dict(SINGLE["exporters"]["otlp_http/prometheus"])
    second = dict(CHANGES["exporters"]["otlp_http/prometheus-2"])

    assert first.pop("endpoint") != second.pop("endpoint")
    assert first == second
    exporters = CHANGES["service"]["pipelines"]["metrics"]["exporters"]
    assert exporters == ["otlp_http/prometheus", "otlp_http/prometheus-2"]
    assert SINGLE["service"]["pipelines"]["metrics"]["exporters"] == exporters[:1]


def test_a_collector_is_told_its_name_and_where_both_prometheus_are() -> None:
    layout = Layout(Path("/srv/state"))
    asked = set(re.findall(r"\$\{env:([A-Z0-9_]+):-", (CHECKOUT / scaled.COLLECTOR).read_text()))
    given = [
        SCALED[f"otel-collector-{n}"].environment(layout, Options(scaled=True)) for n in (1, 2)
    ]

    assert all(asked <= set(env) for env in given)
    assert [env["OTELCOL_INSTANCE"] for env in given] == ["otel-collector-1", "otel-collector-2"]
    assert given[0]["OTELCOL_QUEUE_DIR"] != given[1]["OTELCOL_QUEUE_DIR"]
    for name in ("PROMETHEUS_OTLP_ENDPOINT", "PROMETHEUS_2_OTLP_ENDPOINT"):
        assert given[0][name] == given[1][name]


def test_a_replica_of_prometheus_differs_by_its_label_and_keeps_it_from_alerts() -> None:
    single: dict[str, Any] = yaml.safe_load(PROMETHEUS)
    replica: dict[str, Any] = yaml.safe_load(scaled.as_replica(PROMETHEUS, "2"))

    assert replica["global"].pop("external_labels") == {"replica": "2"}
    assert replica["alerting"].pop("alert_relabel_configs") == [
        {"action": "labeldrop", "regex": "replica"}
    ]
    # One file for both, or Thanos would take their rules for two.
    assert replica.pop("rule_files") == ["../prometheus/rules/*.yml"]
    assert single.pop("rule_files") == ["rules/*.yml"]
    assert replica == single


def test_every_part_is_a_target_of_both_prometheus(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "state")
    render(layout, Options(scaled=True))
    found: list[list[str]] = []
    for number in (1, 2):
        folder = layout.config_dir / f"prometheus-{number}/targets"
        files = [file for file in folder.iterdir() if file.name != "alertmanagers.yml"]
        groups = [group for file in files for group in yaml.safe_load(file.read_text())]
        found.append(sorted(target for group in groups for target in group["targets"]))

    names = [
        *("otel-collector-1", "otel-collector-2", "prometheus-1", "prometheus-2"),
        *("thanos", "thanos-sidecar-1", "thanos-sidecar-2", "balancer", "alertmanager"),
        *("victorialogs-1", "victorialogs-2", "victorialogs-front", "jaeger"),
    ]
    # The port at which each is asked for its metrics: the last, where there are several.
    other = {"thanos": 0, "thanos-sidecar-1": 0, "thanos-sidecar-2": 0}
    ports = [SCALED[name].ports[other.get(name, -1)] for name in names]
    assert found == [sorted(map(layout.address, ports))] * 2


def test_grafana_is_told_of_what_stands_in_front_of_several(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "state", offset=7)
    render(layout, Options(scaled=True))
    folder = layout.config_dir / "grafana/provisioning"
    sources = yaml.safe_load((folder / "datasources/stack.yaml").read_text())["datasources"]
    asked = {source["type"]: source["url"] for source in sources}

    # The first port of each is where it is asked.
    in_front = {"prometheus": "thanos", "jaeger": "jaeger"}
    in_front["victoriametrics-logs-datasource"] = "victorialogs-front"
    assert asked == {kind: layout.url(SCALED[name].ports[0]) for kind, name in in_front.items()}
    for source in sources:
        password = source["secureJsonData"]["basicAuthPassword"]
        assert password == f"$__file{{{layout.engine_password}}}"
    (boards,) = yaml.safe_load((folder / "dashboards/stack.yaml").read_text())["providers"]
    assert boards["options"]["path"] == str(CHECKOUT / "grafana/dashboards")


def test_while_thanos_is_built_nobody_is_asked_in_its_place(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "state")
    options = Options(scaled=True)
    render(layout, options)
    not_built(layout, options, {"thanos"})
    asked = (layout.config_dir / "prometheus-1/targets/prometheus.yml").read_text()

    assert layout.not_built.read_text().split() == ["prometheus", "thanos"]
    assert layout.address("prometheus") not in asked
    assert layout.address("balancer-metrics") in asked


def test_a_token_made_in_the_checkout_is_known_to_all_three(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "state")
    options = Options(scaled=True)
    render(layout, options)
    kept = {
        SCALED[f"service-{number}"].environment(layout, options)["DASHBOARD_TOKENS_FILE"]
        for number in (1, 2, 3)
    }

    assert kept == {str(layout.data("service") / "tokens.json")}
    assert layout.data("service").is_dir()


def test_the_balancer_accepts_its_file_and_gets_every_address_in_it() -> None:
    env = scaled.balancer_env(Layout(Path("/srv/state"), offset=7))
    text = (CHECKOUT / scaled.BALANCER).read_text()
    assert set(re.findall(r"\$\{(\w+)\}", text)) == set(env)
    needed("haproxy")
    command = scaled.balancer(Layout(Path("/srv/state")), Options(), Path("/srv/bin"))

    done = subprocess.run(
        [command[0], "-c", "-f", str(CHECKOUT / scaled.BALANCER)],
        env=dict(os.environ) | env,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, "WARNING" in done.stdout + done.stderr) == (0, False), done.stderr
