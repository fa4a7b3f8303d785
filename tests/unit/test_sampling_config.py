"""The two files that make a Collector sample, against what they are read over and built of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack.layout import CHECKOUT
from stack.pins import ENGINES_BY_NAME, GATEWAY, Engine
from transcript_service.resilience import circuit_breaker

FOLDER = CHECKOUT / "otel-collector"
KINDS = ("receivers", "processors", "connectors", "exporters", "extensions")


def read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text())


CONFIG, BALANCER, GATEWAY_CONFIG = map(read, ("config.yaml", "balancer.yaml", "gateway.yaml"))
COLLECTOR = ENGINES_BY_NAME["otel-collector"]
BUILDER, USUAL = read("gateway-builder.yaml"), read("builder.yaml")


def parts(builder: Any) -> set[str]:
    """The last word of each Go module, such as `tailsamplingprocessor`."""
    return {part["gomod"].split()[0].rsplit("/", 1)[1] for kind in KINDS for part in builder[kind]}


def test_it_is_built_of_the_usual_parts_and_of_what_the_two_files_add() -> None:
    added = {
        name.partition("/")[0]
        for config in (BALANCER, GATEWAY_CONFIG)
        for kind in KINDS
        for name in config.get(kind, {})
        if name not in CONFIG[kind]
    }
    assert added == {"load_balancing", "tail_sampling"}
    assert parts(BUILDER) == parts(USUAL) | {"loadbalancingexporter", "tailsamplingprocessor"}


@pytest.mark.parametrize(
    ("engine", "builder"), [(GATEWAY, BUILDER), (COLLECTOR, USUAL)], ids=["gateway", "usual"]
)
def test_its_module_was_generated_from_its_builder(engine: Engine, builder: Any) -> None:
    required = (engine.module_dir / "go.mod").read_text().splitlines()
    imported = "".join(path.read_text() for path in engine.module_dir.glob("*.go"))
    for kind in (*KINDS, "providers"):
        for part in builder[kind]:
            assert f"\t{part['gomod']}" in required
            assert f'"{part["gomod"].split()[0]}"' in imported
    assert f'"{builder["dist"]["version"]}"' in imported


def test_spans_are_measured_before_any_is_left_out() -> None:
    assert "span_metrics" in BALANCER["service"]["pipelines"]["traces"]["exporters"]
    pipelines = GATEWAY_CONFIG["service"]["pipelines"]
    assert pipelines["metrics"]["receivers"] == ["otlp"]
    assert pipelines["traces"]["exporters"] == ["otlp_http/jaeger"]
    assert pipelines["traces"]["processors"] == [
        *CONFIG["service"]["pipelines"]["traces"]["processors"],
        "tail_sampling",
    ]


def test_all_spans_of_a_trace_meet_one_sampler() -> None:
    exporter = BALANCER["exporters"]["load_balancing"]
    assert exporter["routing_key"] == "traceID"
    assert exporter["sending_queue"]["storage"] == "file_storage"
    assert exporter["retry_on_failure"]["max_elapsed_time"] == "0s"
    # Not one queue in front of another, of which the second is in memory.
    assert exporter["protocol"]["otlp"]["sending_queue"] == {"enabled": False}


def test_the_sampler_means_the_objective_and_the_event_that_the_service_means() -> None:
    policies = {
        policy["name"]: policy
        for policy in GATEWAY_CONFIG["processors"]["tail_sampling"]["policies"]
    }
    rules = yaml.safe_load((CHECKOUT / "prometheus/rules/thresholds.yml").read_text())
    (objective_s,) = (
        rule["expr"]
        for rule in rules["groups"][0]["rules"]
        if rule["record"] == "threshold:transcript_latency:seconds"
    )
    latency = policies["slower-than-the-objective"]["latency"]
    assert latency == {"threshold_ms": objective_s * 1000}
    (condition,) = policies["breaker-transitions"]["ottl_condition"]["spanevent"]
    event = re.fullmatch(r'spanevent\.name == "([a-z_.]+)"', condition)
    assert event is not None
    source = Path(circuit_breaker.__file__).read_text()
    assert re.search(rf"add_event\(\s*\"{re.escape(event[1])}\"", source)
