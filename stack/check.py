"""`check`: every engine's own verdict on its configuration file, without running it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from stack.errors import StackError
from stack.layout import Layout
from stack.programs import PROGRAMS, Options
from stack.render import render
from stack.scaled import COLLECTOR


@dataclass(frozen=True)
class Finding:
    """One file; `problem` is what its engine said about it, None when it accepts it."""

    file: str
    problem: str | None


def check(layout: Layout) -> list[Finding]:
    """Asks the built engines. Raises StackError when one of them is not built."""
    with tempfile.TemporaryDirectory() as folder:
        # Rendered into a state folder of its own: a running stack is not touched.
        scratch = replace(layout, state_dir=Path(folder))
        render(scratch)
        return [
            Finding(file, _ask(scratch, program, binary, arguments))
            for file, program, binary, arguments in _questions(scratch)
        ]


def _questions(layout: Layout) -> list[tuple[str, str, str, list[str]]]:
    """(file, program whose environment it gets, binary, arguments)."""
    prometheus = layout.config_dir / "prometheus/prometheus.yml"
    alertmanager = layout.config_dir / "alertmanager/alertmanager.yml"
    collector, jaeger = (
        layout.checkout / name / "config.yaml" for name in ("otel-collector", "jaeger")
    )
    cluster = jaeger.with_name("cluster.yaml")
    return [
        (
            "otel-collector/config.yaml",
            "otel-collector",
            "otelcol",
            ["validate", f"--config={collector}"],
        ),
        (
            f"otel-collector/config.yaml and {COLLECTOR}",
            "otel-collector-1",
            "otelcol",
            ["validate", f"--config={collector}", f"--config={layout.checkout / COLLECTOR}"],
        ),
        (
            "prometheus/prometheus.yml and rules/",
            "prometheus",
            "promtool",
            ["check", "config", "--lint=all", "--lint-fatal", str(prometheus)],
        ),
        (
            "prometheus/alertmanager.yml",
            "alertmanager",
            "amtool",
            ["check-config", str(alertmanager)],
        ),
        ("jaeger/config.yaml", "jaeger", "jaeger", ["validate", f"--config=file:{jaeger}"]),
        (
            "jaeger/config.yaml and cluster.yaml",
            "jaeger",
            "jaeger",
            ["validate", *(f"--config=file:{file}" for file in (jaeger, cluster))],
        ),
    ]


def _ask(layout: Layout, program: str, binary: str, arguments: list[str]) -> str | None:
    path = layout.binary(binary)
    if not path.exists():
        raise StackError(f"{binary} is not built; `python -m stack build` does it")
    done = subprocess.run(
        [str(path), *arguments],
        env=dict(os.environ) | PROGRAMS[program].environment(layout, Options()),
        cwd=layout.state_dir,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return None
    return (done.stdout + done.stderr).strip() or f"exit code {done.returncode}"
