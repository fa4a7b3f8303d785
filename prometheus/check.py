"""Holds rules, tests, runbooks and Alertmanager's routes against each other.

    python -m prometheus.check [FOLDER]

Prints every problem and ends with 1 if there is one; `make check` runs it. promtool and amtool
come from the native stack's own builds.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from stack.layout import Layout

HERE = Path(__file__).parent

# The address under which the service serves runbooks and the dashboard by default.
SERVICE = "http://127.0.0.1:5000"
SEVERITIES = {"critical", "warning", "none"}
STAGES = {"youtube_api", "timedtext", "youtubei", "asr"}
ANNOTATIONS = {"summary", "description", "runbook_url", "dashboard_url"}
SECTIONS = ["What it means", "First checks", "Likely causes", "What to do", "When to silence"]
# It has no "before" and no "after".
ALWAYS_FIRING = "Watchdog"

_THRESHOLD = re.compile(r"threshold:\w+:\w+")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_LABEL = re.compile(r"\{\{ \$labels\.\w+ \}\}")
_UNIT_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def main() -> int:
    """The exit code: 0 when nothing is wrong."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    problems = [*problems_of(folder), *told_by_engines(folder)]
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"{len(list(alerts(folder)))} alerts: tested, documented, linked.")
    return 1 if problems else 0


def told_by_engines(folder: Path) -> list[str]:
    """What promtool and amtool find; their whole output per command that fails."""
    layout = Layout.from_env()
    promtool, amtool = layout.binary("promtool"), layout.binary("amtool")
    rules = sorted(map(str, (folder / "rules").glob("*.yml")))
    tests = sorted(map(str, (folder / "tests").glob("*.yml")))
    commands = [
        [str(promtool), "check", "rules", "--lint=all", "--lint-fatal", *rules],
        [str(promtool), "test", "rules", "--diff", *tests],
        [str(amtool), "check-config", str(folder / "alertmanager.yml")],
    ]
    problems = []
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            problems.append(f"{' '.join(command[:3])} failed:\n{done.stdout}{done.stderr}")
    return problems


def problems_of(folder: Path) -> list[str]:
    """Everything wrong that needs no engine to see."""
    return [
        *_rules(folder),
        *_thresholds(folder),
        *_tests(folder),
        *_runbooks(folder),
        *_routes(folder),
    ]


# --- rules ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AlertRule:
    """An alerting rule and the file it stands in."""

    file: str
    name: str
    severity: str
    annotations: dict[str, str]


def _read(text: str) -> Any:
    # libyaml's loader, ten times as fast: rules and their tests are large.
    return yaml.load(text, yaml.CSafeLoader)


def _all_rules(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted((folder / "rules").glob("*.yml")):
        for group in _read(file.read_text())["groups"]:
            for rule in group["rules"]:
                yield file.name, rule


def alerts(folder: Path) -> Iterator[AlertRule]:
    """Every alerting rule of the folder."""
    for file, rule in _all_rules(folder):
        if "alert" in rule:
            severity = rule.get("labels", {}).get("severity", "")
            yield AlertRule(file, rule["alert"], severity, rule.get("annotations", {}))


def _rules(folder: Path) -> Iterator[str]:
    for alert in alerts(folder):
        where = f"{alert.file}: {alert.name}"
        if alert.severity not in SEVERITIES:
            yield f"{where}: severity {alert.severity!r} is none of {sorted(SEVERITIES)}"
        if set(alert.annotations) != ANNOTATIONS:
            yield f"{where}: annotations must be {sorted(ANNOTATIONS)}"
            continue
        if "{{" in alert.annotations["summary"]:
            yield f"{where}: the summary must be constant; values belong into the description"
        if alert.annotations["runbook_url"] != f"{SERVICE}/runbooks/{alert.name}":
            yield f"{where}: runbook_url does not lead to {SERVICE}/runbooks/{alert.name}"
        if not _is_dashboard(alert.annotations["dashboard_url"]):
            yield f"{where}: dashboard_url leads nowhere: {alert.annotations['dashboard_url']}"


def _is_dashboard(url: str) -> bool:
    """Whether a link opens the service's page; a stage may come from a label."""
    parts = urlsplit(_LABEL.sub("asr", url))
    query = parse_qs(parts.query, keep_blank_values=True)
    return (
        url.startswith(f"{SERVICE}/dashboard")
        and parts.path == "/dashboard"
        and set(query) <= {"stage"}
        and set(query.get("stage", [])) <= STAGES
    )


def _thresholds(folder: Path) -> Iterator[str]:
    defined = [r["record"] for f, r in _all_rules(folder) if f == "thresholds.yml"]
    used = {
        name for _, rule in _all_rules(folder) for name in _THRESHOLD.findall(str(rule["expr"]))
    }
    for name in sorted(used - set(defined)):
        yield f"thresholds.yml: {name} is compared with, but not defined"
    for name in sorted(set(defined) - used):
        yield f"thresholds.yml: {name} is defined, but changes nothing"
    for file, rule in _all_rules(folder):
        if "alert" in rule and re.search(r"[<>]=? *scalar\((?!threshold:)", str(rule["expr"])):
            yield f"{file}: {rule['alert']} compares with a scalar that is no threshold"


# --- tests ------------------------------------------------------------------------------------


def _tests(folder: Path) -> Iterator[str]:
    cases: dict[str, list[list[dict[str, Any]]]] = {}
    for file in sorted((folder / "tests").glob("*.yml")):
        for test in _read(file.read_text())["tests"]:
            checks = test.get("alert_rule_test", [])
            for name in {check["alertname"] for check in checks}:
                mine = [check for check in checks if check["alertname"] == name]
                cases.setdefault(name, []).append(sorted(mine, key=_eval_time))
    for alert in alerts(folder):
        tests = cases.pop(alert.name, [])
        if not any(_is_whole_story(alert, checks) for checks in tests):
            yield (
                f"{alert.file}: {alert.name} has no test in which it is silent just before, fires "
                "with all its labels and annotations, and is then silent or outlives a gap"
            )
    for name in cases:
        yield f"tests: {name} is tested, but no such alert exists"


def _is_whole_story(alert: AlertRule, checks: list[dict[str, Any]]) -> bool:
    fires = [bool(check.get("exp_alerts")) for check in checks]
    told = all(
        {"severity"} <= set(expected.get("exp_labels", {}))
        and set(expected.get("exp_annotations", {})) == ANNOTATIONS
        for check in checks
        for expected in check.get("exp_alerts") or []
    )
    if alert.name == ALWAYS_FIRING:
        return told and len(fires) > 1 and all(fires)
    return told and len(fires) >= 3 and not fires[0] and any(fires[1:-1])


def _eval_time(check: dict[str, Any]) -> float:
    return duration_s(check["eval_time"])


def duration_s(text: str) -> float:
    """Seconds of a duration as Prometheus writes it."""
    return sum(
        float(number) * _UNIT_S[unit] for number, unit in re.findall(r"(\d+)(ms|[smhd])", text)
    )


# --- runbooks ---------------------------------------------------------------------------------


def _runbooks(folder: Path) -> Iterator[str]:
    names = {alert.name for alert in alerts(folder)}
    written = {file.stem: file.read_text() for file in (folder / "runbooks").glob("*.md")}
    for name in sorted(names - set(written)):
        yield f"runbooks: {name}.md is missing"
    for name in sorted(set(written) - names):
        yield f"runbooks: {name}.md belongs to no alert"
    for name, text in sorted(written.items()):
        if not text.startswith(f"# {name}\n"):
            yield f"runbooks/{name}.md does not begin with its name"
        if re.findall(r"^## (.+)$", text, re.MULTILINE) != SECTIONS:
            yield f"runbooks/{name}.md must have the sections {SECTIONS}"
            continue
        checks = text.split("## First checks")[1].split("\n## ")[0]
        if len(re.findall(r"^\d\. ", checks, re.MULTILINE)) < 3:
            yield f"runbooks/{name}.md needs three first checks"
        for link in _LINK.findall(text):
            if "://" not in link and link.removesuffix(".md") not in names:
                yield f"runbooks/{name}.md links to {link}, which is no runbook"


# --- Alertmanager -------------------------------------------------------------------------------


def _routes(folder: Path) -> Iterator[str]:
    names = {alert.name for alert in alerts(folder)}
    text = (folder / "alertmanager.yml").read_text()
    config = _read(text)
    route = config["route"]
    if route["group_by"] != ["..."]:
        yield "alertmanager.yml: alerts that share a group break each other's cooldown"
    if duration_s(route["repeat_interval"]) >= duration_s(route["group_interval"]):
        yield "alertmanager.yml: repeat_interval must be a little below group_interval"
    routed = {m for r in route["routes"] for m in r["matchers"]}
    for severity in sorted(SEVERITIES):
        if f'severity="{severity}"' not in routed:
            yield f"alertmanager.yml: no route for severity {severity}"
    for rule in config["inhibit_rules"]:
        for matcher in [*rule["source_matchers"], *rule["target_matchers"]]:
            label, operator, value = re.fullmatch(r'(\w+)(=~|!~|!=|=)"(.*)"', matcher).groups()  # type: ignore[union-attr]
            if label != "alertname":
                continue
            pattern = value if "~" in operator else re.escape(value)
            if not any(re.fullmatch(pattern, name) for name in names):
                yield f"alertmanager.yml: inhibits by {matcher}, which is no alert"
            for part in re.split(r"[|()]", value) if "(" not in value else []:
                if not any(re.fullmatch(part, name) for name in names):
                    yield f"alertmanager.yml: {part} in {matcher} is no alert"


if __name__ == "__main__":
    sys.exit(main())
