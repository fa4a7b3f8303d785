"""The dashboard API over a Prometheus that is down, slow, lying or flooded with questions."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests import dashboard_fakes as fakes
from tests.dashboard_fakes import FakeEngine, Handler, json_of, service, timed_get
from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.dashboard.blocks import BLOCKS

PERFORMANCE = "/api/dashboard/metrics/performance"
OVERVIEW = "/api/dashboard/metrics"
EXPORT = "/api/dashboard/metrics/export"


# Far below the half minute that a hanging engine takes, far above a busy machine's delays.
SOON_S = 15
# Limits that a test can wait for; the shipped ones have a test of their own.
IMPATIENT = {
    "dashboard_query_timeout_s": 1.5,
    "dashboard_deadline_s": 3.5,
    "dashboard_max_answer_bytes": 64 * 1024,
}
# Where no answer is meant to come in time.
HURRIED = IMPATIENT | {"dashboard_query_timeout_s": 0.5, "dashboard_deadline_s": 1.2}


@pytest.fixture
def client(engine: FakeEngine, tmp_path: Path) -> FlaskClient:
    return service(tmp_path, engine.url, **IMPATIENT).test_client()


Behaviour = Callable[[Handler, dict[str, str]], None]
BAD: dict[str, tuple[Behaviour, int, str]] = {
    "hangs": (fakes.hanging, 504, "upstream_timeout"),
    "drips": (fakes.dripping, 504, "upstream_timeout"),
    "200 MB": (fakes.enormous, 502, "upstream_invalid"),
    "cut short": (fakes.cut_short, 502, "upstream_invalid"),
    "HTML": (fakes.fixed(200, b"<html>login</html>", "text/html"), 502, "upstream_invalid"),
    "empty": (fakes.fixed(200, b""), 502, "upstream_invalid"),
    "null": (fakes.fixed(200, b"null"), 502, "upstream_invalid"),
    "list": (fakes.fixed(200, b"[1,2]"), 502, "upstream_invalid"),
    "deep": (fakes.fixed(200, b"[" * 100_000), 502, "upstream_invalid"),
    "error in 200": (
        fakes.fixed(200, b'{"status":"error","error":"secret-host"}'),
        502,
        "upstream_invalid",
    ),
    "no data": (fakes.fixed(200, b'{"status":"success"}'), 502, "upstream_invalid"),
    "other type": (
        fakes.fixed(200, fakes.success({"resultType": "scalar", "result": [1, "1"]})),
        502,
        "upstream_invalid",
    ),
    "text for a number": (
        fakes.fixed(
            200,
            fakes.success(
                {"resultType": "vector", "result": [{"metric": {}, "value": [1, "many"]}]}
            ),
        ),
        502,
        "upstream_invalid",
    ),
    "redirect": (fakes.fixed(302, b""), 502, "upstream_invalid"),
    "400": (
        fakes.fixed(400, b'{"status":"error","error":"histogram_quantile(transcript_requests"}'),
        500,
        "query_defect",
    ),
    "422": (fakes.fixed(422, b"execution"), 500, "query_defect"),
    "401": (fakes.fixed(401, b""), 502, "upstream_denied"),
    "403": (fakes.fixed(403, b""), 502, "upstream_denied"),
    "500": (fakes.fixed(500, b"Traceback"), 502, "upstream_unreachable"),
    "503": (fakes.fixed(503, b""), 503, "upstream_busy"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_engine_becomes_a_problem_that_gives_nothing_away(
    tmp_path: Path, engine: FakeEngine, name: str
) -> None:
    limits = HURRIED if name in ("hangs", "drips") else IMPATIENT
    client = service(tmp_path, engine.url, **limits).test_client()
    engine.behave, status, code = BAD[name]
    for path in (PERFORMANCE, EXPORT, OVERVIEW):
        answer, took_s = timed_get(client, path)
        assert (answer.status_code, answer.json["code"]) == (status, code), path
        assert answer.content_type == "application/problem+json"
        assert took_s < SOON_S, path
        body = answer.get_data(as_text=True)
        assert not [word for word in (*fakes.SECRET_WORDS, "secret-host") if word in body]
        assert answer.json["trace_id"]
    if status == 503:
        assert int(answer.headers["Retry-After"]) > 0


def test_an_engine_that_is_not_there_is_a_bad_gateway(tmp_path: Path, engine: FakeEngine) -> None:
    engine.close()
    answer, took_s = timed_get(service(tmp_path, engine.url).test_client(), OVERVIEW)
    assert (answer.status_code, answer.json["code"]) == (502, "upstream_unreachable")
    assert took_s < SOON_S


@pytest.mark.parametrize("behaviour", [fakes.hanging, fakes.dripping])
def test_with_the_default_limits_an_answer_comes_within_five_seconds(
    tmp_path: Path, engine: FakeEngine, behaviour: Behaviour
) -> None:
    engine.behave = behaviour
    client = service(
        tmp_path, engine.url, dashboard_query_timeout_s=2.0, dashboard_deadline_s=4.5
    ).test_client()
    answer, took_s = timed_get(client, OVERVIEW)
    assert answer.status_code == 504
    assert took_s < SOON_S


def test_of_an_enormous_answer_little_is_read(tmp_path: Path, engine: FakeEngine) -> None:
    engine.behave = fakes.enormous
    limit = IMPATIENT["dashboard_max_answer_bytes"]
    client = service(tmp_path, engine.url, **IMPATIENT).test_client()
    assert client.get(PERFORMANCE).status_code == 502
    # what socket buffers took comes on top, but it is nowhere near 200 MB a query
    assert engine.sent < engine.total * (limit + 12 * 2**20)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
def test_what_is_no_finite_number_is_null(
    client: FlaskClient, engine: FakeEngine, value: str
) -> None:
    engine.behave = fakes.valued(value)
    for block in BLOCKS:
        answer: Any = client.get(f"/api/dashboard/metrics/{block.replace('_', '-')}")
        assert answer.status_code == 200, block
        assert "NaN" not in answer.text
        assert "Infinity" not in answer.text
    data = json_of(client.get(PERFORMANCE))["data"]
    assert data is None or data["requests"]["p50_s"] is None


@pytest.mark.parametrize(
    "texts",
    [
        {},
        {0: "1.5"},
        {60: "1.5"},
        {n: str(n / 2) for n in range(61)},
        {n: str(n) for n in range(20, 40)},
        {0: "1", 1: "NaN", 3: "-2e3", 4: "+Inf"},
        {-1: "1", 0: "2", 60: "3", 61: "4"},  # two of them were not asked for
    ],
)
def test_a_chart_has_each_value_at_its_step_and_null_where_there_is_none(
    client: FlaskClient, engine: FakeEngine, texts: dict[int, str]
) -> None:
    def behave(handler: Handler, parameters: dict[str, str]) -> None:
        if not parameters["path"].endswith("query_range"):
            return fakes.valued("1")(handler, parameters)
        start, step = int(parameters["start"]), int(parameters["step"])
        assert int(parameters["end"]) == start + 60 * step
        pairs = [[start + n * step, text] for n, text in texts.items()]
        result = [{"metric": {"outcome": "success"}, "values": pairs}]
        return handler.answer(fakes.success({"resultType": "matrix", "result": result}))

    engine.behave = behave
    (chart,) = (
        chart
        for chart in json_of(client.get(f"{PERFORMANCE}?hours=0.25"))["data"]["series"]
        if chart["name"] == "request_rate"
    )
    finite = {n: float(text) for n, text in texts.items() if text not in ("NaN", "+Inf")}
    assert chart["values"] == [finite.get(n) for n in range(61)]


@pytest.mark.parametrize("text", ["true", "[1]", '"1"', "1,2", "one", ""])
def test_a_chart_of_what_is_no_number_is_missing(
    client: FlaskClient, engine: FakeEngine, text: str
) -> None:
    def behave(handler: Handler, parameters: dict[str, str]) -> None:
        if not parameters["path"].endswith("query_range"):
            return fakes.valued("1")(handler, parameters)
        result = [{"metric": {}, "values": [[int(parameters["start"]), text]]}]
        return handler.answer(fakes.success({"resultType": "matrix", "result": result}))

    engine.behave = behave
    assert json_of(client.get(PERFORMANCE))["missing"]["request_rate"] == "upstream_invalid"


def test_a_dead_engine_leaves_the_last_answer_marked_stale(
    tmp_path: Path, engine: FakeEngine
) -> None:
    client = service(tmp_path, engine.url, **IMPATIENT, dashboard_cache_ttl_s=0).test_client()
    engine.behave = fakes.valued("4")
    fresh = json_of(client.get(PERFORMANCE))
    assert (fresh["stale"], fresh["status"]) == (False, "ok")
    engine.behave = fakes.hanging
    answer, took_s = timed_get(client, PERFORMANCE)
    assert answer.status_code == 200
    assert took_s < SOON_S
    assert answer.json["stale"] is True
    assert answer.json["reason"] == "upstream_timeout"
    assert answer.json["data"] == fresh["data"]
    assert answer.json["as_of"] == fresh["as_of"]
    whole = json_of(client.get(OVERVIEW))
    assert (whole["stale"], whole["partial"]) == (True, True)
    assert whole["blocks"]["proxy"]["reason"] == "upstream_timeout"


def test_one_failing_query_is_named_and_the_rest_is_shown(
    client: FlaskClient, engine: FakeEngine
) -> None:
    healthy = fakes.valued("4")

    def behave(handler: Handler, parameters: dict[str, str]) -> None:
        if "0.95" in parameters.get("query", ""):
            return handler.answer(b"", status=500)
        return healthy(handler, parameters)

    engine.behave = behave
    answer: Any = json_of(client.get(PERFORMANCE))
    assert answer["partial"] is True
    assert answer["missing"] == dict.fromkeys(["times", "times_over_time"], "upstream_unreachable")
    assert answer["data"]["requests"]["total"] == 4
    assert answer["data"]["requests"]["p95_s"] is None


@pytest.mark.parametrize("block", BLOCKS)
def test_charts_that_hang_do_not_take_the_numbers_with_them(
    tmp_path: Path, engine: FakeEngine, block: str
) -> None:
    healthy = fakes.valued("4")

    def behave(handler: Handler, parameters: dict[str, str]) -> None:
        one_value = parameters["path"] == "/api/v1/query"
        return (healthy if one_value else fakes.hanging)(handler, parameters)

    engine.behave = behave
    # Of four workers each has one query in flight: nothing overtakes.
    client = service(tmp_path, engine.url, **IMPATIENT, web_concurrency=4).test_client()
    answer: Any = json_of(client.get(f"/api/dashboard/metrics/{block.replace('_', '-')}"))
    slow = {query.name for query in BLOCKS[block].queries if query.kind != "value"}
    assert set(answer["missing"]) == slow


def test_a_hundred_distinct_questions_keep_four_queries_in_flight(
    tmp_path: Path, engine: FakeEngine
) -> None:
    engine.delay_s = 0.002
    client_app = service(
        tmp_path, engine.url, dashboard_deadline_s=60, dashboard_query_timeout_s=30
    )

    def ask(number: int) -> int:
        hours = f"{1 + number / 100:.2f}"
        return client_app.test_client().get(PERFORMANCE, query_string={"hours": hours}).status_code

    with ThreadPoolExecutor(100) as pool:
        statuses = list(pool.map(ask, range(100)))
    assert statuses == [200] * 100
    assert engine.total == 100 * len(BLOCKS["performance"].queries)
    assert 1 < engine.peak <= 4


def test_a_thousand_equal_questions_are_one_round(tmp_path: Path, engine: FakeEngine) -> None:
    engine.delay_s = 0.01
    # Longer than a busy machine takes for a thousand.
    client_app = service(tmp_path, engine.url, dashboard_cache_ttl_s=3600)

    def ask(number: int) -> int:
        hours = ("1", "1.0", "01", "1.00")[number % 4]
        return client_app.test_client().get(PERFORMANCE, query_string={"hours": hours}).status_code

    with ThreadPoolExecutor(32) as pool:
        assert set(pool.map(ask, range(1000))) == {200}
    assert engine.total == len(BLOCKS["performance"].queries)


def test_workers_share_the_limit(tmp_path: Path, engine: FakeEngine) -> None:
    engine.delay_s = 0.5  # long enough for two to meet on a busy machine
    client = service(tmp_path, engine.url, web_concurrency=4).test_client()
    assert client.get(OVERVIEW).status_code in (200, 504)
    assert engine.peak == 1 + 1  # its share of four is one, and one goes to Alertmanager


def test_every_query_is_measured_by_name_and_a_defect_is_logged_with_its_text(
    client: FlaskClient, engine: FakeEngine, telemetry: InMemoryTelemetry
) -> None:
    engine.behave = fakes.fixed(400, b"parse error near rate")
    client.get(PERFORMANCE)
    assert telemetry.metric("dashboard.query.duration", query="times", outcome="rejected") == 1
    told = [line for line in telemetry.lines() if line["event"] == "dashboard.query.failed"]
    assert told
    assert {line["level"] for line in told} == {"error"}


@pytest.mark.parametrize(("not_built", "counted"), [("jaeger\nprometheus\n", 0), ("jaeger\n", 1)])
def test_a_prometheus_that_was_never_up_is_not_counted_as_failing(
    tmp_path: Path, telemetry: InMemoryTelemetry, not_built: str, counted: int
) -> None:
    told = tmp_path / "not_built"
    told.write_text(not_built)
    nobody = "http://127.0.0.1:1"
    client = service(tmp_path, nobody, engines_not_built_file=told).test_client()
    assert client.get(PERFORMANCE).status_code == 502
    measured = {"query": "times", "outcome": "unreachable"}
    assert (telemetry.metric("dashboard.query.duration", **measured) or 0) == counted


@pytest.mark.parametrize(
    "query",
    [
        "hours=" + "9" * 100_000,
        "x" * 100_000 + "=1",
        "hours=1&" * 10_000,
        "hours=nan",
        "hours=1e309",
        "hours=1&hours=2",
        "stage=asr&stage=asr",
        "stage=%22%7D%20or%20vector(1)",
        "hours=%D9%A3",
        "hours=%00",
        "hours=%ff",
        "query=up",
        "hours[]=1",
        "HOURS=1",
    ],
)
def test_hostile_parameters_are_refused_without_asking_anybody(
    client: FlaskClient, engine: FakeEngine, query: str
) -> None:
    answer, took_s = timed_get(client, f"{PERFORMANCE}?{query}")
    assert (answer.status_code, answer.json["code"]) == (400, "invalid_parameter")
    assert len(answer.data) < 1000
    assert took_s < SOON_S
    assert engine.total == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE"])
def test_only_reading_is_possible(client: FlaskClient, method: str) -> None:
    answer: Any = client.open(PERFORMANCE, method=method)
    assert (answer.status_code, answer.json["code"]) == (405, "method_not_allowed")
    assert "GET" in answer.headers["Allow"]


def test_the_headers_tell_caches_and_people_what_they_need(
    client: FlaskClient, engine: FakeEngine
) -> None:
    engine.behave = fakes.valued("4")
    first: Any = client.get(PERFORMANCE, headers={"Accept-Encoding": "gzip"})
    assert first.headers["Cache-Control"].startswith("private, max-age=")
    assert 20 <= first.cache_control.max_age <= 33
    assert 'cache;desc="miss"' in first.headers["Server-Timing"]
    assert {"Authorization", "Origin", "Accept-Encoding"} <= set(first.vary)
    again = client.get(PERFORMANCE, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    other = client.get(PERFORMANCE + "?hours=2", headers={"If-None-Match": first.headers["ETag"]})
    assert other.status_code == 200


def test_a_large_answer_is_packed_for_those_who_take_it(
    client: FlaskClient, engine: FakeEngine
) -> None:
    plain: Any = client.get(OVERVIEW)
    packed: Any = client.get(OVERVIEW, headers={"Accept-Encoding": "gzip"})
    assert packed.content_encoding == "gzip"
    assert len(packed.data) < len(plain.data)
    unpacked: dict[str, Any] = json.loads(gzip.decompress(packed.data))
    assert unpacked["blocks"].keys() == plain.json["blocks"].keys()
    refused = client.get(OVERVIEW, headers={"Accept-Encoding": "gzip;q=0"})
    assert refused.content_encoding is None


@pytest.mark.parametrize(
    ("hours", "recorded", "asked"),
    [
        # whether records exist, and which of (records, raw histograms) are asked for
        (1, True, (False, True)),
        (6.6, True, (False, True)),
        (7, True, (True, False)),
        (168, True, (True, False)),
        (168, False, (True, True)),
    ],
)
def test_long_windows_ask_the_records_and_the_raw_series_only_where_there_are_none(
    engine: FakeEngine,
    client: FlaskClient,
    hours: float,
    recorded: bool,
    asked: tuple[bool, bool],
) -> None:
    queries: list[str] = []
    answer = fakes.valued("4.5")

    def behave(handler: Handler, parameters: dict[str, str]) -> None:
        query = parameters.get("query", "")
        if "histogram_quantile" in query and parameters["path"] == "/api/v1/query":
            queries.append(query)
        (fakes.empty if "increase5m" in query and not recorded else answer)(handler, parameters)

    engine.behave = behave
    data = json_of(client.get(f"{PERFORMANCE}?hours={hours}"))["data"]
    assert data["requests"]["p95_s"] == 4.5
    assert {stage["stage"]: stage["p95_s"] for stage in data["stages"]} == {"asr": 4.5}
    records = [query for query in queries if "increase5m" in query]
    raw = [query for query in queries if "increase5m" not in query]
    assert (len(records), len(raw)) == (asked[0], asked[1])
