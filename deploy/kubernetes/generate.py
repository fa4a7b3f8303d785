"""Makes the Prometheus operator's objects from the files that Prometheus itself reads.

    python -m deploy.kubernetes.generate [--check]

Rules become `PrometheusRule`, scrape jobs `ServiceMonitor`, the rest of prometheus.yml and the
flags of docker-compose.yml a `Prometheus`. With `--check` the files are only compared; `make
check` runs that.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from stack.generated import write_or_check
from stack.layout import CHECKOUT
from stack.pins import THANOS
from stack.scaled import REPLICA

FOLDER = Path(__file__).parent / "operator"
API = "monitoring.coreos.com/v1"
# Those of the release whose definitions these objects were held against.
OPERATOR = "0.85.0"
HEADER = "# Made by `make generate` from {source}; for Prometheus Operator {operator} or newer.\n"
# What only large installations have; what else is scraped stands in prometheus.yml.
_MORE = ({"job_name": "otel-gateway"}, {"job_name": "thanos", "basic_auth": {}})


def read(path: str) -> Any:
    """A YAML file of the checkout."""
    return yaml.load((CHECKOUT / path).read_text(), yaml.CSafeLoader)


def _object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": spec}


def rules() -> Iterator[dict[str, Any]]:
    """An object for each file of prometheus/rules."""
    for path in sorted((CHECKOUT / "prometheus/rules").glob("*.yml")):
        groups = read(f"prometheus/rules/{path.name}")["groups"]
        for rule in chain.from_iterable(group["rules"] for group in groups):
            rule["expr"] = str(rule["expr"])  # 0.95 is a number, which the operator refuses
        yield _object("PrometheusRule", path.stem, {"groups": groups})


def monitors() -> Iterator[dict[str, Any]]:
    """An object for each scrape job."""
    for job in [*read("prometheus/prometheus.yml")["scrape_configs"], *_MORE]:
        name = job["job_name"]
        # The operator's Prometheus has no password.
        signs_in = "basic_auth" in job and name != "prometheus"
        port = "metrics" if name.startswith("otel-") or name == "jaeger" else "http"
        endpoint: dict[str, Any] = {"port": port}
        if signs_in:
            endpoint["basicAuth"] = _basic_auth()
        yield _object(
            "ServiceMonitor",
            name,
            {
                # So that the job is called as everywhere.
                "jobLabel": "app.kubernetes.io/name",
                "selector": {"matchLabels": {"app.kubernetes.io/name": name}},
                "endpoints": [endpoint],
            },
        )


def _basic_auth() -> dict[str, Any]:
    return {
        "username": {"name": "engine-user", "key": "username"},
        "password": {"name": "stack", "key": "engine_password"},
    }


def prometheus() -> dict[str, Any]:
    """Two servers under Thanos: the same image, flags and settings as in containers."""
    config = read("prometheus/prometheus.yml")
    compose = read("docker-compose.yml")["services"]["prometheus"]
    flags = dict(flag.partition("=")[::2] for flag in compose["command"])
    given = config["global"]
    otlp = config["otlp"]
    spec = {
        "replicas": 2,
        # By which Thanos tells the two; the operator keeps it from alerts.
        "replicaExternalLabelName": REPLICA,
        "prometheusExternalLabelName": "",
        "thanos": {"image": f"quay.io/thanos/thanos:v{thanos_version()}"},
        "image": compose["image"],
        "version": compose["image"].partition(":")[2],
        "serviceAccountName": "prometheus",
        "externalUrl": "http://127.0.0.1:9090",  # what `kubectl port-forward` makes of it
        "additionalArgs": [{"name": "web.cors.origin", "value": flags["--web.cors.origin"]}],
        "enableFeatures": [flags["--enable-feature"]],
        "enableOTLPReceiver": "--web.enable-otlp-receiver" in flags,
        "otlp": {
            "translationStrategy": otlp["translation_strategy"],
            "keepIdentifyingResourceAttributes": otlp["keep_identifying_resource_attributes"],
            "promoteResourceAttributes": otlp["promote_resource_attributes"],
        },
        "scrapeInterval": given["scrape_interval"],
        "scrapeTimeout": given["scrape_timeout"],
        "evaluationInterval": given["evaluation_interval"],
        "ruleQueryOffset": given["rule_query_offset"],
        "nameEscapingScheme": given["metric_name_escaping_scheme"].capitalize(),
        "retention": config["storage"]["tsdb"]["retention"]["time"],
        "tsdb": {"outOfOrderTimeWindow": config["storage"]["tsdb"]["out_of_order_time_window"]},
        "exemplars": {"maxSize": config["storage"]["exemplars"]["max_exemplars"]},
        "rules": {"alert": {"forGracePeriod": flags["--rules.alert.for-grace-period"]}},
        "ruleSelector": {},
        "serviceMonitorSelector": {},
        "alerting": {
            "alertmanagers": [{"name": "alertmanager", "port": "http", "basicAuth": _basic_auth()}]
        },
        "storage": {
            "volumeClaimTemplate": {
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "100Gi"}},
                }
            }
        },
        "resources": {
            "requests": {"cpu": "2", "memory": "8Gi"},
            "limits": {"memory": "8Gi"},
        },
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65534,
            "runAsGroup": 65534,
            "fsGroup": 65534,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    return _object("Prometheus", "prometheus", spec)


def thanos_version() -> str:
    """The one that `make scale-demo` builds."""
    text = (THANOS.module_dir / "go.mod").read_text()
    return re.findall(r"github\.com/thanos-io/thanos v([0-9.]+)", text)[0]  # type: ignore[no-any-return]


def files() -> dict[Path, str]:
    """What each file should hold."""
    made = {
        "rules.yaml": ("prometheus/rules/", rules()),
        "monitors.yaml": ("prometheus/prometheus.yml", monitors()),
        "prometheus.yaml": (
            "prometheus/prometheus.yml and docker-compose.yml",
            iter([prometheus()]),
        ),
    }
    return {
        FOLDER / name: HEADER.format(source=source, operator=OPERATOR)
        + yaml.safe_dump_all(objects, sort_keys=False, width=100, allow_unicode=True)
        for name, (source, objects) in made.items()
    }


def main(check: bool) -> int:
    """See `write_or_check`."""
    return write_or_check(files(), check)


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
