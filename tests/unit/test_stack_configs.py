"""The engines' configuration files, held against each other and against the launcher."""

from __future__ import annotations

import base64
import re
import stat
from itertools import chain
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import yaml

from stack.layout import CHECKOUT, Layout
from stack.pins import ENGINES
from stack.programs import PROGRAMS, Options
from stack.render import TARGETS, render
from stack.supervise import write_config

COLLECTOR = yaml.safe_load((CHECKOUT / "otel-collector/config.yaml").read_text())
BUILDER = yaml.safe_load((CHECKOUT / "otel-collector/builder.yaml").read_text())
PROMETHEUS = yaml.safe_load((CHECKOUT / "prometheus/prometheus.yml").read_text())
MODULE = CHECKOUT / "stack/engines/otel-collector"

# Component type in config.yaml → the Go module it comes from.
MODULES = {
    "otlp": "receiver/otlpreceiver",
    "memory_limiter": "processor/memorylimiterprocessor",
    "redaction": "processor/redactionprocessor",
    "span_metrics": "connector/spanmetricsconnector",
    "otlp_http": "exporter/otlphttpexporter",
    "health_check": "extension/healthcheckextension",
    "file_storage": "extension/storage/filestorage",
}
KINDS = ("receivers", "processors", "connectors", "exporters", "extensions")


def built_in() -> list[str]:
    return [part["gomod"] for kind in (*KINDS, "providers") for part in BUILDER[kind]]


def test_the_collector_is_built_from_exactly_the_parts_its_configuration_uses() -> None:
    used = {name.partition("/")[0] for kind in KINDS for name in COLLECTOR[kind]}
    parts = {gomod.split()[0] for kind in KINDS for gomod in (p["gomod"] for p in BUILDER[kind])}

    assert {MODULES[name] for name in used} == {
        "/".join(module.split("/")[-len(MODULES[name].split("/")) :])
        for name in used
        for module in parts
        if module.endswith(MODULES[name])
    }
    assert len(used) == len(parts)


def test_every_part_that_is_configured_is_in_a_pipeline() -> None:
    service = COLLECTOR["service"]
    pipelines = service["pipelines"].values()
    wired = set(service["extensions"]) | set(
        chain.from_iterable(names for pipeline in pipelines for names in pipeline.values())
    )

    assert wired == {name for kind in KINDS for name in COLLECTOR[kind]}


def test_the_committed_collector_module_was_generated_from_builder_yaml() -> None:
    required = (MODULE / "go.mod").read_text()
    imported = (MODULE / "components.go").read_text() + (MODULE / "main.go").read_text()

    for gomod in built_in():
        assert gomod in required
        assert f'"{gomod.split()[0]}"' in imported


def test_every_pipeline_limits_memory_before_anything_else() -> None:
    for name, pipeline in COLLECTOR["service"]["pipelines"].items():
        assert pipeline["processors"][0] == "memory_limiter", name


def test_every_exporter_queues_on_disk_and_never_gives_up() -> None:
    assert COLLECTOR["extensions"]["file_storage"]["fsync"] is True
    for name, exporter in COLLECTOR["exporters"].items():
        assert exporter["sending_queue"]["storage"] == "file_storage", name
        assert exporter["retry_on_failure"]["max_elapsed_time"] == "0s", name
        if "batch" in exporter["sending_queue"]:
            assert exporter["sending_queue"]["batch"]["max_size"] < 4 * 2**20, name


def test_one_workers_metrics_are_one_request() -> None:
    # Prometheus rejects a whole request for one point (docs/reliability.md, row 12).
    assert "batch" not in COLLECTOR["exporters"]["otlp_http/prometheus"]["sending_queue"]


def test_traces_and_logs_pass_the_redaction() -> None:
    pipelines = COLLECTOR["service"]["pipelines"]

    assert "redaction" in pipelines["traces"]["processors"]
    assert "redaction" in pipelines["logs"]["processors"]


def masked_key(key: str) -> bool:
    patterns = COLLECTOR["processors"]["redaction"]["blocked_key_patterns"]
    return any(re.search(pattern, key, re.ASCII) for pattern in patterns)


def masked(value: str) -> str:
    for pattern in COLLECTOR["processors"]["redaction"]["blocked_values"]:
        value = re.sub(pattern, "****", value, flags=re.ASCII)
    return value


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "db.password",
        "client_secret",
        "access_token",
        "http.request.header.cookie",
        "http.response.header.set-cookie",
        "http.request.header.authorization",
        "http.request.header.proxy-authorization",
        "x-goog-api-key",
        "API_KEY",
        "sig",
        "url.query.pot",
        "signature",
    ],
)
def test_a_key_that_names_a_secret_is_masked(key: str) -> None:
    assert masked_key(key)


@pytest.mark.parametrize(
    "key",
    [
        "trace_id",
        "span_id",
        "video_id",
        "stage",
        "outcome",
        "error.type",
        "profile",
        "proxy_used",
        "url.full",
        "signal",
        "design",
        "po_token_required",
        "token_count",
        "cookies_sent",
        "http.route",
        "key",
        "spot",
    ],
)
def test_a_key_that_only_looks_like_one_is_not(key: str) -> None:
    assert not masked_key(key)


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ("Bearer abc.def-0123456789", "****"),
        ("Basic dXNlcjpwYXNzd29yZA==", "****"),
        ("key AIzaSyA1234567890123456789012345678901 used", "key **** used"),
        ("http://user:pw@proxy:3128/x", "http****proxy:3128/x"),
        ("http://:pw@proxy:3128", "http****proxy:3128"),
        ("t=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl;", "t=****;"),
        ("https://h/timedtext?v=abc&sig=A1B2.C3&lang=en", "https://h/timedtext?v=abc&****&lang=en"),
        ("https://h/x?pot=Mhs-x&fmt=json3", "https://h/x?****&fmt=json3"),
        ("https://h/x?key=abc", "https://h/x?****"),
        ("SID=g.a000; PREF=tz=UTC; SAPISID=x/y", "****; PREF=tz=UTC; ****"),
        ("__Secure-3PSID=g.a000", "****"),
    ],
)
def test_a_secret_inside_a_value_is_masked_and_the_rest_stays(value: str, left: str) -> None:
    assert masked(value) == left


@pytest.mark.parametrize(
    "value",
    [
        "0af7651916cd43dd8448eb211c80319c",
        "dQw4w9WgXcQ",
        "https://www.youtube.com/watch?v=dQw4w9WgXcQ&lang=en",
        "http://127.0.0.1:4318/v1/traces",
        "po_token_required",
        "GET /api/transcripts/<video>",
        "2026-11-24T18:13:00Z",
        "bearer of news",
        "ratio 3:4 @ noon",
        "design=modern signal=logs",
    ],
)
def test_an_ordinary_value_is_left_alone(value: str) -> None:
    assert masked(value) == value


def referenced_targets() -> set[str]:
    discoveries = [job["file_sd_configs"] for job in PROMETHEUS["scrape_configs"]]
    discoveries += [am["file_sd_configs"] for am in PROMETHEUS["alerting"]["alertmanagers"]]
    return {Path(file).name for sds in discoveries for sd in sds for file in sd["files"]}


def test_launcher_and_containers_have_a_file_for_every_target() -> None:
    compose = {path.name for path in (CHECKOUT / "prometheus/targets-compose").glob("*.yml")}

    assert referenced_targets() == set(TARGETS) == compose


def test_render_writes_targets_and_keeps_the_secret_it_made(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "state", offset=100)
    render(layout)
    token = layout.webhook_token.read_text()
    render(layout)

    assert layout.webhook_token.read_text() == token
    assert len(bytes.fromhex(token)) == 32
    for secret in (layout.webhook_token, layout.secrets_dir / "webhook_url"):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    targets = layout.config_dir / "prometheus/targets"
    assert yaml.safe_load((targets / "victorialogs.yml").read_text()) == [
        {"targets": ["127.0.0.1:9528"]}
    ]
    url = (layout.config_dir / "alertmanager/secrets/webhook_url").read_text()
    assert url == "http://127.0.0.1:5100/api/alerts/webhook"


def test_every_form_of_the_engines_password_is_of_the_same_one(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "state")
    render(layout)
    before = {path.name: path.read_text() for path in layout.secrets_dir.iterdir()}
    render(layout)

    assert {path.name: path.read_text() for path in layout.secrets_dir.iterdir()} == before
    assert {stat.S_IMODE(path.stat().st_mode) for path in layout.secrets_dir.iterdir()} == {0o600}
    password = before["engine_password"]
    assert len(bytes.fromhex(password)) == 32
    assert base64.b64decode(before["engine_authorization"]).decode() == f"stack:{password}"
    user, _, hashed = before["engine_htpasswd"].strip().partition(":")
    assert user == "stack"
    assert bcrypt.checkpw(password.encode(), hashed.encode())
    assert yaml.safe_load(before["engine_web"]) == {"basic_auth_users": {"stack": hashed}}
    assert layout.engine("jaeger", "/x") == f"http://stack:{password}@127.0.0.1:16686/x"


def test_render_takes_rules_over_and_forgets_deleted_ones(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    rules = checkout / "prometheus/rules"
    rules.mkdir(parents=True)
    for name in ("prometheus.yml", "alertmanager.yml"):
        (checkout / "prometheus" / name).write_text("{}")
    layout = Layout(tmp_path / "state", offset=100, checkout=checkout)
    rendered = layout.config_dir / "prometheus/rules"

    (rules / "a.yml").write_text("groups: [] # http://127.0.0.1:5000/runbooks/A")
    render(layout)
    assert [path.name for path in rendered.iterdir()] == ["a.yml"]
    assert f"# {layout.url('service')}/runbooks/A" in (rendered / "a.yml").read_text()

    (rules / "a.yml").unlink()
    rules.rmdir()
    render(layout)
    assert list(rendered.iterdir()) == []


def variables(text: str) -> set[str]:
    return set(re.findall(r"\$\{(?:env:)?([A-Z0-9_]+):-", text))


# Left to their defaults natively; a caller's own value passes through.
OPTIONAL = {"OTELCOL_LOG_LEVEL", "JAEGER_LOG_LEVEL"}
# For the libraries in an engine, not for its configuration.
FOR_LIBRARIES = {"GOMEMLIMIT", "OTEL_TRACES_SAMPLER"}


@pytest.mark.parametrize("name", ["otel-collector", "jaeger"])
def test_the_launcher_sets_every_variable_of_a_configuration(name: str) -> None:
    layout = Layout(Path("/srv/state"))
    asked = variables((CHECKOUT / name / "config.yaml").read_text())

    given = PROGRAMS[name].environment(layout, Options())

    assert asked - OPTIONAL == set(given) - FOR_LIBRARIES


def test_every_address_that_a_program_is_given_is_on_loopback() -> None:
    layout = Layout(Path("/srv/state"))
    for program in PROGRAMS.values():
        words: list[Any] = program.command(
            layout, Options(extras=frozenset({"load"})), Path("/srv/bin")
        )
        words += program.environment(layout, Options(extras=frozenset({"load"}))).values()
        for word in words:
            for host in re.findall(r"(\d+\.\d+\.\d+\.\d+)", word):
                assert host == "127.0.0.1", program.name


def test_the_supervisor_configuration_survives_spaces_and_percent_signs(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "100% state")
    layout.run_dir.mkdir(parents=True)

    write_config(layout, Options(), {}, ["prometheus"])

    text = layout.supervisor_config.read_text()
    assert "100%% state" in text
    assert "'--storage.tsdb.path=" in text


def test_each_engine_has_its_own_pinned_module() -> None:
    for engine in ENGINES:
        assert (engine.module_dir / "go.mod").is_file()
        assert (engine.module_dir / "go.sum").is_file()
        assert engine.name in PROGRAMS


def test_an_engines_key_follows_the_go_version_and_nothing_of_the_machine_but_its_kind() -> None:
    engine = ENGINES[0]

    assert engine.key("go1.26.7") == engine.key("go1.26.7") != engine.key("go1.26.8")
