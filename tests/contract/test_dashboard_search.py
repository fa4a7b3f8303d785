"""Trace search, failures and the log tail: strict inputs, engines of every kind, bounds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient

from tests import dashboard_fakes as fakes
from tests.dashboard_fakes import SECRET_WORDS, FakeEngine, Handler, service
from transcript_service import cli
from transcript_service.dashboard import search_view
from transcript_service.dashboard.search_view import in_seconds
from transcript_service.problem import Problem
from transcript_service.settings import get_settings

TRACES, FAILURES, LOGS = (f"/api/dashboard/{name}" for name in ("traces", "failures", "logs"))
TRACE = fakes.TRACE_ID


@pytest.fixture
def client(engine: FakeEngine, tmp_path: Path) -> FlaskClient:
    return service(tmp_path, engine.url).test_client()


def got(client: FlaskClient, path: str) -> Any:
    return client.get(path).json


def span(name: str, duration_s: float, start_s: float = 0.0, **tags: str) -> dict[str, Any]:
    tags = {key.replace("error_type", "error.type"): value for key, value in tags.items()}
    return fakes.jaeger_span("a", "", start_s, duration_s, operationName=name, **tags)


BLOCKED_THEN_GOOD = fakes.jaeger_trace(
    span("transcript.fetch", 6.0, video_id="dQw4w9WgXcQ", outcome="success", source="timedtext"),
    span("transcript.stage", 5.0, 1.0, stage="timedtext", outcome="success"),
    span("transcript.stage", 1.0, stage="youtube_api", outcome="blocked", error_type="ip_blocked"),
)
WITHOUT_REQUEST = fakes.jaeger_trace(span("transcript.stage", 1.0, stage="asr", outcome="error"))


@pytest.mark.parametrize(
    ("path", "query"),
    [
        *(
            (TRACES, q)
            for q in ("video=..", "video=dQw4w9WgXcQ%00", "stage=x", "outcome=ok", "limit=0")
        ),
        *((TRACES, q) for q in ("limit=201", "limit=1e2", "min_s=-1", "min_s=nan", "max_s=5s")),
        *(
            (TRACES, q)
            for q in ("end=yesterday", "end=2026-13-01T00:00:00Z", "hours=169", "tags={}")
        ),
        *((TRACES, q) for q in ("video=dQw4w9WgXcQ&video=dQw4w9WgXcQ", "error_type=", "service=x")),
        *((LOGS, q) for q in ("query=*", "level=fatal", "since=1", "video=%22%7C", "limit=501")),
        *((FAILURES, q) for q in ("stage=%22", "hours=0", "limit=1")),
    ],
)
def test_what_is_not_exactly_one_valid_value_is_refused_without_asking_anybody(
    client: FlaskClient, engine: FakeEngine, path: str, query: str
) -> None:
    answer = client.get(f"{path}?{query}")
    assert answer.status_code == 400
    assert '"invalid_parameter"' in answer.text
    assert engine.total == 0


def test_a_search_asks_jaeger_for_it_and_says_what_each_request_was(
    client: FlaskClient, engine: FakeEngine
) -> None:
    asked: dict[str, str] = {}

    def behave(handler: Handler, parameters: dict[str, str]) -> None:
        asked.update(parameters)
        handler.answer(json.dumps({"data": [BLOCKED_THEN_GOOD, WITHOUT_REQUEST]}).encode())

    engine.behave = behave
    question = "video=dQw4w9WgXcQ&min_s=5&max_s=60&end=2027-01-15T08:00:00Z"
    answer = got(client, f"{TRACES}?{question}")
    assert asked["path"] == "/api/traces"
    assert json.loads(asked["tags"]) == {"video_id": "dQw4w9WgXcQ"}
    assert (asked["minDuration"], asked["maxDuration"]) == ("5000000us", "60000000us")
    assert int(asked["end"]) - int(asked["start"]) == 3600 * 10**6
    assert answer["partial"]  # of one trace the request has not come yet
    (found,) = answer["traces"]
    assert found["trace_id"] == TRACE
    assert (found["video_id"], found["worker"], found["source"]) == (
        "dQw4w9WgXcQ",
        "w-1",
        "timedtext",
    )
    assert [(s["stage"], s["error_type"]) for s in found["stages"]] == [
        ("youtube_api", "ip_blocked"),
        ("timedtext", None),
    ]


@pytest.mark.parametrize(
    ("query", "fits"),
    [
        ("outcome=success", True),
        ("outcome=blocked", False),  # that was a stage, not the request
        ("stage=youtube_api&outcome=blocked", True),
        ("stage=youtube_api&outcome=success", False),
        ("stage=timedtext&error_type=ip_blocked", False),
        ("source=timedtext", True),
        ("max_s=5.9", False),
        ("min_s=7&max_s=6", False),
    ],
)
def test_what_jaeger_matches_elsewhere_in_a_trace_is_not_shown(
    client: FlaskClient, engine: FakeEngine, query: str, fits: bool
) -> None:
    engine.behave = fakes.fixed(200, json.dumps({"data": [BLOCKED_THEN_GOOD]}).encode())
    assert bool(got(client, f"{TRACES}?{query}")["traces"]) is fits


def test_a_search_goes_back_until_enough_traces_are_as_asked(
    client: FlaskClient, engine: FakeEngine
) -> None:
    """Jaeger matches anywhere in a trace: its newest ones may all be beside the question."""

    def stored(number: int) -> dict[str, Any]:
        outcome = "blocked" if number < 120 else "success"
        of_stage = span("transcript.stage", 1.0, -number, stage="youtube_api", outcome=outcome)
        request = span("transcript.fetch", 6.0, -number, outcome="success")
        return fakes.jaeger_trace(request, of_stage) | {"traceID": f"{number:032x}"}

    newest_first = [stored(number) for number in range(300)]
    windows: list[int] = []

    def behave(handler: Handler, parameters: dict[str, str]) -> None:
        since, until, limit = (int(parameters[name]) for name in ("start", "end", "limit"))
        windows.append((until - since) // 10**6)
        traces = [t for t in newest_first if since <= t["spans"][0]["startTime"] <= until]
        handler.answer(json.dumps({"data": traces[:limit]}).encode())

    engine.behave = behave
    question = "stage=youtube_api&outcome=success&end=2027-01-15T08:00:00Z"
    answer = got(client, f"{TRACES}?{question}")
    assert [int(t["trace_id"], 16) for t in answer["traces"]] == list(range(120, 170))
    assert answer["partial"]
    all_of_them = got(client, f"{TRACES}?{question}&limit=200")
    assert [int(t["trace_id"], 16) for t in all_of_them["traces"]] == list(range(120, 300))
    assert not all_of_them["partial"]
    nothing = got(client, f"{TRACES}?{question}&min_s=7")
    assert not nothing["traces"]
    windows.clear()
    newest = got(client, f"{TRACES}?end=2027-01-15T08:00:00Z&hours=168")
    assert [int(t["trace_id"], 16) for t in newest["traces"]] == list(range(50))
    assert windows == [60]
    windows.clear()
    rare = got(client, f"{TRACES}?end=2027-01-15T08:00:00Z&hours=168&min_s=7")
    assert not rare["traces"]
    assert not rare["partial"]
    assert windows[0] == 60
    assert windows[-1] > 7 * 86_400 - 300


def test_what_was_found_is_shown_though_jaeger_fails_when_asked_further_back(
    client: FlaskClient, engine: FakeEngine
) -> None:
    def behave(handler: Handler, parameters: dict[str, str]) -> None:
        if engine.total > 1:
            return handler.answer(b"x", status=500)
        return handler.answer(json.dumps({"data": [BLOCKED_THEN_GOOD, WITHOUT_REQUEST]}).encode())

    engine.behave = behave
    answer = got(client, f"{TRACES}?limit=2&end=2027-01-15T08:00:10Z")
    assert len(answer["traces"]) == 1
    assert answer["partial"]
    assert engine.total == 2


@pytest.mark.parametrize("path", [TRACES, FAILURES, LOGS])
@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        (fakes.fixed(500, b"x"), 502),
        (fakes.fixed(503, b"x"), 503),
        (fakes.fixed(400, b"parse error at 127.0.0.1"), 500),
        (fakes.fixed(200, b"<html>"), 502),
        (fakes.fixed(200, b"[1]"), 502),
        (fakes.fixed(200, b'{"data": [{"spans": 1}]}'), 502),
        (fakes.fixed(302, b""), 502),
        (fakes.hanging, 504),
        (fakes.dripping, 504),
        (fakes.enormous, 502),
        (fakes.cut_short, 502),
    ],
)
def test_a_bad_engine_becomes_a_problem_within_five_seconds(
    client: FlaskClient, engine: FakeEngine, path: str, behaviour: fakes.Behaviour, status: int
) -> None:
    engine.behave = behaviour
    began = time.monotonic()
    answer = client.get(path)
    assert time.monotonic() - began < 5
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    assert not [word for word in SECRET_WORDS if word in answer.text]
    assert engine.sent < 64 * 2**20


def test_failures_are_grouped_with_an_example_each(client: FlaskClient, engine: FakeEngine) -> None:
    asked: dict[str, str] = {}
    group = {
        "_msg": "transcript.stage.finished",
        "stage": "youtube_api",
        "error_type": "ip_blocked",
        "outcome": "blocked",
        "count": "10",
        "first": "2026-11-28T17:55:40.756313Z",
        "last": "2026-11-28T17:56:52.756313Z",
        "example": json.dumps({"trace_id": TRACE, "video_id": "v", "service.instance.id": "w"}),
    }

    def behave(handler: Handler, parameters: dict[str, str]) -> None:
        asked.update(parameters)
        handler.answer(json.dumps(group).encode() + b"\n")

    engine.behave = behave
    answer = got(client, f"{FAILURES}?stage=youtube_api")
    assert 'stage:="youtube_api"' in asked["query"]
    assert answer["groups"] == [
        {
            "stage": "youtube_api",
            "error_type": "ip_blocked",
            "outcome": "blocked",
            "count": 10,
            "first": "2026-11-28T17:55:40.756Z",
            "last": "2026-11-28T17:56:52.756Z",
            "trace_id": TRACE,
            "video_id": "v",
            "worker": "w",
        }
    ]


def test_following_the_log_looks_back_a_little_and_names_each_line(
    client: FlaskClient, engine: FakeEngine
) -> None:
    asked: list[dict[str, str]] = []
    line = {
        "_time": "2026-11-28T17:55:40.756313Z",
        "_msg": "transcript.stage.retried",
        "severity_text": "WARN",
        "trace_id": TRACE,
        "stage": "asr",
    }

    def behave(handler: Handler, parameters: dict[str, str]) -> None:
        asked.append(parameters)
        handler.answer(json.dumps(line).encode() + b"\n")

    engine.behave = behave
    path = f"{LOGS}?since=2026-11-28T17:55:00Z&level=warning"
    first, again = got(client, path), got(client, path)
    assert '"WARN"' in asked[0]["query"]
    assert '"INFO"' not in asked[0]["query"]
    (told,) = first["lines"]
    assert (told["level"], told["text"], told["trace_id"]) == ("warning", line["_msg"], TRACE)
    assert told["attributes"] == {"stage": "asr"}
    assert told["id"] == again["lines"][0]["id"]
    assert first["next_since"] == "2026-11-28T17:55:25.756Z"


@pytest.mark.parametrize(
    ("text", "seconds"), [("5s", 5.0), ("300ms", 0.3), ("2m", 120.0), ("5", 5.0), ("1.5s", 1.5)]
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert float(in_seconds(text)) == seconds


@pytest.mark.parametrize("text", ["", "s", "5 hours", "fast", "5x"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(Problem):
        in_seconds(text)


def test_slow_and_failed_requests_say_what_they_were_about(
    client: FlaskClient, engine: FakeEngine
) -> None:
    exemplar = {
        "labels": {"trace_id": TRACE},
        "value": "6.5",
        "timestamp": time.time(),
    }
    odd = {"labels": {"trace_id": '"} or *'}, "value": "9", "timestamp": time.time()}
    series = [{"seriesLabels": {"outcome": "blocked"}, "exemplars": [exemplar, odd]}]
    ends = [
        {"_msg": "transcript.stage.finished", "stage": "youtube_api", "error_type": "timeout"},
        {"_msg": "transcript.stage.finished", "stage": "timedtext", "error_type": "ip_blocked"},
        {"_msg": "transcript.request.finished", "error_type": "ip_blocked"},
    ]
    asked: list[str] = []
    broken = False

    def behave(handler: Handler, parameters: dict[str, str]) -> None:
        if parameters["path"].endswith("query_exemplars"):
            handler.answer(fakes.success(series))
        elif parameters["path"] == "/select/logsql/query":
            asked.append(parameters["query"])
            known = {"trace_id": TRACE, "video_id": "v", "service.instance.id": "w-1"}
            lines = [json.dumps({**known, **end}) for end in ends]
            handler.answer("\n".join(lines).encode(), status=500 if broken else 200)
        else:
            fakes.valued("4.5")(handler, parameters)

    engine.behave = behave
    block = got(client, "/api/dashboard/metrics/performance")
    assert (block["partial"], block["missing"]) == (False, {})
    (failed, _) = sorted(block["data"]["failed_requests"], key=lambda r: r["duration_s"])
    found = {name: failed[name] for name in ("video_id", "stage", "error_type", "worker")}
    assert found == {
        "video_id": "v",
        "stage": "timedtext",
        "error_type": "ip_blocked",
        "worker": "w-1",
    }
    assert f'trace_id:in("{TRACE}")' in asked[0]

    broken = True
    block = got(client, "/api/dashboard/metrics/performance?hours=2")
    assert block["missing"] == {"request_details": "upstream_unreachable"}
    assert block["data"]["failed_requests"][0]["video_id"] is None


def test_an_open_breaker_says_since_when_by_whom_after_what_and_until_when(
    client: FlaskClient, engine: FakeEngine
) -> None:
    states = [{"metric": {"name": "timedtext", "state": "open"}, "value": [1.0, "1"]}]
    opening = {
        "_time": "2026-11-28T17:55:40.756313Z",
        "service.instance.id": "w-2",
        "trace_id": TRACE,
        "reason": "failure_rate",
        "failure_rate": "0.6",
        "slow_call_rate": "0",
        "to_state": "open",
    }
    record = {
        "breaker": "timedtext",
        "opening": json.dumps(opening),
        "last_opened": "2026-11-28T17:56:50.5Z",
    }
    counted = {"stage": "timedtext", "error_type": "rate_limited", "count": "9"}
    asked: list[dict[str, str]] = []
    broken = False

    def behave(handler: Handler, parameters: dict[str, str]) -> None:
        query = parameters.get("query", "")
        if parameters["path"] == "/select/logsql/query":
            asked.append(parameters)
            line = record if "state_changed" in query else counted
            handler.answer(json.dumps(line).encode(), status=500 if broken else 200)
        elif parameters["path"] == "/api/v1/query" and "circuit_breaker_state" in query:
            vector = {"resultType": "vector", "result": states}
            handler.answer(fakes.success(vector))
        else:
            fakes.empty(handler, parameters)

    engine.behave = behave
    path = "/api/dashboard/metrics/circuit-breaker"
    (breaker,) = got(client, path)["data"]["breakers"]
    assert breaker["opening"] == {
        "since": "2026-11-28T17:55:40.756Z",
        "worker": "w-2",
        "trace_id": TRACE,
        "reason": "failure_rate",
        "failure_rate": 0.6,
        "slow_call_rate": 0.0,
        "errors": {"rate_limited": 9.0},
        "next_probe_at": "2026-11-28T17:57:50Z",
    }
    assert "_time:[2026-11-28T17:45:40.756Z, 2026-11-28T17:55:40.756Z]" in asked[1]["query"]

    broken = True
    block = got(client, f"{path}?hours=2")
    assert block["missing"] == {"openings": "upstream_unreachable"}
    assert block["data"]["breakers"][0]["opening"] is None

    broken, record["opening"] = False, ""  # open for longer than the log goes back
    assert got(client, f"{path}?hours=3")["data"]["breakers"][0]["opening"] is None


def test_a_window_of_the_past_is_asked_as_such_and_alerts_stay_those_of_now(
    client: FlaskClient, engine: FakeEngine
) -> None:
    asked: list[dict[str, str]] = []

    def behave(handler: Handler, parameters: dict[str, str]) -> None:
        asked.append(parameters)
        fakes.valued("4.5")(handler, parameters)

    engine.behave = behave
    answer = got(client, "/api/dashboard/metrics?hours=0.5&end=2026-11-24T17:41:09Z")
    assert answer["window"]["start"] == "2026-11-24T17:11:00Z"
    assert answer["window"]["end"] == "2026-11-24T17:41:00Z"
    assert {p["time"] for p in asked if p["path"] == "/api/v1/query"} == {"1795542060"}
    assert answer["blocks"]["performance"]["as_of"] == "2026-11-24T17:41:00Z"
    assert answer["blocks"]["alerts"]["as_of"] > "2026-11-24T17:41:00Z"
    groups = got(client, f"{FAILURES}?end=2026-11-24T17:41:09Z")
    assert groups["window"]["end"] == "2026-11-24T17:41:00Z"
    assert asked[-1]["end"] == "2026-11-24T17:41:00Z"


def test_with_a_stage_the_requests_are_its_attempts(
    client: FlaskClient, engine: FakeEngine
) -> None:
    asked: list[str] = []

    def behave(handler: Handler, parameters: dict[str, str]) -> None:
        asked.append(parameters.get("query", ""))
        series = {"stage": "asr", "outcome": "blocked", "error_type": "ip_blocked"}
        exemplar = {"labels": {"trace_id": TRACE}, "value": "6.5", "timestamp": time.time()}
        if parameters["path"].endswith("query_exemplars"):
            handler.answer(fakes.success([{"seriesLabels": series, "exemplars": [exemplar]}]))
        elif parameters["path"] == "/select/logsql/query":
            end = {"_msg": "transcript.stage.finished", "trace_id": TRACE, "stage": "asr"}
            handler.answer(json.dumps(end).encode())
        else:
            fakes.valued("4.5")(handler, parameters)

    engine.behave = behave
    data = got(client, "/api/dashboard/metrics/performance?stage=asr")["data"]
    assert [request["stage"] for request in data["failed_requests"]] == ["asr"]
    assert [point["duration_s"] for point in data["points"]] == [6.5]
    assert any(query.startswith("transcript_stage_duration_seconds{") for query in asked)
    ends = next(query for query in asked if "trace_id:in" in query)
    assert 'stage:="asr"' in ends
    assert "request.finished" not in ends
    assert not any("rate(transcript_requests_total" in query for query in asked)


@pytest.fixture
def in_terminal(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Result]]:
    """Runs a command against the fake engine."""
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    for name in ("JAEGER_URL", "VICTORIALOGS_URL"):
        monkeypatch.setenv(name, engine.url)
    get_settings.cache_clear()
    yield lambda *arguments: CliRunner().invoke(cli.main, list(arguments))
    get_settings.cache_clear()


def test_a_terminal_searches_traces_with_the_same_words(
    in_terminal: Callable[..., Result], engine: FakeEngine
) -> None:
    asked: dict[str, str] = {}

    def behave(handler: Handler, parameters: dict[str, str]) -> None:
        asked.update(parameters)
        handler.answer(json.dumps({"data": [BLOCKED_THEN_GOOD]}).encode())

    engine.behave = behave
    done = in_terminal("traces", "--video", "dQw4w9WgXcQ", "--min", "5s", "--json")
    assert [found["trace_id"] for found in json.loads(done.stdout)["traces"]] == [TRACE]
    assert (asked["minDuration"], json.loads(asked["tags"])) == (
        "5000000us",
        {"video_id": "dQw4w9WgXcQ"},
    )
    table = in_terminal("traces").stdout
    assert "youtube_api:blocked timedtext:success" in table
    assert in_terminal("traces", "--min", "soon").exit_code == 2
    engine.behave = fakes.fixed(500, b"")
    assert in_terminal("traces").exit_code == 1


def test_a_terminal_follows_the_log_each_line_once_over_a_gap_until_it_is_told_to_stop(
    in_terminal: Callable[..., Result], engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def line(second: int, text: str) -> dict[str, str]:
        return {"_time": f"2026-11-28T17:55:{second}Z", "_msg": text, "trace_id": "\x1b[2J"}

    rounds = iter([[line(10, "one")], None, [line(11, "two"), line(10, "one")]])

    def behave(handler: Handler, _: dict[str, str]) -> None:
        lines = next(rounds)
        body = b"" if lines is None else "\n".join(map(json.dumps, lines)).encode()
        handler.answer(body, status=500 if lines is None else 200)

    waits = 0

    def sleep(_: float) -> None:
        nonlocal waits
        waits += 1
        if waits == 3:
            raise KeyboardInterrupt

    engine.behave = behave
    monkeypatch.setattr(search_view, "time", SimpleNamespace(sleep=sleep))
    done = in_terminal("logs", "-f")
    assert done.exit_code == 0
    assert [text.split()[2] for text in done.stdout.splitlines()] == ["one", "two"]
    assert "\x1b" not in done.stdout
