"""Every `OTEL_*` variable of the table does what the specification says, or is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.otlp_sink import OtlpSink
from tests.unit.test_telemetry_providers import run
from transcript_service.settings import Settings
from transcript_service.telemetry import service_identity
from transcript_service.telemetry.environment import VARIABLES, apply_defaults, problems
from transcript_service.telemetry.providers import service_resource

_WORK = """
with telemetry.span("work", **{"long": "x" * 50}):
    log.info("service.started", text="y" * 50)
    telemetry.instruments.JOB_DURATION.record(0.5, outcome="success")
running.shutdown()
print(json.dumps({"lost": [queue.ledger().lost for queue in running.queues]}))
"""


def _resource(sink: OtlpSink) -> Any:
    return sink.spans[0].resource


def _attribute(sink: OtlpSink) -> Any:
    return sink.spans[0].attributes["long"]


TABLE: list[tuple[dict[str, str], Callable[[OtlpSink], Any], Any]] = [
    ({"OTEL_SERVICE_NAME": "mine"}, lambda s: _resource(s)["service.name"], "mine"),
    (
        {"OTEL_RESOURCE_ATTRIBUTES": "service.name=a,team=b", "SERVICE_NAME": "c"},
        lambda s: (_resource(s)["service.name"], _resource(s)["team"]),
        ("a", "b"),
    ),
    (
        {"OTEL_RESOURCE_ATTRIBUTES": "db.password=hunter22"},
        lambda s: _resource(s)["db.password"],
        "[REDACTED]",
    ),
    ({"OTEL_TRACES_EXPORTER": "none"}, lambda s: (len(s.spans), len(s.logs) > 0), (0, True)),
    ({"OTEL_LOGS_EXPORTER": "none"}, lambda s: (len(s.spans), len(s.logs)), (1, 0)),
    ({"OTEL_METRICS_EXPORTER": "none"}, lambda s: (len(s.spans), len(s.points)), (1, 0)),
    ({"OTEL_TRACES_EXPORTER": "console,otlp"}, lambda s: len(s.spans), 1),
    ({"OTEL_TRACES_SAMPLER": "always_off"}, lambda s: len(s.spans), 0),
    (
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"},
        lambda s: len(s.spans),
        0,
    ),
    ({"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "9"}, _attribute, "x" * 9),
    ({"OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "8"}, _attribute, "x" * 8),
    (
        {"OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT": "7"},
        lambda s: "y" * 7 in {line.attributes.get("text") for line in s.logs},
        True,
    ),
    (
        {"OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=a"},
        lambda s: {h.get("x-tenant") for h in s.headers},
        {"a"},
    ),
    (
        {"OTEL_EXPORTER_OTLP_COMPRESSION": "none"},
        lambda s: {h.get("Content-Encoding") for h in s.headers},
        {None},
    ),
    ({"OTEL_SDK_DISABLED": "true"}, lambda s: s.requests, 0),
    ({"OTEL_SERVICE_NAME": "", "SERVICE_NAME": "c"}, lambda s: _resource(s)["service.name"], "c"),
    (
        {"OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "explicit_bucket_histogram"},
        lambda s: s.kinds["job.duration"],
        "histogram",
    ),
    ({}, lambda s: s.kinds["job.duration"], "exponential_histogram"),
]


@pytest.mark.parametrize(
    ("environ", "effect", "wanted"), TABLE, ids=[str(row[0])[:60] for row in TABLE]
)
def test_a_variable_has_its_effect(
    environ: dict[str, str], effect: Callable[[OtlpSink], Any], wanted: Any
) -> None:
    with OtlpSink() as sink:
        run(_WORK, sink.url, **environ)
    assert effect(sink) == wanted


@pytest.mark.parametrize("signal", ["", "TRACES_"])
def test_grpc_carries_the_same(signal: str) -> None:
    with OtlpSink() as sink, sink.over_grpc() as address:
        environ = {
            f"OTEL_EXPORTER_OTLP_{signal}PROTOCOL": "grpc",
            f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT": address,
        }
        stdout, _ = run(_WORK, **{"endpoint": sink.url} | environ)
        assert '{"lost": [0, 0]}' in stdout
        assert [span.name for span in sink.spans] == ["work"]
        assert "service.started" in {line.event_name for line in sink.logs}
        assert sink.counter("job.duration") == 1
        assert bool(sink.headers) == bool(signal)  # the other signals stay with HTTP


def test_grpc_without_the_extra_is_refused_by_name() -> None:
    with OtlpSink() as sink:
        code = "import sys; sys.modules['grpc'] = None\n"
        _, lines = run(_WORK, sink.url, before=code, OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
        assert len(sink.spans) == 1
    (said,) = [line for line in lines if line["event"] == "telemetry.environment.invalid"]
    assert said["variable"] == "OTEL_EXPORTER_OTLP_PROTOCOL"
    assert "extra `grpc`" in said["reason"]


SENSELESS = {
    "OTEL_EXPORTER_OTLP_TIMEOUT": "soon",
    "OTEL_EXPORTER_OTLP_COMPRESSION": "zip",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
    "OTEL_TRACES_SAMPLER": "sometimes",
    "OTEL_PROPAGATORS": "pigeon",
    "OTEL_TRACES_EXPORTER": "fax",
    "OTEL_BSP_MAX_QUEUE_SIZE": "-1",
    "OTEL_BLRP_SCHEDULE_DELAY": "1e3x",
    "OTEL_METRIC_EXPORT_INTERVAL": "nan",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many",
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "eternal",
    "OTEL_METRICS_EXEMPLAR_FILTER": "some",
    "OTEL_EXPORTER_OTLP_HEADERS": "hunter2hunter2",
    "OTEL_EXPORTER_OTLP_CERTIFICATE": "/no/such/file",
}


def test_what_makes_no_sense_is_named_and_the_service_runs() -> None:
    with OtlpSink() as sink:
        _, lines = run(_WORK, sink.url, **SENSELESS)
        assert len(sink.spans) == 1
    named = {line["variable"] for line in lines if line["event"] == "telemetry.environment.invalid"}
    assert named == set(SENSELESS)
    assert "hunter2" not in str(lines)


def test_every_default_makes_sense() -> None:
    assert len({variable.name for variable in VARIABLES}) == len(VARIABLES)
    before = list(problems)
    environ = {variable.name: variable.default for variable in VARIABLES}
    apply_defaults(environ)
    assert problems == before


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, ("n", "n")),
        ({"OTEL_SERVICE_NAME": "my-app"}, ("my-app", "my-app")),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.namespace=shop"}, ("n", "shop/n")),
    ],
)
def test_the_dashboard_knows_under_which_job_its_series_are_kept(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], wanted: tuple[str, str]
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert service_identity(Settings(_env_file=None, service_name="n")) == wanted


def test_workers_with_one_given_instance_id_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=pod-1")
    ids = [
        service_resource(Settings(_env_file=None)).attributes["service.instance.id"]
        for _ in range(2)
    ]
    assert ids[0] != ids[1]
    assert all(str(one).startswith("pod-1") for one in ids)


def test_an_excluded_request_has_a_trace_id_of_its_own_and_no_span() -> None:
    with OtlpSink() as sink:
        stdout, lines = run(
            """
from flask import Flask
app = Flask("x")
telemetry.instrument_app(app)
@app.get("/<word>")
def word(word):
    log.info("service.started", word=word)
    return telemetry.current_trace_id()
ids = [app.test_client().get(path).text for path in ("/quiet", "/quiet", "/loud")]
running.shutdown()
print(json.dumps([ids, telemetry.current_trace_id()]))
""",
            sink.url,
            OTEL_PYTHON_FLASK_EXCLUDED_URLS="quiet",
        )
        ids, outside = json.loads(stdout.splitlines()[-1])
        assert len(set(ids)) == 3
        assert outside == "0" * 32 not in ids
        assert [line["trace_id"] for line in lines if line["event"] == "service.started"] == ids
        assert [span.name for span in sink.spans] == ["GET /<word>"]
