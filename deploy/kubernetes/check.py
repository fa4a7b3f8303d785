"""Builds the overlays and holds every object against Kubernetes' own schemas, without a cluster.

    python -m deploy.kubernetes.check

The operator's objects have no schema there; tests/contract/test_kubernetes.py holds them against
what they are made from.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from stack.layout import Layout

HERE = Path(__file__).parent
OVERLAYS = ("small", "large")
# The oldest that the manifests may be applied to (`sleep` before the end of a container), and the
# newest whose schemas there are.
VERSIONS = ("1.34", "1.37")
OPERATORS = "monitoring.coreos.com/v1"


def main() -> int:
    """The exit code: 0 when nothing is wrong."""
    problems = []
    for overlay in OVERLAYS:
        objects = build(overlay)
        found = list(problems_of(objects))
        problems += [f"{overlay}: {problem}" for problem in found]
        if not found:
            print(f"deploy/kubernetes/{overlay}: {len(objects)} objects, valid.")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def build(overlay: str) -> list[dict[str, Any]]:
    """What `kubectl apply --kustomize` would send.

    Raises:
        subprocess.CalledProcessError: kustomize refuses it; it has said why.
    """
    command = [str(Layout.from_env().binary("kustomize")), "build", str(HERE / overlay)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return list(yaml.load_all(done.stdout, yaml.CSafeLoader))


def problems_of(objects: list[dict[str, Any]]) -> Iterator[str]:
    """Every object that a cluster would refuse, and why."""
    for object_ in objects:
        if object_["apiVersion"] == OPERATORS:
            continue
        name = f"{object_['kind']} {object_['metadata']['name']}"
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(object_, version, strict=True)
            except (
                kubernetes_validate.ValidationError,
                kubernetes_validate.SchemaNotFoundError,
            ) as error:
                yield f"{name} ({version}): {error.message}"


if __name__ == "__main__":
    sys.exit(main())
