"""`make check` on the alerts: it finds what is wrong, by itself or by the engines' tools.

That promtool and amtool accept what is there is `make check` itself, which takes its time.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from prometheus import check
from stack.layout import CHECKOUT
from transcript_service.settings import Settings
from transcript_service.telemetry.vocabulary import CALLER_ERRORS, OUTCOMES, STAGES
from transcript_service.web import create_app

FOLDER = CHECKOUT / "prometheus"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of prometheus/ that a test may spoil."""
    return Path(shutil.copytree(FOLDER, tmp_path / "prometheus"))


def replace(old: str, new: str, *, count: int = 1) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, count))

    return change


def test_nothing_is_wrong_with_the_alerts() -> None:
    assert check.problems_of(FOLDER) == []


RULE = "rules/breakers.yml"
TEST = "tests/breakers.test.yml"
RUNBOOK = "runbooks/CircuitBreakerFlapping.md"


@pytest.mark.parametrize(
    ("file", "change", "found"),
    [
        (RULE, replace("alert: CircuitBreakerFlapping", "alert: Renamed"), "Renamed has no test"),
        (RULE, replace("severity: critical", "severity: bad"), "severity 'bad'"),
        (RULE, replace("runbooks/CircuitBreakerFlapping", "runbooks/Typo"), "runbook_url"),
        (RULE, replace("5000/dashboard?stage=", "5000/dashbord?stage="), "leads nowhere"),
        (RULE, replace("dashboard?stage={{ $labels.name }}", "dashboard?stage=asrr"), "nowhere"),
        (RULE, replace("summary: A circuit", "title: A circuit"), "annotations must be"),
        (RULE, replace("breaker stays open.", "{{ $labels.name }} stays open."), "constant"),
        (RULE, replace("scalar(threshold:circuit_", "scalar(threshold:breaker_"), "not defined"),
        (RULE, replace("scalar(threshold:circuit_", "scalar(threshold:breaker_"), "nothing"),
        (TEST, replace("eval_time: 5m, alertname: CircuitBreakerFl", "eval_time: 7m, alertname: "
                       "CircuitBreakerFl"), "CircuitBreakerFlapping has no test"),
        (TEST, replace("runbook_url: http://127.0.0.1:5000/runbooks/CircuitBreakerFl", "x: y"),
         "CircuitBreakerFlapping has no test"),
        (TEST, replace("alertname: CircuitBreakerFlapping", "alertname: Gone", count=9),
         "Gone is tested, but no such alert"),
        (RUNBOOK, Path.unlink, "CircuitBreakerFlapping.md is missing"),
        (RUNBOOK, replace("# CircuitBreakerFlapping", "# Flapping"), "begin with its name"),
        (RUNBOOK, replace("## What to do", "## Do"), "must have the sections"),
        (RUNBOOK, replace("3. Through", "Through"), "three first checks"),
        (RUNBOOK, replace("Quarantine the", "[See](Nowhere). The"), "links to Nowhere"),
        ("runbooks/Watchdog.md", lambda file: file.rename(file.with_name("Dog.md")),
         "Dog.md belongs to no alert"),
        ("alertmanager.yml", replace("repeat_interval: 14m", "repeat_interval: 15m"), "a little"),
        ("alertmanager.yml", replace('["..."]', "[alertname, job]"), "share a group"),
        ("alertmanager.yml", replace('severity="critical"', 'severity="page"'), "critical"),
        ("alertmanager.yml", replace("|CircuitBreakerFlapping", "|BreakerFlapping"), "no alert"),
        ("alertmanager.yml", replace('"ProxyPoolEmpty"', '"ProxiesGone"'), "no alert"),
    ],
)  # fmt: skip
def test_make_check_finds(
    copy: Path, file: str, change: Callable[[Path], None], found: str
) -> None:
    change(copy / file)
    problems = check.problems_of(copy)
    assert any(found in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("file", "change"),
    [
        # Still parses, but an evaluation would fail or a number is wrong: only the tests see it.
        ("rules/breakers.yml", replace("for: 5m", "for: 6m")),
        ("rules/thresholds.yml", replace("10\n\n      # --- Up", "12\n\n      # --- Up")),
        ("rules/breakers.yml", replace("max by (job, name) (\n", "max by (job, name) ((\n")),
        ("alertmanager.yml", replace("receiver: page", "receiver: pager")),
    ],
)  # fmt: skip
def test_make_check_lets_the_engines_find(
    copy: Path, file: str, change: Callable[[Path], None]
) -> None:
    _only_breakers_tests(copy)
    change(copy / file)
    assert check.told_by_engines(copy) != []


def test_the_engines_find_nothing_in_what_is_there(copy: Path) -> None:
    _only_breakers_tests(copy)
    assert check.told_by_engines(copy) == []


def _only_breakers_tests(folder: Path) -> None:
    """The others would pass, and take their time."""
    for test in (folder / "tests").iterdir():
        if test.name != "breakers.test.yml":
            test.unlink()


# --- against the code ---------------------------------------------------------------------------


def test_the_cooldown_that_the_api_shows_is_the_one_alertmanager_keeps() -> None:
    route = yaml.safe_load((FOLDER / "alertmanager.yml").read_text())["route"]
    assert Settings().alert_cooldown_s == check.duration_s(route["group_interval"]) == 15 * 60


def test_the_objective_leaves_out_what_the_vocabulary_calls_answers_and_callers_errors() -> None:
    text = (FOLDER / "rules/transcripts.yml").read_text()
    excluded = set(re.findall(r'error_type!~"([\w|]+)"', text))
    assert {frozenset(words.split("|")) for words in excluded} == {CALLER_ERRORS}
    answerable = set(OUTCOMES) - {"no_captions"}
    assert 'outcome!="no_captions"' in text
    assert 'outcome!~"success|no_captions"' in text
    assert answerable == {"success", "blocked", "timeout", "error", "skipped"}


def test_the_stages_of_dashboard_links_are_the_services_stages() -> None:
    assert set(STAGES) == check.STAGES


def test_every_link_of_every_alert_leads_to_a_page(tmp_path: Path) -> None:
    client = create_app(
        Settings(state_dir=tmp_path, runbooks_dir=FOLDER / "runbooks")
    ).test_client()
    for alert in check.alerts(FOLDER):
        for name in ("runbook_url", "dashboard_url"):
            url = re.sub(r"\{\{ \$labels\.\w+ \}\}", "asr", alert.annotations[name])
            answer = client.get(url.removeprefix(check.SERVICE))
            assert answer.status_code == 200, url


RUNBOOKS = sorted((FOLDER / "runbooks").glob("*.md"))


def test_links_among_runbooks_work_as_files_and_as_pages(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, runbooks_dir=FOLDER / "runbooks")
    client = create_app(settings).test_client()
    linked = 0
    for file in RUNBOOKS:
        page = client.get(f"/runbooks/{file.stem}").text
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", file.read_text()):
            assert (file.parent / target).is_file(), f"{file.name}: {target}"
            assert f'href="{target.removesuffix(".md")}"' in page, f"{file.name}: {target}"
            linked += 1
    assert linked > 10


def test_commands_of_runbooks_name_programs_where_they_are() -> None:
    """In a checkout as `make setup` and `make up` leave it; the rest is the machine's own."""
    targets = set(re.findall(r"^([\w-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    ours = re.compile(r"(\S*/)?(python|amtool|promtool|transcript-service)")
    places = {".venv/bin/": {"python", "transcript-service"}, ".stack/bin/": {"amtool", "promtool"}}
    found = 0
    for file in RUNBOOKS:
        for command in re.findall(r"`([^`\n]+ [^`\n]+)`", file.read_text()):
            program, argument = command.split()[:2]
            if program == "make":
                assert argument in targets, f"{file.name}: {command}"
            elif match := ours.fullmatch(program):
                found += 1
                assert match[2] in places.get(match[1] or "", ()), f"{file.name}: {command}"
    assert found > 10
