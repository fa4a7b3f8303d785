"""deploy/kubernetes against the containers and the native stack: one thing, three ways to run it.

`make check` builds the overlays and holds them against Kubernetes' schemas.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.kubernetes import generate
from stack.layout import BASE_PORTS, REPLICAS, Layout
from stack.pins import THANOS
from stack.programs import PROGRAMS, Options
from stack.scaled import REPLICA
from tests.contract.series import CHECKOUT, read_yaml
from transcript_service.settings import Settings

FOLDER = CHECKOUT / "deploy/kubernetes"
COMPOSE = read_yaml(CHECKOUT / "docker-compose.yml")["services"]
SAMPLING = str(read_yaml(CHECKOUT / "otel-collector/gateway-builder.yaml")["dist"]["version"])
WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet"}
# Named port of the native stack → its number elsewhere, where that is another one: on one machine
# no two programs can have the same.
MOVED = {"jaeger-otlp": 4318, "jaeger-metrics": 8888}


def _objects(file: Path) -> list[dict[str, Any]]:
    return list(yaml.load_all(file.read_text(), yaml.CSafeLoader))


OBJECTS = [
    (path.parent.name, found)
    for path in sorted(FOLDER.glob("*/*.yaml"))
    if path.name not in ("kustomization.yaml", "prometheus-adapter.yaml")
    for found in _objects(path)
]
PODS = {
    (folder, found["metadata"]["name"]): found["spec"]["template"]["spec"]
    for folder, found in OBJECTS
    if found["kind"] in WORKLOADS
}
CONTAINERS = {where: pod["containers"][0] for where, pod in PODS.items()}
# Those that containers have too, under the same name.
LARGE = ("sampling", "thanos")
SAME = {name: container for (folder, name), container in CONTAINERS.items() if folder not in LARGE}
ENGINES = {name: container for name, container in SAME.items() if name != "service"}


def _environment(container: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container["env"]}


def test_nothing_of_the_containers_is_missing() -> None:
    helpers = {"ready", "volumes", "simulator"}
    # Grafana is the cluster's own; it gets the boards.
    assert set(SAME) == set(COMPOSE) - helpers - {"grafana"}


@pytest.mark.parametrize("name", SAME)
def test_the_image_is_the_same(name: str) -> None:
    assert SAME[name]["image"] == COMPOSE[name]["image"]


@pytest.mark.parametrize("name", ["otel-collector", "otel-gateway"])
def test_traces_are_sampled_by_the_version_that_the_tests_run(name: str) -> None:
    image = CONTAINERS["sampling", name]["image"]
    assert image == f"{COMPOSE['otel-collector']['image'].partition(':')[0]}:{SAMPLING}"


def test_where_traces_are_sampled_a_collector_is_as_everywhere() -> None:
    usual = SAME["otel-collector"]
    in_front, behind = (CONTAINERS["sampling", name] for name in ("otel-collector", "otel-gateway"))
    both = ("PROMETHEUS_OTLP_ENDPOINT", "PROMETHEUS_2_OTLP_ENDPOINT")
    addresses = {"OTELCOL_GATEWAYS", "OTELCOL_INSTANCE", *both}
    assert in_front["ports"] == usual["ports"]
    assert in_front["resources"]["limits"] == usual["resources"]["limits"]
    more = {f"--config=/etc/otelcol/{name}.yaml" for name in ("scaled", "balancer")}
    assert set(in_front["args"]) - set(usual["args"]) == more
    assert not set(usual["args"]) - set(in_front["args"])
    told = {entry["name"]: entry.get("value") for entry in in_front["env"]}
    assert {name: told[name] for name in told.keys() - addresses} == _environment(usual)
    # The operator's name for each of the pods, behind its own headless Service.
    assert [told[name] for name in both] == [
        f"http://prometheus-prometheus-{number}.prometheus-operated:9090/api/v1/otlp"
        for number in range(len(both))
    ]
    # A gateway is sent spans in one way.
    assert behind["ports"] == [port for port in usual["ports"] if port["name"] != "otlp-http"]
    (found,) = re.findall(r'hostname: ([\w-]+), port: "(\d+)"', told["OTELCOL_GATEWAYS"] or "")
    assert found == ("otel-gateway", str(_ports(behind)["otlp-grpc"]))
    # Four fifths, as there.
    limit = int(_environment(behind)["OTELCOL_MEMORY_LIMIT_MIB"])
    assert _environment(behind)["GOMEMLIMIT"] == f"{limit * 4 // 5}MiB"


def _ports(container: dict[str, Any]) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container["ports"]}


def test_the_service_is_told_the_same() -> None:
    asked = COMPOSE["service"]["environment"]
    told = _environment(SAME["service"])
    # A file of the cluster's: one in each instance's own folder would be that instance's alone.
    tokens = Path(told.pop("DASHBOARD_TOKENS_FILE"))
    # Empty there, and meant for the simulator; the names are for a port on loopback.
    others = {"YOUTUBE_RESOLVE_TO", "YOUTUBE_CA_FILE", "SERVICE_HOSTS"}
    assert told == {name: value for name, value in asked.items() if name not in others}
    known = {name.upper() for name in Settings.model_fields} | {"OTEL_EXPORTER_OTLP_ENDPOINT"}
    assert {*told, "DASHBOARD_TOKENS_FILE"} <= known
    (mount,) = (m for m in SAME["service"]["volumeMounts"] if m["mountPath"] == str(tokens.parent))
    (volume,) = (v for v in PODS["service", "service"]["volumes"] if v["name"] == mount["name"])
    # Without a Secret there is no token, and the service serves all the same.
    assert volume["secret"]["optional"] is True


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_is_started_the_same_way(name: str) -> None:
    assert _environment(ENGINES[name]) == COMPOSE[name]["environment"]
    external = "--web.external-url="
    flags = {flag for flag in ENGINES[name]["args"] if not flag.startswith(external)}
    assert flags == {flag for flag in COMPOSE[name]["command"] if not flag.startswith(external)}
    limit = ENGINES[name]["resources"]["limits"]["memory"]
    assert limit.removesuffix("i").lower() == COMPOSE[name]["mem_limit"]


@pytest.mark.parametrize("name", ENGINES)
def test_natively_it_has_the_same_flags_but_for_addresses_and_paths(name: str) -> None:
    command = PROGRAMS[name].command(Layout(Path("/srv/state")), Options(), Path("/srv/bin"))[1:]
    own = {flag for flag in ENGINES[name]["args"] if not re.search(r"[/:]", flag)}
    native = {flag for flag in command if not re.search(r"[/:]", flag)}
    assert own == native


@pytest.mark.parametrize("name", ["otel-collector", "jaeger"])  # no other reads any
def test_natively_an_engine_is_told_the_same_but_for_addresses_and_paths(name: str) -> None:
    native = PROGRAMS[name].environment(Layout(Path("/srv/state")), Options())
    text = (CHECKOUT / name / "config.yaml").read_text()
    # What the file says where nothing is set, and what containers set besides.
    told = dict(re.findall(r"\$\{env:(\w+):-([^}]*)\}", text)) | COMPOSE[name]["environment"]
    # The next test is about numbers of ports.
    numbers = {variable for variable in native if variable.endswith("_PORT")}
    for variable in native.keys() - numbers:
        assert _without_place(native[variable]) == _without_place(told[variable]), variable


def test_natively_the_service_is_told_the_same() -> None:
    native = Layout(Path("/srv/state")).service_env()
    asked = COMPOSE["service"]["environment"]
    # The person at this machine needs no token; engines may still be being built.
    only_native = {"DASHBOARD_OPEN_ON_LOOPBACK", "ENGINES_NOT_BUILT_FILE"}
    # Meant for the simulator, and for names that only containers have.
    others = {"YOUTUBE_RESOLVE_TO", "YOUTUBE_CA_FILE", "SERVICE_HOSTS"}
    assert native.keys() - only_native == asked.keys() - others
    for variable in asked.keys() - others:
        assert _without_place(native[variable]) == _without_place(asked[variable]), variable


def _without_place(value: str) -> str:
    return re.sub(r"^(/.*|(http://)?[\w.-]+:\d+|\d+(\.\d+){3}$)", "", value)


def test_the_ports_are_the_same() -> None:
    listening = {
        name: {port["containerPort"] for port in container["ports"]}
        for name, container in SAME.items()
    }
    services = [(folder, found) for folder, found in OBJECTS if found["kind"] == "Service"]
    assert {found["metadata"]["name"] for _, found in services} == {*SAME, "otel-gateway", "thanos"}
    for folder, found in services:
        name = found["metadata"]["name"]
        # The operator makes the pods of its Prometheus.
        container = CONTAINERS.get((folder, name)) or SAME[name]
        served = {port["name"]: port["port"] for port in found["spec"]["ports"]}
        assert served == _ports(container), f"{folder}/{name}"
    for name in SAME:
        for published in COMPOSE[name].get("ports", []):
            here, inside = re.fullmatch(r"127\.0\.0\.1:\$\{\w+:-(\d+)\}:(\d+)", published).groups()  # type: ignore[union-attr]
            assert int(inside) in listening[name], name
            # As a machine without containers has it.
            assert int(here) in map(BASE_PORTS.get, PROGRAMS[name].ports), published
    for name in SAME:
        for port in PROGRAMS[name].ports:
            if port != "jaeger-grpc":  # nobody asks it
                assert MOVED.get(port, BASE_PORTS[port]) in listening[name], port


def test_prometheus_looks_for_its_targets_at_their_ports() -> None:
    for file in sorted((CHECKOUT / "prometheus/targets-compose").glob("*.yml")):
        for target in (target for group in read_yaml(file) for target in group["targets"]):
            name, _, port = target.partition(":")
            assert int(port) in _ports(SAME[name]).values(), file.name


def test_a_policy_or_a_monitor_names_a_port_that_there_is() -> None:
    ports = {port["name"] for container in CONTAINERS.values() for port in container["ports"]}
    numbers = {port["containerPort"] for c in CONTAINERS.values() for port in c["ports"]}
    sidecar = 10901  # the operator's
    outside = {53, 443, 6443, 6379, sidecar}
    for _, found in OBJECTS:
        if found["kind"] == "NetworkPolicy":
            ways = [*found["spec"].get("ingress", []), *found["spec"].get("egress", [])]
            named = {port["port"] for way in ways for port in way.get("ports", [])}
            assert named <= ports | numbers | outside, found["metadata"]["name"]
        if found["kind"] == "ServiceMonitor":
            assert {endpoint["port"] for endpoint in found["spec"]["endpoints"]} <= ports


@pytest.mark.parametrize("where", PODS, ids="/".join)
def test_a_pod_is_confined(where: tuple[str, str]) -> None:
    pod, container = PODS[where], CONTAINERS[where]
    assert len(pod["containers"]) == 1
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)
    assert not any("hostPath" in volume for volume in pod["volumes"])


def test_every_pod_has_a_policy_of_its_own() -> None:
    closed = {
        found["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/name"]
        for _, found in OBJECTS
        if found["kind"] == "NetworkPolicy" and found["spec"]["podSelector"]
    }
    assert closed == {name for _, name in PODS}


def test_the_operators_objects_are_current() -> None:
    assert generate.main(check=True) == 0


def test_the_operator_is_given_the_rules_as_they_are() -> None:
    given = [found["spec"]["groups"] for _, found in OBJECTS if found["kind"] == "PrometheusRule"]
    ours = [read_yaml(path)["groups"] for path in sorted((CHECKOUT / "prometheus/rules").iterdir())]
    for groups in ours:
        for group in groups:
            for rule in group["rules"]:
                # The only change: a number alone is text there.
                rule["expr"] = str(rule["expr"])
    assert given == ours


def test_the_operators_prometheus_is_the_containers() -> None:
    (spec,) = (found["spec"] for _, found in OBJECTS if found["kind"] == "Prometheus")
    assert spec["image"] == COMPOSE["prometheus"]["image"]
    assert spec["enableOTLPReceiver"] is True
    assert spec["ruleSelector"] == spec["serviceMonitorSelector"] == {}
    jobs = [job["job_name"] for job in generate.read("prometheus/prometheus.yml")["scrape_configs"]]
    monitors = [f["metadata"]["name"] for _, f in OBJECTS if f["kind"] == "ServiceMonitor"]
    assert monitors == [*jobs, "otel-gateway", "thanos"]


def test_of_two_prometheus_thanos_speaks_for_both() -> None:
    (spec,) = (found["spec"] for _, found in OBJECTS if found["kind"] == "Prometheus")
    assert spec["replicas"] == REPLICAS["prometheus"]
    assert spec["replicaExternalLabelName"] == REPLICA
    thanos = CONTAINERS["thanos", "thanos"]
    assert spec["thanos"]["image"] == thanos["image"]
    module = (THANOS.module_dir / "go.mod").read_text()
    assert f"github.com/thanos-io/thanos {thanos['image'].partition(':')[2]}" in module
    # Started as `make scale-demo` starts it.
    command = PROGRAMS["thanos"].command(Layout(Path("/srv/state")), Options(), Path("/srv/bin"))
    own, native = (
        {flag for flag in flags if not re.search(r"[/:]|^--endpoint=", flag)}
        for flags in (thanos["args"], command[1:])
    )
    assert own == native
    # The service and Grafana ask it, and nobody else's policy lets them to a single one.
    (patch,) = (
        yaml.load(patch["patch"], yaml.CSafeLoader)
        for patch in read_yaml(FOLDER / "large/kustomization.yaml")["patches"]
        if "PROMETHEUS_URL" in patch["patch"]
    )
    (container,) = patch["spec"]["template"]["spec"]["containers"]
    assert _environment(container) == {"PROMETHEUS_URL": "http://thanos:9090"}
    assert {"service", "grafana"} <= _let_in("thanos", "thanos")
    assert not {"service", "grafana"} & _let_in("operator", "prometheus")


def _let_in(folder: str, name: str) -> set[str]:
    """The pods that a NetworkPolicy lets in."""
    (policy,) = (
        found["spec"]
        for where, found in OBJECTS
        if where == folder
        and found["kind"] == "NetworkPolicy"
        and found["metadata"]["name"] == name
    )
    return {
        who["podSelector"]["matchLabels"]["app.kubernetes.io/name"]
        for way in policy["ingress"]
        for who in way["from"]
        if "podSelector" in who
    }


@pytest.mark.parametrize(
    ("folder", "pattern"),
    [
        ("grafana/dashboards", "*.json"),
        ("prometheus", "rules/*.yml"),
        ("prometheus", "targets-compose/*.yml"),
        ("jaeger", "config.yaml"),
        ("otel-collector", "config.yaml"),
        ("otel-collector", "scaled.yaml"),
        ("otel-collector", "balancer.yaml"),
        ("otel-collector", "gateway.yaml"),
    ],
)
def test_every_configuration_file_is_handed_over(folder: str, pattern: str) -> None:
    root = CHECKOUT / folder
    listed = {
        file
        for maker in read_yaml(root / "kustomization.yaml")["configMapGenerator"]
        for file in maker["files"]
    }
    assert listed >= {str(path.relative_to(root)) for path in root.glob(pattern)}
    assert all((root / file).is_file() for file in listed)


def test_the_autoscaler_asks_for_what_the_adapter_makes() -> None:
    (scaler,) = (f["spec"] for _, f in OBJECTS if f["kind"] == "HorizontalPodAutoscaler")
    (rule,) = read_yaml(FOLDER / "large/prometheus-adapter.yaml")["rules"]["external"]
    (metric,) = scaler["metrics"]
    assert metric["external"]["metric"]["name"] == rule["name"]["as"]
    assert rule["seriesQuery"] in rule["metricsQuery"]
    # Half of the places that one instance has by default.
    fields = Settings.model_fields
    places = fields["web_concurrency"].default * fields["web_fetches"].default
    assert int(metric["external"]["target"]["averageValue"]) == places / 2
