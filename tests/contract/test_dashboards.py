"""Every query of the project names what exists, and every link of a dashboard leads somewhere.

The second half breaks a copy in each way that has emptied dashboards elsewhere and expects the
message to name the place.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from grafana.boards import BOARDS
from grafana.generate import main as generate
from tests.contract.checks import all_problems, known_series, problems_at
from tests.contract.places import Place, all_places, load_dashboards, load_rules, panels_of
from tests.contract.series import CHECKOUT, prometheus_name, read_yaml
from transcript_service.dashboard.blocks import BLOCKS
from transcript_service.dashboard.queries import Query
from transcript_service.telemetry.instruments import REGISTRY, Instrument

DASHBOARDS = load_dashboards()
PLACES = all_places()
SOURCES = read_yaml(CHECKOUT / "grafana/provisioning/datasources/stack.yaml")["datasources"]


def _source(uid: str) -> dict[str, Any]:
    found: dict[str, Any] = next(source for source in SOURCES if source["uid"] == uid)
    return found


def _everything(node: object, key: str) -> Iterator[Any]:
    """The values of `key` anywhere in a piece of JSON."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from _everything(value, key)
    elif isinstance(node, list):
        for item in node:
            yield from _everything(item, key)


# --- as it is ------------------------------------------------------------------------------


def test_every_query_of_the_project_names_what_exists() -> None:
    assert all_problems() == []


def test_queries_were_found_in_every_kind_of_place() -> None:
    found = " ".join(place.where for place in PLACES)
    for kind in ("overview.json", "stack.yaml", "rules/", "dashboard/queries.py"):
        assert kind in found


def test_the_generated_dashboards_are_current() -> None:
    assert generate(check=True) == 0


def test_there_are_at_least_sixty_panels_and_most_of_them_must_have_data() -> None:
    panels = [panel for board in BOARDS for panel in board.panels]
    assert len(panels) >= 60
    assert sum(panel.must_have for panel in panels) >= len(panels) / 2


@pytest.mark.parametrize("file", DASHBOARDS)
def test_a_dashboard_is_classic_json_that_the_browser_cannot_change(file: str) -> None:
    dashboard = DASHBOARDS[file]
    assert dashboard["editable"] is False
    assert dashboard["schemaVersion"] >= 40
    assert "spec" not in dashboard  # v2, which file provisioning rejects


@pytest.mark.parametrize("file", DASHBOARDS)
def test_every_panel_says_what_it_shows_and_in_which_unit(file: str) -> None:
    for panel in panels_of(DASHBOARDS[file]):
        assert panel["description"].endswith((".", "?")), panel["title"]
        if panel["type"] == "logs" or panel["datasource"]["type"] == "jaeger":
            continue
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults.get("unit"), panel["title"]
        assert defaults["thresholds"]["steps"], panel["title"]


@pytest.mark.parametrize("file", DASHBOARDS)
def test_every_dashboard_has_the_common_variables_and_annotations(file: str) -> None:
    variables = {variable["name"] for variable in DASHBOARDS[file]["templating"]["list"]}
    assert {"datasource", "service", "environment", "instance"} <= variables
    notes = {note["name"] for note in DASHBOARDS[file]["annotations"]["list"]}
    assert {"Deploys", "Breaker openings", "Alerts"} <= notes


@pytest.mark.parametrize("file", DASHBOARDS)
def test_a_variable_that_a_query_uses_is_one_of_its_dashboard(file: str) -> None:
    dashboard = DASHBOARDS[file]
    declared = {variable["name"] for variable in dashboard["templating"]["list"]}
    for expression in _everything(dashboard["panels"], "expr"):
        used = set(re.findall(r"\$\{?(\w+)", expression))
        assert {name for name in used if not name.startswith("__")} <= declared, expression


def test_panels_have_ids_and_dashboards_have_uids_of_their_own() -> None:
    uids = [dashboard["uid"] for dashboard in DASHBOARDS.values()]
    assert len(set(uids)) == len(uids)
    for file, dashboard in DASHBOARDS.items():
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(set(ids)) == len(ids), file


def test_every_data_source_that_a_dashboard_names_is_provisioned() -> None:
    provisioned = {(source["type"], source["uid"]) for source in SOURCES}
    for file, dashboard in DASHBOARDS.items():
        variables = {v["name"]: v for v in dashboard["templating"]["list"]}
        for source in _everything(dashboard, "datasource"):
            uid = source["uid"]
            if uid.startswith("${"):
                variable = variables[uid[2:-1]]
                assert variable["query"] == source["type"]
                uid = variable["current"]["value"]
            if uid != "-- Grafana --":
                assert (source["type"], uid) in provisioned, f"{file}: {source}"


def test_every_link_between_dashboards_leads_to_one_and_sets_its_variables() -> None:
    by_uid = {dashboard["uid"]: dashboard for dashboard in DASHBOARDS.values()}
    links = [
        (file, url)
        for file, dashboard in DASHBOARDS.items()
        for url in _everything(dashboard["panels"], "url")
    ]
    assert links
    for file, url in links:
        if not url.startswith("/d/"):
            continue
        uid, _, query = url.removeprefix("/d/").partition("?")
        assert uid in by_uid, f"{file}: {url}"
        declared = {v["name"] for v in by_uid[uid]["templating"]["list"]}
        assert set(re.findall(r"var-(\w+)=", query)) <= declared, f"{file}: {url}"


def test_every_link_to_a_search_asks_a_provisioned_source() -> None:
    provisioned = {source["uid"] for source in SOURCES}
    links = {
        url
        for dashboard in DASHBOARDS.values()
        for url in _everything(dashboard["panels"], "url")
        if url.startswith("/explore")
    }
    assert links
    for url in links:
        for pane in json.loads(unquote(url.partition("panes=")[2])).values():
            assert pane["datasource"] in provisioned
            assert pane["queries"]


def test_a_link_uses_only_labels_that_its_panel_has() -> None:
    known = known_series()
    for place in PLACES:
        if ".json: panel" not in place.where:
            continue
        file, title = re.match(r"(.+\.json): panel '(.+)',", place.where).groups()  # type: ignore[union-attr]
        panel = next(p for p in panels_of(DASHBOARDS[file]) if p["title"] == title)
        urls = " ".join(_everything(panel.get("fieldConfig", {}), "url"))
        named = tuple(re.findall(r"\$\{__(?:field\.labels|data\.fields)\.(\w+)\}", urls))
        labelled = Place(place.where, place.language, place.expression, named=named)
        assert problems_at(labelled, known) == []


def test_an_active_alert_leads_to_its_runbook() -> None:
    overview = DASHBOARDS["service-overview.json"]
    (address,) = [v for v in overview["templating"]["list"] if v["name"] == "service_url"]
    urls = list(_everything(overview["panels"], "url"))
    pattern = next(url for url in urls if "/runbooks/" in url)
    assert pattern.startswith("${service_url}/")
    pattern = pattern.replace("${service_url}", address["query"])
    for _, rule in load_rules():
        if "alert" in rule:
            expected = pattern.replace("${__data.fields.alertname}", rule["alert"])
            assert rule["annotations"]["runbook_url"] == expected


@pytest.mark.parametrize("file", DASHBOARDS)
def test_no_service_and_no_address_is_written_into_a_panel(file: str) -> None:
    panels = json.dumps(DASHBOARDS[file]["panels"])
    assert "tldw-transcript-service" not in panels
    assert "127.0.0.1" not in panels


@pytest.mark.parametrize("file", DASHBOARDS)
def test_every_question_about_the_service_names_the_chosen_one(file: str) -> None:
    own = tuple(prometheus_name(instrument) for instrument in REGISTRY.values())
    for expression in _everything(DASHBOARDS[file]["panels"], "expr"):
        for selector in re.findall(r"(\w+)(\{[^}]*\}|\b)", expression):
            if selector[0].removesuffix("_bucket") in own:
                assert 'service_name="$service"' in selector[1], expression


@pytest.mark.parametrize("file", DASHBOARDS)
def test_the_alert_that_always_fires_is_no_alarm(file: str) -> None:
    dashboard = DASHBOARDS[file]
    asked = [
        *_everything(dashboard["panels"], "expr"),
        *_everything(dashboard["annotations"], "expr"),
    ]
    for expression in asked:
        for selector in re.findall(r"\bALERTS\b(\{[^}]*\})?", expression):
            assert 'severity!="none"' in selector, expression


@pytest.mark.parametrize("file", DASHBOARDS)
def test_no_value_and_no_share_have_words(file: str) -> None:
    for panel in panels_of(DASHBOARDS[file]):
        if panel["type"] not in ("stat", "table", "state-timeline", "bargauge"):
            continue
        if panel["datasource"]["type"] == "jaeger":
            continue
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["noValue"], panel["title"]
        matches = [
            m["options"].get("match") for m in defaults["mappings"] if m["type"] == "special"
        ]
        assert matches == ["nan"], panel["title"]


@pytest.mark.parametrize("file", DASHBOARDS)
def test_links_and_annotation_switches_are_on_the_board_and_not_in_a_menu(file: str) -> None:
    dashboard = DASHBOARDS[file]
    for shown in (*dashboard["links"], *dashboard["annotations"]["list"]):
        assert "placement" not in shown


@pytest.mark.parametrize(
    ("instance", "shown"),
    [
        ("0d9f3c52-7f5e-4c1b-9d1e-0a1b2c3d4e5f", "0d9f3c52"),
        ("pod-7-0d9f3c52-7f5e-4c1b-9d1e-0a1b2c3d4e5f", "pod-7-0d9f3c52"),
        ("worker 3", "worker 3"),
    ],
)
def test_a_worker_is_told_by_the_start_of_its_id(instance: str, shown: str) -> None:
    for dashboard in DASHBOARDS.values():
        (variable,) = [v for v in dashboard["templating"]["list"] if v["name"] == "instance"]
        found = re.search(variable["regex"].strip("/").replace("?<", "?P<"), instance)
        assert found is not None
        assert (found["value"], found["text"]) == (instance, shown)
        for panel in panels_of(dashboard):
            if "{{instance}}" not in json.dumps(panel.get("targets", [])):
                continue
            (rename,) = [t for t in panel["transformations"] if t["id"] == "renameByRegex"]
            pattern = rename["options"]["renamePattern"].replace("$", "\\")
            assert re.sub(rename["options"]["regex"], pattern, instance) == shown


# --- links between the data sources ----------------------------------------------------------


def test_no_window_is_too_short_for_a_rate() -> None:
    """Four scrapes fit into each on a board, as into Grafana's own `$__rate_interval`.

    A rule may look at less, where it counts samples.
    """
    scrape_s = float(
        read_yaml(CHECKOUT / "prometheus/prometheus.yml")["global"]["scrape_interval"][:-1]
    )
    unit_s = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    windows = [
        (int(number) * unit_s[unit], place.where)
        for place in all_places()
        if place.language == "promql" and not place.where.startswith("rules/")
        for number, unit in re.findall(r"\[(\d+)([smhd])[]:]", place.expression)
    ]
    assert len(windows) > 50
    assert [(s, where) for s, where in windows if s < 4 * scrape_s] == []


def test_an_exemplar_leads_to_its_trace() -> None:
    link = _source("prometheus")["jsonData"]["exemplarTraceIdDestinations"][0]
    assert (link["name"], link["datasourceUid"]) == ("trace_id", "jaeger")


def test_a_trace_leads_to_its_logs_and_its_metrics() -> None:
    data = _source("jaeger")["jsonData"]
    assert data["tracesToLogsV2"]["datasourceUid"] == "victorialogs"
    assert "trace_id" in data["tracesToLogsV2"]["query"]
    assert data["tracesToMetrics"]["datasourceUid"] == "prometheus"
    assert data["tracesToMetrics"]["queries"]


def test_a_log_line_leads_to_its_trace() -> None:
    field = _source("victorialogs")["jsonData"]["derivedFields"][0]
    assert (field["matcherType"], field["matcherRegex"]) == ("label", "trace_id")
    assert field["datasourceUid"] == "jaeger"


def test_the_browser_can_change_neither_sources_nor_dashboards() -> None:
    assert not any(source["editable"] for source in SOURCES)
    file = CHECKOUT / "grafana/provisioning/dashboards/stack.yaml"
    (provider,) = read_yaml(file)["providers"]
    assert provider["allowUiUpdates"] is False


def test_dollars_that_grafana_shall_keep_are_doubled() -> None:
    text = (CHECKOUT / "grafana/provisioning/datasources/stack.yaml").read_text()
    without_comments = re.sub(r"#.*", "", text).replace("$__file{", "")  # Grafana's own
    assert not re.search(r"(?<!\$)\$(?!\$)", without_comments.replace("$$", ""))


# --- a copy, broken --------------------------------------------------------------------------


def _registry_with(change: Callable[[Instrument], Instrument], name: str) -> list[Instrument]:
    return [
        change(copy.copy(instrument)) if instrument.name == name else instrument
        for instrument in REGISTRY.values()
    ]


def _renamed(instrument: Instrument) -> Instrument:
    instrument.name += ".renamed"
    return instrument


def _without(attribute: str) -> Callable[[Instrument], Instrument]:
    def change(instrument: Instrument) -> Instrument:
        kept = instrument.attributes.items()
        instrument.attributes = {key: value for key, value in kept if value.key != attribute}
        return instrument

    return change


def _places_of(name: str) -> set[str]:
    """Where the metric of an instrument is asked for."""
    word = re.compile(rf"\b{_metric(name)}\b")
    return {place.where for place in PLACES if word.search(place.expression)}


def _metric(name: str) -> str:
    return prometheus_name(REGISTRY[name])


@pytest.mark.parametrize("name", [name for name in REGISTRY if _places_of(name)])
def test_renaming_an_instrument_is_noticed_everywhere_it_is_used(name: str) -> None:
    found = all_problems(_registry_with(_renamed, name))
    for where in _places_of(name):
        assert any(line.startswith(f"{where}: ") for line in found), where
    assert any(f"no such metric: {_metric(name)}" in line for line in found)


def test_most_instruments_are_asked_for_somewhere() -> None:
    unused = [name for name in REGISTRY if not _places_of(name)]
    assert len(unused) <= len(REGISTRY) / 10, unused


@pytest.mark.parametrize(
    ("instrument", "attribute", "place"),
    [
        ("transcript.stage.duration", "stage", "stages-and-blocking.json: panel 'P95 by stage'"),
        ("transcript.requests", "outcome", "rules/transcripts.yml: "),
        ("circuit_breaker.calls", "kind", "dashboard/queries.py: breaker_calls"),
        ("proxy.rotations", "reason", "proxies.json: panel 'Rotations'"),
        ("browser.contexts.closed", "reason", "browser-contexts.json: panel 'Closed, by reason'"),
    ],
)
def test_dropping_an_attribute_is_noticed(instrument: str, attribute: str, place: str) -> None:
    found = all_problems(_registry_with(_without(attribute), instrument))
    assert any(place in line and attribute in line for line in found), found


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of everything that holds queries."""
    for folder in (
        "grafana/dashboards",
        "grafana/provisioning",
        "prometheus",
        "otel-collector",
        "docs",
    ):
        shutil.copytree(CHECKOUT / folder, tmp_path / folder)
    shutil.copy(CHECKOUT / "README.md", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "before", "after", "message"),
    [
        (
            "grafana/dashboards/service-overview.json",
            "transcript_requests_total",
            "transcript_request_total",
            "service-overview.json: panel 'Requests', query A: no such metric: "
            "transcript_request_total (did you mean transcript_requests_total?)",
        ),
        (
            "grafana/dashboards/stages-and-blocking.json",
            'outcome=\\"blocked\\"',
            'outcome=\\"block\\"',
            "stages-and-blocking.json: panel 'Blocked share by stage', query A: "
            "transcript_stage_duration_seconds: outcome is never 'block'",
        ),
        (
            "grafana/dashboards/circuit-breakers.json",
            "event:=circuit_breaker.state_changed",
            "event:=circuit_breaker.changed",
            "circuit-breakers.json: panel 'State changes', query A: "
            "event is never 'circuit_breaker.changed'",
        ),
        (
            "prometheus/rules/breakers.yml",
            "circuit_breaker_state{",
            "circuit_breaker_states{",
            "rules/breakers.yml: job_instance_name:circuit_breaker_open:max2m: "
            "no such metric: circuit_breaker_states",
        ),
        (
            "prometheus/rules/transcripts.yml",
            "by (job, stage)",
            "by (job, stag)",
            "rules/transcripts.yml: job_stage:transcript_stage_attempts:rate10m: "
            "sum by (stag): no such label there",
        ),
        (
            "grafana/provisioning/datasources/stack.yaml",
            "sum by (span_name)",
            "sum by (spanname)",
            "stack.yaml: Jaeger, 'Rate by span': sum by (spanname): no such label there",
        ),
    ],
)
def test_a_typing_error_in_a_file_is_noticed_with_its_place(
    checkout: Path, file: str, before: str, after: str, message: str
) -> None:
    path = checkout / file
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    found = all_problems(checkout=checkout)
    assert any(line.startswith(message) for line in found), found


@pytest.mark.parametrize("file", ["prometheus/runbooks/Example.md", "README.md"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Look at `transcript_requets_total`.\n", "no such metric: transcript_requets_total"),
        ("```promql\nsum(transcript_requets_total)\n```\n", "no such metric: transcript_requets"),
        ('```logsql\n{service="x"} stage:=asr\n```\n', "service is no stream field"),
    ],
)
def test_a_typing_error_in_a_document_is_noticed(
    checkout: Path, file: str, text: str, message: str
) -> None:
    path = checkout / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    assert any(file in line and message in line for line in all_problems(checkout=checkout))


def test_a_typing_error_in_a_query_of_the_api_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Query("breaker_calls", "sum by (nam) (circuit_breaker_calls_total{$job$breaker})")
    block = replace(BLOCKS["circuit_breaker"], queries=(broken,))
    monkeypatch.setitem(BLOCKS, "circuit_breaker", block)
    assert "dashboard/queries.py: breaker_calls: sum by (nam): no such label there" in " ".join(
        all_problems()
    )


@pytest.mark.parametrize(
    ("expression", "unit", "message"),
    [
        ("sum(rate(transcript_requests_total[5m]))", "s", "shown as 's'"),
        ("histogram_quantile(0.9, rate(transcript_request_duration_seconds[5m]))", "ms", "'ms'"),
        ("sum(browser_memory_usage_bytes)", "short", "values are 'By'"),
        ("rate(browser_contexts[5m])", "ops", "rate() of a gauge"),
        ("histogram_quantile(0.9, transcript_requests_total)", "s", "no histogram"),
        ("sum by (stage) (transcript_requests_total)", "short", "sum by (stage)"),
        ("rate(transcript_requests_total[5m)", "ops", "does not parse"),
    ],
)
def test_a_query_that_cannot_mean_what_its_panel_says_is_noticed(
    expression: str, unit: str, message: str
) -> None:
    found = problems_at(Place("panel", "promql", expression, unit), known_series())
    assert any(message in line for line in found), found


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ('{stage="asr"} event:=transcript.stage.finished', "stage is no stream field"),
        ("stag:=asr", "stag is no field of any event"),
        ("stage:=speech", "stage is never 'speech'"),
        ("stage:in(asr, speech)", "stage is never 'speech'"),
        ('stage:~"asr|speech"', "stage is never 'speech'"),
        ("event:=transcript.request.finished attempt:>1", "attempt is no field of transcript."),
        ("stage:=asr error", "error searches message texts"),
        ('{"service.name"="x"} | event:=a', "no such pipe: event"),
        ("stage:=asr | stats by (stag) count() n", "stats by (stag): no field"),
        ("stage:=asr | stats by (stage) counts() n", "no such function: counts"),
        ("stage:=asr | stats quantile(0.9, duration) p90", "stats of duration: no field"),
        ("stage:=asr | sort by (n desc)", "sort by (n): no field"),
        ("stage:in(asr", ") is missing"),
        ("stage:=asr |", "does not parse"),
    ],
)
def test_logsql_that_cannot_find_what_it_means_is_noticed(expression: str, message: str) -> None:
    found = problems_at(Place("panel", "logsql", expression), {})
    assert any(message in line for line in found), found
    right = "stage:=asr | stats by (stage) quantile(0.9, duration_s) p90 | sort by (p90 desc)"
    assert problems_at(Place("panel", "logsql", right), {}) == []
