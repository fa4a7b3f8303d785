"""docker-compose.yml against the rest of the project: versions, mounts, limits, doors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.series import CHECKOUT, read_yaml

COMPOSE = read_yaml(CHECKOUT / "docker-compose.yml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def _mounted() -> Iterator[tuple[str, str]]:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            yield name, volume


def _tag(name: str) -> str:
    """Of an image that may be pinned by its digest too: `image:tag@sha256:…`."""
    tag: str = SERVICES[name]["image"].partition("@")[0].partition(":")[2]
    return tag


def _native_version(engine: str, module: str) -> str:
    text = (CHECKOUT / "stack" / "engines" / engine / "go.mod").read_text()
    return re.search(rf"\b{re.escape(module)} v([0-9.]+)", text)[1]  # type: ignore[index]


@pytest.mark.parametrize(
    ("service", "module", "translate"),
    [
        ("alertmanager", "github.com/prometheus/alertmanager", "v{}.{}.{}"),
        ("victorialogs", "github.com/VictoriaMetrics/VictoriaLogs", "v{}.{}.{}"),
        # Prometheus 3.x is published as the Go module v0.3xx.
        ("prometheus", "github.com/prometheus/prometheus", "v{}.{}.{}"),
        # Jaeger 2.n is the Go module v1.(n + 63).
        ("jaeger", "github.com/jaegertracing/jaeger", "{}.{}.{}"),
    ],
)
def test_an_image_has_the_version_that_the_native_stack_builds(
    service: str, module: str, translate: str
) -> None:
    major, minor, patch = (int(part) for part in _native_version(service, module).split("."))
    if service == "prometheus":
        major, minor = minor // 100, minor % 100
    if service == "jaeger":
        major, minor = 2, minor - 63
    tag = translate.format(major, minor, patch)
    assert _tag(service) == tag


def test_the_collectors_image_has_the_version_that_the_builder_names() -> None:
    version = read_yaml(CHECKOUT / "otel-collector" / "builder.yaml")["dist"]["version"]
    assert _tag("otel-collector") == version


def test_every_file_that_is_mounted_exists_and_is_read_only() -> None:
    for name, volume in _mounted():
        if volume.startswith("./"):
            source, _, rest = volume.partition(":")
            assert (CHECKOUT / source).exists(), f"{name}: {source}"
            assert rest.endswith(":ro"), f"{name}: {volume}"


def test_the_engines_read_the_same_configuration_as_the_native_stack() -> None:
    mounted = {volume.partition(":")[0] for _, volume in _mounted()}
    assert {
        "./otel-collector/config.yaml",
        "./prometheus/prometheus.yml",
        "./prometheus/rules",
        "./prometheus/alertmanager.yml",
        "./jaeger/config.yaml",
    } <= mounted


def test_prometheus_finds_its_targets_by_the_names_of_the_services() -> None:
    for file in sorted((CHECKOUT / "prometheus" / "targets-compose").glob("*.yml")):
        for group in read_yaml(file):
            for target in group["targets"]:
                assert target.partition(":")[0] in SERVICES, file.name


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    if name != "volumes":  # hands new volumes to their users, without a network
        assert service.get("user") not in ("root", "0")
        assert "cap_add" not in service
    else:
        assert service["network_mode"] == "none"


def test_ports_are_published_on_loopback_only() -> None:
    for name, service in SERVICES.items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name


def _network(name: str) -> set[str]:
    service = SERVICES[name]
    shared: str | None = service.get("network_mode")
    if shared is not None:
        return _network(shared.removeprefix("service:")) if shared != "none" else set()
    return set(service["networks"])


def _talks() -> Iterator[tuple[str, str]]:
    """Who asks or sends to whom, as the configuration says: addresses `http://NAME:PORT`."""
    texts = {
        "service": str(SERVICES["service"]["environment"]),
        "ready": str(SERVICES["ready"]["command"]),
        "otel-collector": (CHECKOUT / "otel-collector/config.yaml").read_text(),
        "alertmanager": (CHECKOUT / "prometheus/targets-compose/webhook_url").read_text(),
        "grafana": (CHECKOUT / "grafana/provisioning/datasources/stack.yaml").read_text(),
    }
    for name, text in texts.items():
        for other in re.findall(r"http://([a-z-]+):\d+", text):
            yield name, other
    for file in (CHECKOUT / "prometheus/targets-compose").glob("*.yml"):
        for group in read_yaml(file):
            yield from (("prometheus", target.partition(":")[0]) for target in group["targets"])


def test_containers_share_a_network_with_whom_they_ask_and_grafana_with_nobody_else() -> None:
    talks = set(_talks())
    assert {name for name, _ in talks} == {*SERVICES} - {
        "jaeger", "victorialogs", "simulator", "volumes"
    }  # fmt: skip
    for name, other in talks:
        assert _network(name) & _network(other), f"{name} cannot reach {other}"
    reachable = {name for name in SERVICES if _network(name) & _network("grafana")}
    asked = {other for name, other in talks if name == "grafana"}
    assert reachable == {"grafana", *asked}
    assert set().union(*map(_network, SERVICES)) == set(COMPOSE["networks"])


def test_the_service_answers_under_the_names_by_which_it_is_asked() -> None:
    names = SERVICES["service"]["environment"]["SERVICE_HOSTS"]
    listed = re.fullmatch(r"\$\{SERVICE_HOSTS:-(.+)\}", names)[1].split(",")  # type: ignore[index]
    asked = {other for _, other in _talks() if other == "service"}
    assert asked <= set(listed)
    assert {"localhost", "127.0.0.1"} <= set(listed)  # where its port is published


def test_secrets_come_from_files_that_are_not_committed() -> None:
    ignored = (CHECKOUT / ".gitignore").read_text().splitlines()
    assert "/secrets/" in ignored
    for secret in COMPOSE["secrets"].values():
        assert secret["file"].startswith("./secrets/")
    settings = SERVICES["grafana"]["environment"]
    assert settings["GF_SECURITY_ADMIN_PASSWORD__FILE"].startswith("/run/secrets/")
    assert settings["GF_AUTH_ANONYMOUS_ENABLED"] == "false"


def test_grafana_starts_after_every_source_that_it_shows() -> None:
    assert SERVICES["grafana"]["depends_on"] == {
        "ready": {"condition": "service_completed_successfully"}
    }
    asked = " ".join(SERVICES["ready"]["command"])
    sources = read_yaml(CHECKOUT / "grafana/provisioning/datasources/stack.yaml")["datasources"]
    for source in sources:
        assert source["url"].removeprefix("http://").partition(":")[0] in asked
