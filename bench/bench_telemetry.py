"""What telemetry costs: a log line, a registry call, masking, a request with everything on.

Run alone with `python -m bench telemetry`; takes ten minutes or so. Measured in CPU time of the
thread or process where that is the cost, so that other work on the machine disturbs little;
peers are measured in turn, in an order drawn at random, and where rounds are short the best one
counts.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.metadata import version
from itertools import permutations
from pathlib import Path
from statistics import mean, median, quantiles
from typing import Any, NamedTuple

import orjson
import structlog
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricReader
from pythonjsonlogger.orjson import OrjsonFormatter

from bench.rows import Row, row
from simulator.catalogue import by_title
from simulator.testing import running_simulator
from tests.gunicorn_process import CHECKOUT, Gunicorn, gunicorn
from tests.otlp_sink import OtlpSink
from tests.ports import free_port
from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.telemetry import get_logger, instruments, log_context, logs, span
from transcript_service.telemetry.export_queue import Delivery, ExportQueue
from transcript_service.telemetry.otlp import QueueProcessor
from transcript_service.telemetry.redaction import redact_mapping, redact_text

_row = partial(row, "telemetry")
ROUNDS = 40
CALLS = 500
STARTS = 6  # every order of three once, see `_cpu`
_draw = random.Random(6)
FIELDS: dict[str, Any] = {
    "video_id": "dQw4w9WgXcQ",
    "stage": "timedtext",
    "attempt": 1,
    "outcome": "success",
    "duration_s": 0.251,
    "profile": "desktop",
    "proxy_used": False,
    "status": 200,
}
COLLECT = "/bench/collect"
PATH = f"/api/transcripts/{by_title('Bread for a Village').id}?lang=en"
SIGNED_URL = "https://rr3---sn-4g5e6nez.googlevideo.com/videoplayback?" + "&".join(
    f"p{number}=v{number:04d}abcdefgh" for number in range(40)
)


_VERSIONS = (
    "opentelemetry-sdk",
    "opentelemetry-instrumentation-flask",
    "structlog",
    "orjson",
    "python-json-logger",
    "flask",
    "gunicorn",
)


def run() -> list[Row]:
    """All rows."""
    versions = ", ".join(f"{name} {version(name)}" for name in _VERSIONS)
    print(f"Python {platform.python_version()}, {versions}", file=sys.stderr, flush=True)
    parts = (_log_lines, _registry, _redaction, _percentiles, _cpu, _http)
    return [one for part in parts for one in part()]


def _best_us(**candidates: Callable[[], object]) -> dict[str, float]:
    """CPU microseconds of one call, the best of the rounds, candidates taking turns."""
    best = dict.fromkeys(candidates, float("inf"))
    for _ in range(ROUNDS):
        for name, call in candidates.items():
            began = time.thread_time()
            for _ in range(CALLS):
                call()
            best[name] = min(best[name], (time.thread_time() - began) / CALLS * 1e6)
    return best


class _OrjsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return orjson.dumps(
            {"timestamp": record.created, "level": record.levelname, **record.__dict__["fields"]}
        ).decode()


def _log_lines() -> list[Row]:
    with Path(os.devnull).open("wb") as sink, Path(os.devnull).open("w") as text_sink:
        descriptor = sink.fileno()
        structlog.configure(
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(serializer=orjson.dumps),
            ],
            logger_factory=structlog.BytesLoggerFactory(sink),
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            cache_logger_on_first_use=True,
        )
        bare = structlog.get_logger()
        standard = logging.Logger("bench")
        handler = logging.StreamHandler(text_sink)
        handler.setFormatter(_OrjsonFormatter())
        standard.addHandler(handler)
        json_logger = logging.Logger("bench.json")
        json_handler = logging.StreamHandler(text_sink)
        json_handler.setFormatter(
            OrjsonFormatter("{levelname}{message}", style="{", timestamp=True)
        )
        json_logger.addHandler(json_handler)
        floor = {
            "timestamp": "2026-01-01T00:00:00.000000Z",
            "level": "info",
            "event": "x",
            **FIELDS,
        }
        queue: ExportQueue[ReadableLogRecord] = ExportQueue("logs", lambda _: Delivery.DELIVERED)
        provider = LoggerProvider(shutdown_on_exit=False, meter_provider=NoOpMeterProvider())
        provider.add_log_record_processor(QueueProcessor(queue))
        to_otlp = provider.get_logger("bench")
        log = get_logger("bench")
        with InMemoryTelemetry():
            logs.stderr.write = lambda line: os.write(descriptor, line)  # type: ignore[method-assign, assignment]
            with span("bench"), log_context(video_id="dQw4w9WgXcQ"):
                rest = {key: value for key, value in FIELDS.items() if key != "video_id"}

                def ours() -> None:
                    logs.otlp.logger = None
                    log.info("transcript.stage.finished", **rest)

                def ours_and_otlp() -> None:
                    logs.otlp.logger = to_otlp
                    log.info("transcript.stage.finished", **rest)

                times = _best_us(
                    floor=lambda: os.write(descriptor, orjson.dumps(floor)),
                    structlog=lambda: bare.info("transcript.stage.finished", **FIELDS),
                    standard=lambda: standard.info("event", extra={"fields": FIELDS}),
                    json_logger=lambda: json_logger.info("event", extra=FIELDS),
                    ours=ours,
                    otlp=ours_and_otlp,
                )
            logs.otlp.logger = None
        queue.close(1.0)
        structlog.reset_defaults()
    bare_name = "bare structlog + orjson"
    return [
        _row("log line, masked, with trace and context", times["ours"], "µs CPU", bare_name,
             times["structlog"], 2.0),
        _row("the same, queued for OTLP too", times["otlp"], "µs CPU", bare_name,
             times["structlog"]),
        _row("log line against stdlib logging", times["ours"], "µs CPU",
             "stdlib logging + orjson formatter", times["standard"]),
        _row("log line against python-json-logger", times["ours"], "µs CPU",
             "python-json-logger + orjson", times["json_logger"]),
        _row("log line against the floor", times["ours"], "µs CPU", "orjson.dumps + os.write",
             times["floor"]),
    ]  # fmt: skip


def _registry() -> list[Row]:
    """Calls and their part of the collection that counts them; peers pay for one as well."""
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("raw")
    counter, histogram = meter.create_counter("raw.c"), meter.create_histogram("raw.h")
    attributes = {"stage": "asr", "outcome": "success"}
    calls = 20_000

    def cost_us(call: Callable[[], object], reads: MetricReader) -> float:
        reads.collect()
        began = time.thread_time()
        for _ in range(calls):
            call()
        reads.collect()
        return (time.thread_time() - began) / calls * 1e6

    best: dict[str, float] = {}
    with InMemoryTelemetry() as telemetry:
        candidates: dict[str, tuple[Callable[[], object], MetricReader]] = {
            "raw_counter": (
                lambda: counter.add(1, {"outcome": "success", "source": "asr"}),
                reader,
            ),
            "counter": (
                lambda: instruments.TRANSCRIPT_REQUESTS.add(1, outcome="success", source="asr"),
                telemetry.reader,
            ),
            "raw_histogram": (lambda: histogram.record(0.1, attributes), reader),
            "histogram": (
                lambda: instruments.TRANSCRIPT_STAGE_DURATION.record(
                    0.1, stage="asr", outcome="success"
                ),
                telemetry.reader,
            ),
        }
        for _ in range(20):
            for name, candidate in candidates.items():
                best[name] = min(best.get(name, float("inf")), cost_us(*candidate))
    return [
        _row("registry counter", best["counter"], "µs CPU", "raw OpenTelemetry counter",
             best["raw_counter"]),
        _row("registry histogram", best["histogram"], "µs CPU", "raw OpenTelemetry histogram",
             best["raw_histogram"]),
    ]  # fmt: skip


def _redaction() -> list[Row]:
    times = _best_us(
        floor=lambda: orjson.dumps(FIELDS),
        clean=lambda: redact_mapping(FIELDS),
        url=lambda: redact_text(SIGNED_URL),
    )
    return [
        _row("masking a record of 8 harmless fields", times["clean"], "µs CPU",
             "orjson.dumps of it", times["floor"]),
        _row(f"masking a signed URL of {len(SIGNED_URL)} characters", times["url"], "µs CPU",
             "a harmless record", times["clean"]),
    ]  # fmt: skip


class _sink:  # noqa: N801 - a context manager of this module only
    """An OTLP stand-in in a process of its own, so that its CPU is not measured."""

    def __enter__(self) -> str:
        code = (
            "import sys, time; from tests.otlp_sink import OtlpSink\n"
            "s = OtlpSink(); s._traces = s._logs = s._metrics = lambda body: s.bodies.clear()\n"
            "s.__enter__(); print(s.url, flush=True); sys.stdin.read()"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def __exit__(self, *_: object) -> None:
        self._process.communicate("")


class _Server:
    """The service under gunicorn with one worker, asked over one kept-alive connection."""

    def __init__(self, running: Gunicorn) -> None:
        (self._pid,) = running.workers()
        self._connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)

    def get(self, path: str) -> bytes:
        try:
            self._connection.request("GET", path)
            response = self._connection.getresponse()
        except ConnectionError:  # it closes connections that were idle while the others had a turn
            self._connection.close()
            self._connection.request("GET", path)
            response = self._connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise RuntimeError(f"{path} answered {response.status}: {body[:300]!r}")
        return body

    def cpu_s(self) -> float:
        """User and system time of the worker since its start, all threads, to the nanosecond."""
        tasks = Path(f"/proc/{self._pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


class _Kind(NamedTuple):
    """How a server is run."""

    environ: dict[str, str]
    config: str = "transcript_service.gunicorn_conf"


@contextmanager
def _servers(kinds: dict[str, _Kind], **environ: str) -> Iterator[dict[str, _Server]]:
    """The real service once for each kind, all running at the same time."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        simulator = stack.enter_context(running_simulator(folder))
        servers = {}
        for name, kind in kinds.items():
            place = folder / name
            place.mkdir()
            common = {
                "YOUTUBE_RESOLVE_TO": simulator.resolve_to,
                "YOUTUBE_CA_FILE": str(simulator.ca_file),
                "LOG_RATE_LIMIT_PER_MIN": "0",
            }
            app = "bench.app:create_app()"
            given = common | environ | kind.environ
            running = stack.enter_context(gunicorn(place, given, app, 1, kind.config))
            servers[name] = _Server(running)
        yield servers


def _in_turns(names: Iterable[str], rounds: int) -> Iterator[str]:
    """Each once a round, in an order drawn anew.

    What the machine does meanwhile meets all alike. No fixed order: a server that is asked twice
    in a row finds the processor's caches warm, so that must happen to all as often.
    """
    order = list(names)
    for _ in range(rounds):
        _draw.shuffle(order)
        yield from order


def _cpu() -> list[Row]:
    """CPU (user and system) of a worker per request, counting, encoding and sending included.

    Each kind against the same service without telemetry and log lines. Two processes of the
    same kind differ by several per cent for as long as they live, and the one started second
    takes 60 µs less a request (ten starts of two alike): each row is the mean over several
    starts, in every order as often.
    """
    rows = []
    with _sink() as endpoint:
        sending = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_METRIC_EXPORT_INTERVAL": "3600000",  # collected when it is asked for
        }
        none = _Kind({"BENCH_TELEMETRY": "none"}, "bench.ordinary")
        kinds = {"ours": _Kind(sending), "peer": _Kind(sending, "bench.ordinary"), "none": none}
        for name, cache, requests in (("uncached", "false", 300), ("cached", "true", 1500)):
            orders = list(permutations(kinds))
            _draw.shuffle(orders)
            used: dict[str, list[float]] = {kind: [] for kind in kinds}
            for order in orders[:STARTS]:
                ordered = {kind: kinds[kind] for kind in order}
                for kind, value in _cpu_once(ordered, requests, cache).items():
                    used[kind].append(value)
            ours, peer, bare = (mean(used[kind]) for kind in ("ours", "peer", "none"))
            rows += [
                _row(f"CPU of our telemetry in a request ({name})", ours - bare, "µs CPU",
                     "ordinary instrumentation", peer - bare, 1.0),
                _row(f"the request with it ({name})", ours, "µs CPU", "without telemetry", bare),
            ]  # fmt: skip
    return rows


def _cpu_once(kinds: dict[str, _Kind], requests: int, cache: str) -> dict[str, float]:
    """CPU microseconds per request of each kind.

    With one collection of metrics, which counts what the requests measured. What a collection
    costs by itself, however many requests there were, is measured behind it and left out.
    """
    with _servers(kinds, ENABLE_TRANSCRIPT_CACHE=cache) as servers:
        for server in servers.values():
            for _ in range(30):
                server.get(PATH)
            server.get(COLLECT)
        settled = partial(time.sleep, 2.5)  # every span and line is sent
        settled()
        began = {name: server.cpu_s() for name, server in servers.items()}
        for name in _in_turns(servers, requests):
            servers[name].get(PATH)
        for server in servers.values():
            server.get(COLLECT)
        settled()
        middle = {name: server.cpu_s() for name, server in servers.items()}
        for server in servers.values():
            server.get(COLLECT)
        settled()
        return {
            name: (2 * middle[name] - began[name] - server.cpu_s()) / requests * 1e6
            for name, server in servers.items()
        }


def _http() -> list[Row]:
    """An uncached transcript over HTTP: telemetry on, off, Collector dead, Collector hanging."""
    dead = f"http://127.0.0.1:{free_port()}"
    with _sink() as alive, OtlpSink(status=0) as hanging:
        kinds = {
            "on": _Kind({"OTEL_EXPORTER_OTLP_ENDPOINT": alive}),
            "off": _Kind({"OTEL_SDK_DISABLED": "true"}),
            "dead": _Kind({"OTEL_EXPORTER_OTLP_ENDPOINT": dead}),
            "hanging": _Kind({"OTEL_EXPORTER_OTLP_ENDPOINT": hanging.url}),
        }
        times: dict[str, list[float]] = {name: [] for name in kinds}
        with _servers(kinds, ENABLE_TRANSCRIPT_CACHE="false") as servers:
            for server in servers.values():
                for _ in range(50):
                    server.get(PATH)
            for name in _in_turns(servers, 2000):
                began = time.perf_counter()
                servers[name].get(PATH)
                times[name].append((time.perf_counter() - began) * 1e3)
    p50 = {name: median(values) for name, values in times.items()}
    p99 = {name: quantiles(values, n=100)[98] for name, values in times.items()}
    return [
        _row("uncached request over HTTP, P50", p50["on"], "ms", "OTEL_SDK_DISABLED=true",
             p50["off"], 1.10),
        _row("the same, P99, Collector dead", p99["dead"], "ms", "Collector alive", p99["on"],
             1.10),
        _row("the same, P99, Collector hanging", p99["hanging"], "ms", "Collector alive",
             p99["on"], 1.10),
    ]  # fmt: skip


def _percentiles() -> list[Row]:
    """What Prometheus makes of a histogram's buckets, against the measurements themselves."""
    dice = random.Random(7)
    values = [dice.lognormvariate(0.3, 0.9) for _ in range(5000)]
    with InMemoryTelemetry() as telemetry:
        for value in values:
            instruments.TRANSCRIPT_REQUEST_DURATION.record(value, outcome="success")
        telemetry.reader.collect()
        data: Any = telemetry.reader.data
    (point,) = (
        point
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "transcript.request.duration"
        for point in metric.data.data_points
        if point.count
    )
    exact = quantiles(values, n=100)
    return [
        _row(f"P{percent} of a histogram", found, "s", "exact", exact[percent - 1],
             goal="within 5 %", met=abs(found / exact[percent - 1] - 1) <= 0.05)
        for percent in (50, 95)
        for found in [_quantile(percent / 100, point)]
    ]  # fmt: skip


def _quantile(rank: float, point: Any) -> float:
    """Of an exponential histogram, as Prometheus interpolates: evenly in the logarithm."""
    wanted, seen = rank * point.count, 0
    for place, count in enumerate(point.positive.bucket_counts, start=point.positive.offset):
        if count and seen + count >= wanted:
            return float(2 ** ((place + (wanted - seen) / count) / 2**point.scale))
        seen += count
    raise ValueError("no measurement")


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
