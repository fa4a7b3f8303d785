"""Every `OTEL_*` variable of the table does what the specification says, or is refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contract import test_telemetry_plugins as plugins
from tests.otlp_sink import OtlpSink
from tests.unit import test_telemetry_providers as providers
from tests.unit import test_telemetry_transport as transport
from tests.unit.test_telemetry_providers import run
from transcript_service.settings import Settings
from transcript_service.telemetry import service_identity
from transcript_service.telemetry.environment import VARIABLES, apply_defaults, problems
from transcript_service.telemetry.providers import service_resource

_WORK = """
import requests
from opentelemetry import trace
there = trace.SpanContext(7, 7, is_remote=True, trace_flags=trace.TraceFlags(1))
with telemetry.span("work", **{"long": "x" * 50, "a": 1, "b": 2}) as work:
    for number in range(3):
        work.add_event("something", {"a": number, "b": number})
        work.add_link(there, {"a": number, "b": number})
    log.info("service.started", text="y" * 50)
    telemetry.instruments.JOB_DURATION.record(0.5, outcome="success")
telemetry.instruments.JOB_DURATION.record(0.5, outcome="error")
flush()
running.shutdown()
"""


def _resource(sink: OtlpSink) -> Any:
    return sink.spans[0].resource


def _attribute(sink: OtlpSink) -> Any:
    return sink.spans[0].attributes["long"]


def _texts(sink: OtlpSink) -> set[str]:
    (line,) = (line for line in sink.logs if line.event_name == "service.started")
    return {value for value in line.attributes.values() if set(str(value)) == {"y"}}


def _shape(sink: OtlpSink) -> Any:
    """How many attributes, events and links a span has, and those how many attributes."""
    (span,) = sink.spans
    parts = [[len(attributes) for attributes in part] for part in (span.events, span.links)]
    return len(span.attributes), *parts


def _traces_of_exemplars(sink: OtlpSink) -> set[bool]:
    """Whether the exemplars of a histogram lead to a trace."""
    return {
        bool(trace_id.strip("0")) for name, trace_id in sink.exemplars if name == "job.duration"
    }


def _about_itself(sink: OtlpSink) -> bool:
    return any(name.startswith("otel.sdk.metric_reader") for name in sink.kinds)


TABLE: list[tuple[dict[str, str], Callable[[OtlpSink], Any], Any]] = [
    (
        {},
        lambda s: (_shape(s), s.kinds["job.duration"], _traces_of_exemplars(s), _about_itself(s)),
        ((3, [2, 2, 2], [2, 2, 2]), "exponential_histogram", {True}, True),
    ),
    ({"OTEL_SERVICE_NAME": "mine"}, lambda s: _resource(s)["service.name"], "mine"),
    (
        {
            "OTEL_RESOURCE_ATTRIBUTES": "service.name=a,team=b,db.password=hunter22",
            "SERVICE_NAME": "c",
        },
        lambda s: [_resource(s)[name] for name in ("service.name", "team", "db.password")],
        ["a", "b", "[REDACTED]"],
    ),
    ({"OTEL_SERVICE_NAME": "", "SERVICE_NAME": "c"}, lambda s: _resource(s)["service.name"], "c"),
    (
        {"OTEL_TRACES_EXPORTER": "none"},
        lambda s: (len(s.spans), len(s.logs) > 0, len(s.points) > 0),
        (0, True, True),
    ),
    (
        {"OTEL_LOGS_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"},
        lambda s: (len(s.spans), len(s.logs), len(s.points)),
        (1, 0, 0),
    ),
    ({"OTEL_TRACES_EXPORTER": "console,otlp"}, lambda s: len(s.spans), 1),
    ({"OTEL_TRACES_SAMPLER": "always_off"}, lambda s: len(s.spans), 0),
    (
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"},
        lambda s: len(s.spans),
        0,
    ),
    (
        {"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "9", "OTEL_ATTRIBUTE_COUNT_LIMIT": "2"},
        # Of more than the limit, the SDK keeps the latest.
        lambda s: (_shape(s)[0], len(s.logs[0].attributes), "x" * 50 in str(s.bodies)),
        (2, 2, False),
    ),
    (
        {
            "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "8",
            "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT": "7",
        },
        lambda s: (_attribute(s), _texts(s)),
        ("x" * 8, {"y" * 7}),
    ),
    (
        {
            "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "1",
            "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT": "2",
            "OTEL_SPAN_EVENT_COUNT_LIMIT": "2",
            "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "1",
            "OTEL_SPAN_LINK_COUNT_LIMIT": "1",
            "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": "0",
        },
        lambda s: (*_shape(s), len(s.logs[0].attributes)),
        (1, [1, 1], [0], 2),
    ),
    ({"OTEL_SDK_DISABLED": "true"}, lambda s: s.requests, 0),
    (
        {
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "explicit_bucket_histogram",
            "OTEL_METRICS_EXEMPLAR_FILTER": "always_off",
            "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": "false",
        },
        lambda s: (s.kinds["job.duration"], _traces_of_exemplars(s), _about_itself(s)),
        ("histogram", set(), False),
    ),
    (
        {"OTEL_METRICS_EXEMPLAR_FILTER": "always_on"},
        _traces_of_exemplars,
        {True, False},
    ),
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


def test_grpc_carries_the_same() -> None:
    """What the SDK does before it sends is the same whatever it sends with: all at once."""
    together = {
        "OTEL_SERVICE_NAME": "mine",
        "OTEL_RESOURCE_ATTRIBUTES": "team=b",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "1.0",
        "OTEL_SPAN_EVENT_COUNT_LIMIT": "2",
        "OTEL_SPAN_LINK_COUNT_LIMIT": "1",
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "8",
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "explicit_bucket_histogram",
        "OTEL_METRICS_EXEMPLAR_FILTER": "always_off",
    }
    with OtlpSink() as sink, sink.over_grpc() as address:
        run(_WORK, address, OTEL_EXPORTER_OTLP_PROTOCOL="grpc", **together)
    assert not sink.headers  # nothing came over HTTP
    assert (_resource(sink)["service.name"], _resource(sink)["team"]) == ("mine", "b")
    assert _shape(sink) == (3, [2, 2], [2])
    assert _attribute(sink) == "x" * 8
    assert _texts(sink) == {"y" * 50}
    assert sink.kinds["job.duration"] == "histogram"
    assert _traces_of_exemplars(sink) == set()
    assert sink.counter("job.duration") == 2


BATCHES = {
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "3",
    "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "2",
    "OTEL_BSP_MAX_QUEUE_SIZE": "12",
    "OTEL_BLRP_MAX_QUEUE_SIZE": "11",
}


_TWENTY = """
for _ in range(20):
    with telemetry.span("work"):
        log.info("service.started")
ledgers = [queue.ledger() for queue in running.queues]
print(json.dumps([ledger.waiting + ledger.in_flight for ledger in ledgers]))
running.shutdown(0.5)
"""


def test_a_batch_is_no_larger_than_was_asked_for() -> None:
    with OtlpSink() as sink:
        run(_TWENTY.replace("0.5", "60"), sink.url, **BATCHES | {"OTEL_BSP_MAX_QUEUE_SIZE": "100"})
    spans = [count for signal, count in sink.batches if signal == "traces"]
    lines = [count for signal, count in sink.batches if signal == "logs"]
    assert (max(spans), sum(spans), max(lines)) == (3, 20, 2)


def test_no_more_wait_than_was_asked_for() -> None:
    stdout, _ = run(_TWENTY, "http://127.0.0.1:1", **BATCHES)
    assert json.loads(stdout.splitlines()[0]) == [12, 11]


DELAYS = {
    "OTEL_BSP_SCHEDULE_DELAY": "50",
    "OTEL_BLRP_SCHEDULE_DELAY": "3600000",
    "OTEL_METRIC_EXPORT_INTERVAL": "100",
}


@pytest.mark.parametrize(
    ("timeout", "wait_s"),
    [({}, 120), ({"OTEL_METRIC_EXPORT_TIMEOUT": "1"}, 2)],
    ids=["", "timeout"],
)
def test_what_is_sent_leaves_when_it_was_asked_to(timeout: dict[str, str], wait_s: int) -> None:
    with OtlpSink() as sink:
        stdout, _ = run(
            """
calls = []
slow = lambda _: calls.append(time.sleep(0.05)) or []
running.meter_provider.get_meter("slow").create_observable_gauge("slow", [slow])
with telemetry.span("work"):
    log.info("service.started")
spans, lines = running.queues
end = time.monotonic() + WAIT_S
while not spans.ledger().delivered or (len(calls) < 3 and time.monotonic() < end):
    time.sleep(0.01)
print(lines.ledger().delivered, flush=True)
os._exit(0)
""".replace("WAIT_S", str(wait_s)),
            sink.url,
            **DELAYS,
            **timeout,
        )
    assert stdout.splitlines()[-1] == "0"
    assert [span.name for span in sink.spans] == ["work"]
    # Reading the instruments takes longer than allowed: nothing is sent.
    assert bool(sink.points) is not bool(timeout)


@pytest.mark.parametrize(
    ("names", "sent", "taken"),
    [
        ("", [], {}),
        ("tracecontext,baggage", ["baggage", "traceparent", "tracestate"], {"a": "b"}),
        ("baggage", ["baggage"], {"a": "b"}),
        ("none", [], {}),
    ],
)
def test_headers_are_read_and_written_as_propagators_say(
    names: str, sent: list[str], taken: dict[str, str]
) -> None:
    stdout, lines = run(
        """
from opentelemetry import baggage, propagate, trace
there = {"traceparent": f"00-{7:032x}-{7:016x}-01", "tracestate": "x=y", "baggage": "a=b"}
context, out = propagate.extract(there), {}
propagate.inject(out, context)
print(json.dumps([sorted(out), dict(baggage.get_all(context))]))
running.shutdown(0.1)
""",
        "http://127.0.0.1:1",
        OTEL_PROPAGATORS=names,
    )
    assert json.loads(stdout.splitlines()[-1]) == [sent, taken]
    assert not _invalid(lines)


def test_instrumentations_read_theirs() -> None:
    with OtlpSink() as sink:
        run(
            """
from flask import Flask
app = Flask("x")
telemetry.instrument_app(app)
app.add_url_rule("/", view_func=lambda: "x")
app.test_client().get("/")
running.shutdown()
""",
            sink.url,
            OTEL_SEMCONV_STABILITY_OPT_IN="http/dup",
        )
    assert {"http.server.duration", "http.server.request.duration"} <= sink.kinds.keys()


def _invalid(lines: list[dict[str, Any]]) -> dict[str, str]:
    said = (line for line in lines if line["event"] == "telemetry.environment.invalid")
    return {line["variable"]: line["reason"] for line in said}


def test_an_empty_value_counts_as_not_set() -> None:
    with OtlpSink() as sink:
        empty = {variable.name: "" for variable in VARIABLES}
        _, lines = run(_WORK, **{"endpoint": ""} | empty, HTTP_PROXY=sink.url)
        assert not _invalid(lines)
        # The default address is the Collector's on this machine; the proxy stands in for it.
        assert _shape(sink) == (3, [2, 2, 2], [2, 2, 2])
        assert sink.counter("job.duration") == 2


SENSELESS = {
    "ENDPOINT": "http://[",
    "HEADERS": "hunter2hunter2",
    "TIMEOUT": "soon",
    "COMPRESSION": "zip",
    "PROTOCOL": "http/json",
    "INSECURE": "perhaps",
    "CERTIFICATE": "/no/such/file",
    "KEY": "/no/such/file",
    "DELAY": "1e3x",
    "SIZE": "-1",
    "INTERVAL": "nan",
    "LIMIT": "many",
    "FILTER": "some",
    "AGGREGATION": "heap",
    "PREFERENCE": "eternal",
    "SAMPLER": "sometimes",
    "PROPAGATORS": "pigeon",
    "PROVIDER": "nobody",
    "EXPORTER": "fax",
    "DISABLED": "perhaps",
    "ENABLED": "perhaps",
    "ATTRIBUTES": "only-words",
    "LEVEL": "loud",
    "FILE": "/no/such/file",
}
"""By the last word of a variable's name."""
# Any text is one.
ANY_TEXT = {
    "OTEL_SERVICE_NAME",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_PYTHON_FLASK_EXCLUDED_URLS",
    "OTEL_SEMCONV_STABILITY_OPT_IN",
}


def test_what_makes_no_sense_is_named_and_the_service_runs() -> None:
    checked = {variable.name for variable in VARIABLES} - ANY_TEXT
    environ = {name: SENSELESS[name.rpartition("_")[2]] for name in checked}
    with OtlpSink() as sink:
        _, lines = run(_WORK, **{"endpoint": ""} | environ, HTTP_PROXY=sink.url)
        assert len(sink.spans) == 1
    assert set(_invalid(lines)) == checked
    assert "hunter2" not in str(lines)


@pytest.mark.parametrize(
    "written",
    [
        "hunter2hunter2",
        "x-key=other,hunter2hunter2",
        # A colon where "=" belongs; what ends in padding looks like a pair.
        "x-key: hunter2hunter2==,x-other=1",
        "hunter2hunter2/hunter2=",
    ],
)
@pytest.mark.parametrize("name", ["HEADERS", "TRACES_HEADERS"])
def test_badly_written_headers_are_no_reason_to_print_a_secret(name: str, written: str) -> None:
    with OtlpSink() as sink:
        variable = {f"OTEL_EXPORTER_OTLP_{name}": written}
        stdout, lines = run(_WORK, sink.url, **variable)
        assert len(sink.spans) == 1
    assert "hunter2" not in f"{stdout}{lines}{sink.bodies}"
    said = {line["event"] for line in lines}
    assert said & {"telemetry.environment.invalid", "telemetry.sdk"}


def test_an_argument_makes_sense_to_its_sampler() -> None:
    given = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"}
    with OtlpSink() as sink:
        _, lines = run(_WORK, sink.url, **given)
        assert len(sink.spans) == 1
    assert list(_invalid(lines)) == ["OTEL_TRACES_SAMPLER_ARG"]


def test_every_variable_of_the_table_is_tried() -> None:
    files = [Path(str(module.__file__)) for module in (plugins, providers)]
    text = "".join(file.read_text() for file in (Path(__file__), *files))
    tried = set(re.findall(r"OTEL_\w+", text))
    # For all signals and for each one.
    found = re.findall(r"[A-Z_]+", Path(str(transport.__file__)).read_text())
    words = {word.removeprefix("OTEL_EXPORTER_OTLP").strip("_") for word in found}
    signals = ("", "TRACES_", "METRICS_", "LOGS_")
    tried |= {f"OTEL_EXPORTER_OTLP_{signal}{word}" for signal in signals for word in words}
    nobody = {variable.name for variable in VARIABLES if variable.heeded_by == "nobody"}
    assert {variable.name for variable in VARIABLES} - tried - nobody == set()


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
