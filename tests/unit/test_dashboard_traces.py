"""A trace as Jaeger and VictoriaLogs tell it, and as the API tells it on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.dashboard_fakes import (
    TRACE_ID,
    TRACE_START_US,
    FakeEngine,
    Handler,
    jaeger_span,
    jaeger_trace,
    service,
)

SPANS = [
    # a child before its parent, as exporters deliver them
    jaeger_span("c", "b", 0.02, 0.03, **{"error": True, "otel.status_description": "timeout"}),
    jaeger_span("d", "a", 0.06, 0.01, **{"span.kind": "client"}),
    jaeger_span("a", "", 0.0, 0.1, **{"n": 7, "otel.scope.name": "flask"}),
    jaeger_span(
        "b",
        "a",
        0.01,
        0.05,
        logs=[
            {
                "timestamp": TRACE_START_US + 15_000,
                "fields": [{"key": "event", "value": "retry"}, {"key": "list", "value": "[true]"}],
            }
        ],
    ),
    jaeger_span("z", "unknown-parent", 0.07, 0.005),
]
TRACE = {"data": [jaeger_trace(*SPANS)]}
LINES = [
    {"_time": "2027-01-15T08:00:00.005Z", "_msg": "first", "span_id": "a"},
    {
        "_time": "2027-01-15T08:00:00.04Z",
        "_msg": "second",
        "_stream": '{service.name="svc"}',
        "service.name": "svc",
        "service.instance.id": "w-1",
        "trace_id": TRACE_ID,
        "span_id": "b",
        "severity_text": "WARN",
        "stage": "asr",
        "telemetry.sdk.name": "x",
    },
]


class Stores:
    """Jaeger and VictoriaLogs on one port; each answers what is set, or an error status."""

    def __init__(self, engine: FakeEngine) -> None:
        self.jaeger: Any = TRACE
        self.logs: Any = LINES
        self.asked: list[dict[str, str]] = []
        engine.behave = self._behave

    def _behave(self, handler: Handler, parameters: dict[str, str]) -> None:
        self.asked.append(parameters)
        found = self.logs if "logsql" in parameters["path"] else self.jaeger
        if isinstance(found, int):
            handler.answer(b"nope", status=found, kind="text/plain")
        else:
            # Jaeger's answer is one object, VictoriaLogs' one a line.
            lines = found if isinstance(found, list) and found is self.logs else [found]
            handler.answer(b"\n".join(json.dumps(line).encode() for line in lines))


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    engine = FakeEngine()
    yield engine
    engine.close()


@pytest.fixture
def stores(engine: FakeEngine) -> Stores:
    return Stores(engine)


@pytest.fixture
def client(engine: FakeEngine, tmp_path: Path) -> FlaskClient:
    return service(tmp_path, engine.url, service_name='we"ird').test_client()


def get(client: FlaskClient, trace_id: str = TRACE_ID) -> Any:
    return client.get(f"/api/dashboard/traces/{trace_id}")


def test_spans_come_in_the_order_of_a_waterfall(client: FlaskClient, stores: Stores) -> None:
    spans = get(client).json["spans"]["data"]
    assert [(s["span_id"], s["depth"]) for s in spans] == [
        ("a", 0),
        ("b", 1),
        ("c", 2),
        ("d", 1),
        ("z", 0),  # its parent has not arrived: shown at the top rather than lost
    ]
    by_id = {s["span_id"]: s for s in spans}
    assert by_id["b"]["start_s"] == pytest.approx(0.010, abs=1e-5)
    assert by_id["b"]["duration_s"] == pytest.approx(0.050)
    assert by_id["c"]["error"] is True
    assert by_id["c"]["status_message"] == "timeout"
    assert by_id["a"]["attributes"] == {"n": 7}
    (event,) = by_id["b"]["events"]
    assert (event["name"], event["attributes"]) == ("retry", {"list": "[true]"})
    assert event["at_s"] == pytest.approx(0.005, abs=1e-5)
    assert (by_id["d"]["kind"], by_id["a"]["kind"]) == ("client", "internal")
    assert {(s["service"], s["worker"]) for s in spans} == {("svc", "w-1")}


def test_log_lines_come_with_their_span_and_worker(client: FlaskClient, stores: Stores) -> None:
    lines = get(client).json["logs"]["data"]
    assert [(line["text"], line["span_id"], line["level"]) for line in lines] == [
        ("first", "a", "unknown"),
        ("second", "b", "warning"),
    ]
    assert lines[1]["offset_s"] == pytest.approx(0.040, abs=1e-5)
    assert (lines[1]["worker"], lines[1]["attributes"]) == ("w-1", {"stage": "asr"})


def test_the_log_is_asked_in_time_order_by_the_quoted_name_of_the_service(
    client: FlaskClient, stores: Stores
) -> None:
    get(client)
    asked = next(p for p in stores.asked if "logsql" in p["path"])
    assert asked["query"] == (
        f'{{"service.name"="we\\"ird"}} trace_id:="{TRACE_ID}" | sort by (_time)'
    )


def test_a_store_that_is_down_leaves_the_other_half(client: FlaskClient, stores: Stores) -> None:
    stores.logs = 500
    answer = get(client)
    assert answer.status_code == 200
    assert answer.json["partial"] is True
    assert answer.json["logs"] == {"status": "unavailable", "data": None}
    assert len(answer.json["spans"]["data"]) == 5


def test_lines_are_shown_though_the_trace_has_not_arrived(
    client: FlaskClient, stores: Stores
) -> None:
    stores.jaeger = 404
    answer = get(client).json
    assert answer["partial"] is False
    assert answer["spans"]["status"] == "no_data"
    # counted from the first line: there is no trace to count from
    assert [line["offset_s"] for line in answer["logs"]["data"]] == pytest.approx(
        [0, 0.035], abs=1e-5
    )


def test_an_id_that_nobody_knows_is_not_found_and_may_be_tried_again(
    client: FlaskClient, stores: Stores
) -> None:
    stores.jaeger, stores.logs = 404, []
    answer = get(client)
    assert (answer.status_code, answer.json["code"]) == (404, "trace_not_found")
    assert answer.headers["Retry-After"]


def test_both_stores_down_is_a_bad_gateway(client: FlaskClient, stores: Stores) -> None:
    stores.jaeger = stores.logs = 500
    assert (get(client).status_code, get(client).json["code"]) == (502, "upstream_unreachable")


@pytest.mark.parametrize("garbage", [[[]], {}, {"_time": 3}, {"_time": "x"}, "x", None])
def test_garbage_from_both_stores_is_a_bad_gateway(
    client: FlaskClient, stores: Stores, garbage: Any
) -> None:
    stores.jaeger = stores.logs = garbage
    assert (get(client).status_code, get(client).json["code"]) == (502, "upstream_invalid")


@pytest.mark.parametrize(
    "trace_id", ["x", "0" * 31, "0" * 33, TRACE_ID.upper(), '"} or {a="', "%0a" + "0" * 31]
)
def test_what_is_no_trace_id_is_never_asked_for(
    client: FlaskClient, stores: Stores, trace_id: str
) -> None:
    assert get(client, trace_id).status_code == 400
    assert stores.asked == []
