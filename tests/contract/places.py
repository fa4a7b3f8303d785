"""Finds every query of the project, each with the place that a message can name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, Literal

from tests.contract.series import CHECKOUT, read_yaml
from transcript_service.dashboard.blocks import BLOCKS

Language = Literal["promql", "logsql"]


@dataclass(frozen=True)
class Place:
    """One query and where it stands."""

    where: str
    language: Language
    expression: str
    # The unit that a panel shows it in, and the labels that its legend or template names.
    unit: str | None = None
    named: tuple[str, ...] = ()


def all_places(checkout: Path = CHECKOUT) -> list[Place]:
    """Dashboards, data sources, rules, the dashboard API, runbooks, README and docs."""
    return [
        *dashboards(checkout),
        *datasources(checkout),
        *rules(checkout),
        *dashboard_api(),
        *documents(checkout),
    ]


# --- Grafana -------------------------------------------------------------------------------


def load_dashboards(checkout: Path = CHECKOUT) -> dict[str, dict[str, Any]]:
    """The generated dashboards by file name."""
    files = sorted((checkout / "grafana" / "dashboards").glob("*.json"))
    return {file.name: json.loads(file.read_text()) for file in files}


def panels_of(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every panel, those inside collapsed rows too, rows left out."""
    for panel in dashboard.get("panels", []):
        if panel["type"] == "row":
            yield from panel.get("panels", [])
        else:
            yield panel


def dashboards(checkout: Path) -> Iterator[Place]:
    for file, dashboard in load_dashboards(checkout).items():
        for panel in panels_of(dashboard):
            where = f"{file}: panel {panel['title']!r}"
            for target in panel.get("targets", []):
                if "expr" not in target:
                    continue
                kind = target["datasource"]["type"]
                language: Language = "promql" if kind == "prometheus" else "logsql"
                yield Place(
                    f"{where}, query {target['refId']}",
                    language,
                    target["expr"],
                    panel.get("fieldConfig", {}).get("defaults", {}).get("unit"),
                    _legend_labels(target.get("legendFormat", "")),
                )
        for variable in dashboard.get("templating", {}).get("list", []):
            if variable["type"] == "query":
                yield from _variable(f"{file}: variable ${variable['name']}", variable)
        for note in dashboard.get("annotations", {}).get("list", []):
            if "expr" in note:
                texts = note.get("titleFormat", "") + note.get("textFormat", "")
                yield Place(
                    f"{file}: annotation {note['name']!r}",
                    "promql",
                    note["expr"],
                    named=_legend_labels(texts),
                )


def _legend_labels(legend: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\{\{\s*(\w+)\s*\}\}", legend))


def _variable(where: str, variable: dict[str, Any]) -> Iterator[Place]:
    query = variable["query"]
    text = query if isinstance(query, str) else query["query"]
    match = re.fullmatch(r"label_values\((.+),\s*(\w+)\)", text)
    if match is None:
        yield Place(where, "promql", text)
    else:
        yield Place(where, "promql", match[1], named=(match[2],))


def datasources(checkout: Path) -> Iterator[Place]:
    folder = checkout / "grafana" / "provisioning" / "datasources"
    for file in sorted(folder.glob("*.yaml")):
        for source in read_yaml(file)["datasources"]:
            where = f"{file.name}: {source['name']}"
            data = source.get("jsonData", {})
            tags = ", ".join(f'{tag["value"]}="x"' for tag in _tags(data))
            for query in data.get("tracesToMetrics", {}).get("queries", []):
                expression = query["query"].replace("$$__tags", tags)
                yield Place(f"{where}, {query['name']!r}", "promql", expression)
            if "tracesToLogsV2" in data:
                expression = data["tracesToLogsV2"]["query"].replace("$${__tags}", tags)
                expression = expression.replace("$${__trace.traceId}", "abc")
                yield Place(f"{where}, trace to logs", "logsql", expression)


def _tags(data: dict[str, Any]) -> list[dict[str, str]]:
    return [tag for key in ("tracesToMetrics",) for tag in data.get(key, {}).get("tags", [])]


# --- Prometheus ----------------------------------------------------------------------------


def load_rules(checkout: Path = CHECKOUT) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every rule with the name of its file."""
    for file in sorted((checkout / "prometheus" / "rules").glob("*.yml")):
        for group in read_yaml(file)["groups"]:
            for rule in group["rules"]:
                yield file.name, rule


def rules(checkout: Path) -> Iterator[Place]:
    for file, rule in load_rules(checkout):
        name = rule.get("alert") or rule.get("record")
        texts = " ".join(str(value) for value in rule.get("annotations", {}).values())
        yield Place(
            f"rules/{file}: {name}",
            "promql",
            str(rule["expr"]),
            named=tuple(re.findall(r"\$labels\.(\w+)", texts)),
        )


# --- the service and its documents -----------------------------------------------------------


def dashboard_api() -> Iterator[Place]:
    """Every named query, without and with a stage chosen."""
    filled = {
        "job": 'job="x"',
        "window": "3600s",
        "rate": "60s",
        "gauge": "60s",
        "span": "60s",
        "seconds": "60",
    }
    for stage, breaker in (("", ""), (',stage="asr"', ',name="asr"')):
        for query in (query for block in BLOCKS.values() for query in block.queries):
            asked = (query.of_stage if stage else None) or query
            for promql in filter(None, (asked.promql, asked.recorded)):
                # A placeholder that is not in `filled` stays and makes it unreadable.
                text = Template(promql).safe_substitute(filled, stage=stage, breaker=breaker)
                yield Place(f"dashboard/queries.py: {query.name}", "promql", text)


_FENCE = re.compile(r"```(promql|logsql)\n(.*?)```", re.DOTALL)
# Blocks of any other language would be read by nobody.
_FENCES = frozenset(
    ("promql", "logsql", "sh", "python", "json", "yaml", "http", "text", "toml", "mermaid", "")
)


def documents(checkout: Path) -> Iterator[Place]:
    """Fenced blocks marked promql or logsql; a blank line separates queries in one block."""
    for file in document_files(checkout):
        where = file.relative_to(checkout)
        opened = re.findall(r"^ *```(\w*)$", file.read_text(), re.MULTILINE)[::2]
        for unknown in set(opened) - _FENCES:
            yield Place(f"{where}: {unknown} block", "promql", f"a block of {unknown}")
        for language, block in _FENCE.findall(file.read_text()):
            for number, query in enumerate(filter(str.strip, block.split("\n\n")), 1):
                text = "\n".join(li for li in query.splitlines() if not li.startswith("#"))
                yield Place(f"{where}: {language} block, query {number}", language, text.strip())


def document_files(checkout: Path) -> list[Path]:
    """README, docs and runbooks."""
    folders = (checkout / "docs", checkout / "prometheus" / "runbooks")
    found = [file for folder in folders for file in sorted(folder.rglob("*.md"))]
    return [checkout / "README.md", *found]


# The middle of a record (level:metric:operations) is no metric by itself.
_METRIC = re.compile(
    r"(?<![\w:])[a-z][a-z0-9]*(?:_[a-z0-9]+)+_(?:total|seconds|bytes|ratio|bucket)\b"
)


def metrics_mentioned(checkout: Path = CHECKOUT) -> Iterator[tuple[str, str]]:
    """Place and name of everything in the documents that reads like a metric of Prometheus."""
    for file in document_files(checkout):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            for name in _METRIC.findall(line):
                yield f"{file.relative_to(checkout)}:{number}", name
