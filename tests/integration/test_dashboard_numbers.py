"""The numbers of the dashboard API against a real Prometheus, asked directly."""

from __future__ import annotations

import random
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from opentelemetry.sdk.trace import TracerProvider
from werkzeug.serving import make_server

from tests.dashboard_fakes import json_of, service
from tests.live import wait_for
from tests.prometheus_process import Server, binary, pushing, running_prometheus
from transcript_service.dashboard.blocks.performance import success_ratio
from transcript_service.dashboard.export import OPENMETRICS, TEXT
from transcript_service.telemetry import instruments
from transcript_service.telemetry.instruments import REGISTRY, Histogram
from transcript_service.telemetry.vocabulary import STAGES

HOURS = 0.25
JOB = 'job="tldw-transcript-service"'


@dataclass
class Record:
    """What really happened, exactly."""

    by_stage: dict[str, list[float]] = field(default_factory=lambda: {s: [] for s in STAGES})
    requests: list[float] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)
    traces: set[str] = field(default_factory=set)


def _one_request(dice: random.Random, record: Record | None) -> None:
    total = 0.0
    outcome, stage_won = "error", None
    for stage, middle in zip(STAGES, (-1.2, -0.4, 1.7, 3.4), strict=True):
        took = dice.lognormvariate(middle, 0.7)
        total += took
        won = dice.random() < 0.7
        instruments.TRANSCRIPT_STAGE_DURATION.record(
            took,
            stage=stage,
            outcome="success" if won else "blocked",
            error_type=None if won else "ip_blocked",
            proxy_used="false",
        )
        if record is not None:
            record.by_stage[stage].append(took)
        if won:
            outcome, stage_won = "success", stage
            break
    instruments.TRANSCRIPT_REQUESTS.add(
        1,
        outcome=outcome,
        source=stage_won,
        error_type=None if stage_won else "ip_blocked",
    )
    instruments.TRANSCRIPT_REQUEST_DURATION.record(total, outcome=outcome, source=stage_won)
    if record is not None:
        record.requests.append(total)
        record.outcomes[outcome] = record.outcomes.get(outcome, 0) + 1


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_prometheus(tmp_path_factory.mktemp("prometheus")) as server:
        yield server


@pytest.fixture(scope="module")
def record(prometheus: Server) -> Iterator[Record]:
    """4,000 requests in the store, after a few that only make every series exist."""
    dice, record = random.Random(20261124), Record()
    tracer = TracerProvider().get_tracer("test")
    with pushing(prometheus) as provider:
        for _ in range(400):
            _one_request(dice, None)
        _touch_the_rest()
        provider.force_flush()
        for _ in range(4000):
            with tracer.start_as_current_span("request") as span:
                _one_request(dice, record)
                record.traces.add(f"{span.get_span_context().trace_id:032x}")
        _touch_the_rest()
        provider.force_flush()
        yield record


def _touch_the_rest() -> None:
    """A value for every instrument that made none yet."""
    for instrument in REGISTRY.values():
        values = {
            name: attribute.values[0] if attribute.values else "some"
            for name, attribute in instrument.attributes.items()
        }
        if isinstance(instrument, instruments.Gauge):
            instrument.set(1, **values)
        elif isinstance(instrument, Histogram):
            if not instrument.name.startswith("transcript."):
                instrument.record(0.5, **values)
        elif isinstance(instrument, instruments.Counter | instruments.UpDownCounter):
            instrument.add(0, **values)


@pytest.fixture(scope="module")
def client(
    prometheus: Server, record: Record, tmp_path_factory: pytest.TempPathFactory
) -> FlaskClient:
    folder = tmp_path_factory.mktemp("state")
    return service(folder, prometheus.url, dashboard_cache_ttl_s=0).test_client()


@pytest.fixture(scope="module")
def block(client: FlaskClient) -> dict[str, Any]:
    """The performance block, once the 15-second raster has passed the last export."""

    def seen() -> dict[str, Any] | None:
        found = json_of(client.get(f"/api/dashboard/metrics/performance?hours={HOURS}"))
        return found if found["data"] and (found["data"]["requests"]["total"] or 0) > 3900 else None

    return wait_for("4,000 requests in the block", seen)


def at_of(block: dict[str, Any]) -> float:
    return datetime.fromisoformat(block["as_of"]).timestamp()


def test_every_number_equals_promql_asked_directly(
    prometheus: Server, block: dict[str, Any]
) -> None:
    at, data = at_of(block), block["data"]
    window = f"{int(HOURS * 3600)}s"
    duration = f"increase(transcript_request_duration_seconds{{{JOB}}}[{window}])"
    expected = {
        "total": f"sum(increase(transcript_requests_total{{{JOB}}}[{window}]))",
        "p50_s": f"histogram_quantile(0.5, sum({duration}))",
        "p95_s": f"histogram_quantile(0.95, sum({duration}))",
    }
    for name, promql in expected.items():
        assert data["requests"][name] == pytest.approx(prometheus.number(promql, at=at), rel=0.01)
    assert [stage["stage"] for stage in data["stages"]] == list(STAGES)
    for stage in data["stages"]:
        series = f'transcript_stage_duration_seconds{{{JOB},stage="{stage["stage"]}"}}'
        one = f"increase({series}[{window}])"
        direct = {
            "attempts": f"histogram_count(sum({one}))",
            "p50_s": f"histogram_quantile(0.5, sum({one}))",
            "p95_s": f"histogram_quantile(0.95, sum({one}))",
        }
        for name, promql in direct.items():
            assert stage[name] == pytest.approx(prometheus.number(promql, at=at), rel=0.01)


def test_quantiles_are_those_of_what_really_happened(block: dict[str, Any], record: Record) -> None:
    def exact(values: list[float], q: float) -> float:
        return sorted(values)[int(q * len(values))]

    requests = block["data"]["requests"]
    assert requests["p50_s"] == pytest.approx(exact(record.requests, 0.5), rel=0.05)
    assert requests["p95_s"] == pytest.approx(exact(record.requests, 0.95), rel=0.05)
    for stage in block["data"]["stages"]:
        values = record.by_stage[stage["stage"]]
        assert stage["p50_s"] == pytest.approx(exact(values, 0.5), rel=0.05)
        assert stage["p95_s"] == pytest.approx(exact(values, 0.95), rel=0.05)


def test_shares_are_those_of_what_really_happened(block: dict[str, Any], record: Record) -> None:
    exact = success_ratio({(o, ""): n for o, n in record.outcomes.items()})
    assert block["data"]["requests"]["success_ratio"] == pytest.approx(exact, rel=0.01)


def test_slow_requests_lead_to_traces_that_exist(block: dict[str, Any], record: Record) -> None:
    slow = block["data"]["slow_requests"]
    assert slow
    assert {request["trace_id"] for request in slow} <= record.traces
    assert slow[0]["duration_s"] >= block["data"]["requests"]["p50_s"]


def test_the_stage_filter_leaves_only_that_stage(client: FlaskClient) -> None:
    data = json_of(client.get(f"/api/dashboard/metrics/performance?hours={HOURS}&stage=youtubei"))[
        "data"
    ]
    assert [stage["stage"] for stage in data["stages"]] == ["youtubei"]
    staged = [chart for chart in data["series"] if chart["name"].startswith("stage_")]
    assert {chart["labels"]["stage"] for chart in staged} == {"youtubei"}


@pytest.mark.parametrize("hours", ["0.25", "1", "24", "168"])
def test_every_block_answers_every_window(client: FlaskClient, hours: str) -> None:
    whole = json_of(client.get(f"/api/dashboard/metrics?hours={hours}"))
    assert {
        name: block["status"] for name, block in whole["blocks"].items() if name != "alerts"
    } == dict.fromkeys(
        ("health", "performance", "circuit_breaker", "browser_contexts", "proxy"), "ok"
    )
    for block in whole["blocks"].values():
        # Only Prometheus runs here; what others would add is named as missing, nothing else is.
        others = {"alertmanager_alerts": "not_found", "request_details": "not_found"}
        assert block.get("missing", {}).items() <= others.items()
        for chart in (block["data"] or {}).get("series", []):
            assert len(chart["values"]) <= 401


def test_prometheus_names_every_instrument_as_we_expect(prometheus: Server, record: Record) -> None:
    expected = {instrument.prometheus_name for instrument in REGISTRY.values()}
    assert expected - prometheus.names() == set()


def test_the_export_is_clean_by_promtools_judgement(client: FlaskClient, record: Record) -> None:
    text = client.get("/api/dashboard/metrics/export").get_data()
    checked = subprocess.run(
        [binary("promtool"), "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, TEXT),
        ("*/*", TEXT),
        (
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3",
            OPENMETRICS,
        ),
        ("application/openmetrics-text;q=0.3,text/plain;q=0.6", TEXT),
    ],
)
def test_the_export_is_in_the_format_that_is_accepted_and_says_so(
    client: FlaskClient, record: Record, accept: str | None, kind: str
) -> None:
    answer = client.get(
        "/api/dashboard/metrics/export", headers={"Accept": accept} if accept else {}
    )
    text = answer.get_data(as_text=True)
    assert "Accept" in answer.vary
    if kind == TEXT:
        assert answer.content_type == TEXT
        assert "# EOF" not in text
        assert "# TYPE transcript_requests_total counter" in text
    else:
        assert answer.content_type == OPENMETRICS
        assert text.endswith("\n# EOF\n")
        assert "# TYPE transcript_requests counter" in text


def test_a_second_prometheus_that_scrapes_the_export_has_the_same_p95(
    prometheus: Server, client: FlaskClient, block: dict[str, Any], tmp_path: Path
) -> None:
    server = make_server("127.0.0.1", 0, client.application, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    scrape = f"""
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: export
    honor_labels: true
    metrics_path: /api/dashboard/metrics/export
    static_configs: [{{targets: ["127.0.0.1:{server.server_port}"]}}]
"""
    name = "transcript_stage_duration_seconds"
    try:
        with running_prometheus(tmp_path / "second", scrape) as second:
            classic = f"histogram_quantile(0.95, sum by (stage, le) ({name}_bucket))"
            found = wait_for("the scraped export", lambda: second.query(classic))
            assert second.number('up{job="export"}') == 1
    finally:
        server.shutdown()
    native = {
        sample["metric"]["stage"]: float(sample["value"][1])
        for sample in prometheus.query(f"histogram_quantile(0.95, sum by (stage) ({name}))")
    }
    scraped = {sample["metric"]["stage"]: float(sample["value"][1]) for sample in found}
    assert scraped.keys() == native.keys() == set(STAGES)
    for stage in STAGES:
        assert scraped[stage] == pytest.approx(native[stage], rel=0.10)
