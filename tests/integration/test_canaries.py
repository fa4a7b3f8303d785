"""The whole stack is searched for secrets that went through every way out of the service.

The positive control is pushed through the same ways and has to be found in the same places
by the same search.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import psutil
import pytest
import requests

from stack.supervise import Supervisor
from tests.at_rest import badger_blocks, data_of, texts
from tests.canaries import FORMS, KEYS, PREFIX, build
from tests.canary_app import CONTROL, ENTRANCES, leaks, push
from tests.chromium import running_chromium
from tests.gunicorn_process import Gunicorn, gunicorn
from tests.live import FAST_TELEMETRY, LiveStack, wait_for
from tests.ports import free_port
from tests.serving import serving

SERVICE = "canary-service"
# Pushed only while the stores do not listen.
MARK = "mArK-oF-tHe-qUeUe"
ALERT = {
    "version": "4",
    "groupKey": "{}:{alertname='Canary'}",
    "status": "firing",
    "receiver": "service",
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "Canary", "severity": "warning", "stage": "asr"},
            "annotations": {
                "summary": f"{CONTROL} token={build(830)}",
                "description": f"https://u:{build(831)}@h/?sig={build(832)}",
            },
            "startsAt": "2026-01-01T00:00:00Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "fingerprint": "0123456789abcdef",
        }
    ],
}


@pytest.fixture(scope="module")
def leaky(live: LiveStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    """A worker of its own beside the stack's, sending to the same Collector."""
    folder = tmp_path_factory.mktemp("canary")
    environ = {
        **FAST_TELEMETRY,
        "SERVICE_NAME": SERVICE,
        "OTEL_EXPORTER_OTLP_ENDPOINT": live.layout.url("otlp-http"),
        "PROMETHEUS_URL": live.layout.engine("prometheus"),
        "JAEGER_URL": live.layout.engine("jaeger"),
        "VICTORIALOGS_URL": live.layout.engine("victorialogs"),
        "ALERTMANAGER_URL": live.layout.engine("alertmanager"),
        "LOG_RATE_LIMIT_PER_MIN": "0",
        "DASHBOARD_OPEN_ON_LOOPBACK": "1",
        "PROXY_PASSWORD": f"plain{build(820)}word",
        # Prometheus has them in `target_info`.
        "OTEL_RESOURCE_ATTRIBUTES": f"db.password={build(822)},x=token={build(823)}",
    }
    with gunicorn(folder, environ, app="tests.canary_app:create_app()", workers=1) as running:
        push(running.port)
        requests.post(f"http://127.0.0.1:{running.port}/api/alerts/webhook", json=ALERT, timeout=20)
        yield running


def in_jaeger(live: LiveStack, running: Gunicorn) -> str:
    operations = requests.get(  # null while there is none
        live.layout.engine("jaeger", f"/api/services/{SERVICE}/operations"), timeout=20
    ).json()["data"]
    found = [
        requests.get(
            live.layout.engine("jaeger", "/api/traces"),
            {"service": SERVICE, "limit": 1500, "lookback": "1h", "operation": operation},
            timeout=30,
        ).text
        for operation in operations or []
    ]
    return "\n".join(found)


def in_victorialogs(live: LiveStack, running: Gunicorn) -> str:
    lines = live.log_lines(f'{{"service.name"="{SERVICE}"}}')
    return "\n".join(map(repr, lines))


def in_prometheus(live: LiveStack, running: Gunicorn) -> str:
    series = requests.get(
        live.layout.engine("prometheus", "/api/v1/series"),
        {"match[]": '{__name__=~".+"}'},
        timeout=30,
    ).text
    return series + repr(live.exemplars('{job="' + SERVICE + '"}'))


def on_stderr(live: LiveStack, running: Gunicorn) -> str:
    return running.log()


def in_dashboard(live: LiveStack, running: Gunicorn) -> str:
    """The dashboard API of the leaky service: every block, the export, traces, alerts."""
    base = f"http://127.0.0.1:{running.port}/api/dashboard/metrics"
    kinds = ("", "/performance", "/health", "/proxy", "/browser-contexts", "/alerts", "/export")
    return "\n".join(requests.get(base + kind, timeout=30).text for kind in kinds)


def in_files(live: LiveStack, running: Gunicorn) -> str:
    """The engines' logs (the Collector's at debug level), its queue, write-ahead logs."""
    assert "\tdebug\t" in live.layout.log("otel-collector").read_text()
    paths = (path for path in Path(live.layout.state_dir).rglob("*") if path.is_file())
    return "\n".join(data_of(path).decode("latin-1") for path in paths)


PLACES = {
    "stderr": on_stderr,
    "VictoriaLogs": in_victorialogs,
    "Jaeger": in_jaeger,
    "Prometheus": in_prometheus,
    "the dashboard API and alert payloads": in_dashboard,
    "files of the stack": in_files,
}


@pytest.mark.parametrize("place", PLACES)
def test_no_secret_arrives_anywhere_but_what_is_none_does(
    live: LiveStack, leaky: Gunicorn, place: str
) -> None:
    search = PLACES[place]

    def arrived() -> str | None:
        text = search(live, leaky)
        return text if CONTROL in text else None

    text = wait_for(f"the control in {place}", arrived)
    assert leaks(text) == []


def trace_ids(live: LiveStack, operation: str) -> list[str]:
    """Traces of the leaky service that hold a span of this name."""
    answer = requests.get(
        live.layout.engine("jaeger", "/api/traces"),
        {"service": SERVICE, "limit": "100", "lookback": "1h", "operation": operation},
        timeout=30,
    ).json()
    return [str(trace["traceID"]) for trace in answer["data"]]


def all_traces(live: LiveStack, operation: str, count: int) -> list[str]:
    """The same, once there are so many."""

    def enough() -> list[str] | None:
        found = trace_ids(live, operation)
        return found if len(found) >= count else None

    return wait_for(f"{count} traces of {operation}", enough)


def test_the_trace_pages_as_a_browser_shows_them_hold_none(
    live: LiveStack, leaky: Gunicorn
) -> None:
    control = all_traces(live, "GET /control", 1)[0]
    leaking = [
        *all_traces(live, "GET /leak/keys", 1),
        *all_traces(live, "GET /leak/environment", 1),
        *all_traces(live, "GET /leak/<entrance>", len(ENTRANCES)),
        *all_traces(live, "GET /leak/uncaught/<int:form>", 3)[:3],
    ]
    shown = {}
    with running_chromium() as browser:
        page = browser.new_page()
        for trace_id in [control, *leaking]:
            page.goto(f"http://127.0.0.1:{leaky.port}/dashboard/trace/{trace_id}", timeout=60_000)
            page.wait_for_selector("#main[aria-busy=false]", timeout=60_000)
            shown[trace_id] = page.content()
    assert CONTROL in shown[control]
    # The spans of the others are shown, too: what is not there could not leak.
    assert all("canary." in shown[trace_id] for trace_id in leaking[:2])
    assert {trace_id: leaks(text) for trace_id, text in shown.items() if leaks(text)} == {}


class Receiver:
    """Keeps what is posted to it while the context is open."""

    def __enter__(self) -> Receiver:
        self.bodies: list[str] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.bodies.append(body.decode())
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

        self._open = ExitStack()
        self.url = f"http://127.0.0.1:{self._open.enter_context(serving(Handler))}/"
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()


@contextmanager
def alertmanager(live: LiveStack, folder: Path, receiver: str) -> Iterator[str]:
    """The real one, which tells `receiver` everything; its address."""
    config = folder / "alertmanager.yml"
    config.write_text(
        "route: {receiver: all, group_by: ['...'], group_wait: 0s}\n"
        f"receivers: [{{name: all, webhook_configs: [{{url: '{receiver}'}}]}}]\n"
    )
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                str(live.layout.binary("alertmanager")),
                f"--config.file={config}",
                f"--storage.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--cluster.listen-address=",
            ],
            stderr=log,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def test_what_alertmanager_posts_about_series_of_the_service_holds_none(
    live: LiveStack, leaky: Gunicorn, tmp_path: Path
) -> None:
    def series() -> list[dict[str, str]] | None:
        """The labels that secrets were put into."""
        found = requests.get(
            live.layout.engine("prometheus", "/api/v1/series"),
            {"match[]": f'alerts_received_total{{job="{SERVICE}"}}'},
            timeout=30,
        ).json()["data"]
        return found if any(labels["alertname"] == CONTROL for labels in found) else None

    # As a rule with a template would make them.
    alerts = [
        {
            "labels": {
                **{key: value for key, value in labels.items() if key != "__name__"},
                "severity": "warning",
            },
            "annotations": {"summary": f"So many notifications of {labels['alertname']}."},
        }
        for labels in wait_for("the control among the labels", series)
    ]
    with Receiver() as receiver, alertmanager(live, tmp_path, receiver.url) as address:
        wait_for("Alertmanager", lambda: requests.get(f"{address}/-/ready", timeout=5).ok)
        requests.post(f"{address}/api/v2/alerts", json=alerts, timeout=20).raise_for_status()
        wait_for("a notification for each", lambda: len(receiver.bodies) >= len(alerts))
    posted = "\n".join(receiver.bodies)
    assert f"So many notifications of {CONTROL}." in posted
    assert '"version":"4"' in posted
    assert leaks(posted) == []


def test_nothing_that_waits_in_the_collectors_queue_on_disk_is_one(
    live: LiveStack, leaky: Gunicorn
) -> None:
    stores = [psutil.Process(live.pid(name)) for name in ("jaeger", "victorialogs", "prometheus")]
    queue = live.layout.data("otel-collector") / "queue"
    waiting = {"jaeger_traces", "victorialogs_logs", "prometheus_metrics"}

    def written() -> dict[str, str] | None:
        files = {
            path.name: path.read_bytes().decode("latin-1")
            for path in queue.iterdir()
            if path.is_file()
        }
        full = {name for name in waiting for path in files if name in path and MARK in files[path]}
        return files if full == waiting else None

    try:
        for store in stores:
            store.suspend()
        push(leaky.port)
        # Not pushed before, so it waits here and nowhere else; by the ways of all three signals.
        assert leaky.get(f"/mark/{MARK}") == b"marked"
        files = wait_for("the mark in all three queues", written)
    finally:
        for store in stores:
            store.resume()
    assert {name: leaks(text) for name, text in files.items() if leaks(text)} == {}


def test_what_victorialogs_and_jaeger_have_packed_and_put_away_holds_none(
    live: LiveStack, leaky: Gunicorn
) -> None:
    def parts() -> str | None:
        text = "\n".join(texts(live.layout.data("victorialogs") / "partitions"))
        return text if CONTROL in text else None

    assert leaks(wait_for("the control in VictoriaLogs' parts", parts)) == []

    # Jaeger writes its tables when it stops or, if that took too long, when it starts again.
    supervisor = Supervisor(live.layout)
    supervisor.stop(["jaeger"])
    supervisor.launch("jaeger")
    folder = live.layout.data("jaeger")

    def tables() -> bool:
        return any(
            CONTROL.encode() in block
            for path in folder.rglob("*.sst")
            for block in badger_blocks(data_of(path))
        )

    wait_for("the control in Jaeger's tables", tables)
    assert leaks("\n".join(texts(folder))) == []
    wait_for("Jaeger again", lambda: trace_ids(live, "GET /control"))


def test_what_was_pushed_is_enough_to_mean_something(live: LiveStack, leaky: Gunicorn) -> None:
    assert len(FORMS) >= 60
    assert len({form.format(c=build(n)) for n, form in enumerate(FORMS)}) == len(FORMS)
    assert len(ENTRANCES) >= 15
    assert len(KEYS) >= 40
    spans = wait_for(
        "the spans in Jaeger",
        lambda: (text := in_jaeger(live, leaky)) and text.count('"spanID"') > 300 and text,
    )
    assert PREFIX not in str(spans)
