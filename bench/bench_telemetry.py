"""What telemetry costs: a log line, a registry call, masking, a request with everything on.

Run alone with `python -m bench telemetry`; takes six minutes or so. Measured in CPU time of the
thread or process where that is the cost, so that other work on the machine disturbs little;
peers are measured in turn, and where rounds are short the best one counts.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import mean, median, quantiles
from typing import Any

import orjson
import structlog
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
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
from transcript_service.telemetry.otlp import QueueLogProcessor
from transcript_service.telemetry.redaction import redact_mapping, redact_text

_row = partial(row, "telemetry")
ROUNDS = 40
CALLS = 500
STARTS = 6  # even, see `_cpu`
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
PATH = f"/api/transcripts/{by_title('Bread for a Village').id}?lang=en"
SIGNED_URL = "https://rr3---sn-4g5e6nez.googlevideo.com/videoplayback?" + "&".join(
    f"p{number}=v{number:04d}abcdefgh" for number in range(40)
)


def run() -> list[Row]:
    """All rows."""
    return [*_log_lines(), *_registry(), *_redaction(), *_cpu(), *_http()]


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
        provider.add_log_record_processor(QueueLogProcessor(queue))
        to_otlp = provider.get_logger("bench")
        log = get_logger("bench")
        with InMemoryTelemetry():
            logs.stderr.write = lambda line: os.write(descriptor, line)  # type: ignore[method-assign, assignment, return-value]
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

    def cost_us(call: Callable[[], object], reads: InMemoryMetricReader) -> float:
        reads.collect()
        began = time.thread_time()
        for _ in range(calls):
            call()
        reads.collect()
        return (time.thread_time() - began) / calls * 1e6

    best: dict[str, float] = {}
    with InMemoryTelemetry() as telemetry:
        candidates: dict[str, tuple[Callable[[], object], InMemoryMetricReader]] = {
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
        for _ in range(5):
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


@contextmanager
def _servers(**variants: dict[str, str]) -> Iterator[dict[str, _Server]]:
    """The real service once for each environment, all running at the same time."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        simulator = stack.enter_context(running_simulator(folder))
        servers = {}
        for name, environ in variants.items():
            place = folder / name
            place.mkdir()
            common = {
                "YOUTUBE_RESOLVE_TO": simulator.resolve_to,
                "YOUTUBE_CA_FILE": str(simulator.ca_file),
                "LOG_RATE_LIMIT_PER_MIN": "0",
            }
            app = "transcript_service.web:create_app()"
            running = stack.enter_context(gunicorn(place, common | environ, app=app, workers=1))
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
    """CPU (user and system) of a worker per request, encoding and sending included.

    Without the collection of metrics, which costs the same every 15 s however many requests
    there were. Two processes of the same kind differ by several per cent for as long as they
    live, so each row is the mean over several starts; the one started second takes 60 µs less
    a request (ten starts of two alike), so each kind is second as often as first.
    """
    never = {"OTEL_METRIC_EXPORT_INTERVAL": "3600000"}
    rows = []
    with _sink() as endpoint:
        on, off = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **never}, {"OTEL_SDK_DISABLED": "true"}
        for name, cache, requests in (("uncached", "false", 500), ("cached", "true", 1600)):
            cached = {"ENABLE_TRANSCRIPT_CACHE": cache}
            pair = {"on": on | cached, "off": off | cached}
            other_way_round = dict(reversed(pair.items()))
            starts = [
                _cpu_once(other_way_round if start % 2 else pair, requests)
                for start in range(STARTS)
            ]
            added, bare = map(mean, zip(*starts, strict=True))
            rows.append(
                _row(f"CPU that telemetry adds to a request ({name})", added, "µs CPU",
                     "the request without it", bare)
            )  # fmt: skip
    return rows


def _cpu_once(pair: dict[str, dict[str, str]], requests: int) -> tuple[float, float]:
    """CPU microseconds per request: what telemetry added, and the request without it."""
    with _servers(**pair) as servers:
        for server in servers.values():
            for _ in range(30):
                server.get(PATH)
        began = {name: server.cpu_s() for name, server in servers.items()}
        # What the warm-up left to send is in, what the last second leaves is not.
        for name in _in_turns(servers, requests):
            servers[name].get(PATH)
        used = {
            name: (server.cpu_s() - began[name]) / requests * 1e6
            for name, server in servers.items()
        }
    return used["on"] - used["off"], used["off"]


def _http() -> list[Row]:
    """A cached transcript over HTTP: telemetry on, off, Collector dead, Collector hanging."""
    dead = f"http://127.0.0.1:{free_port()}"
    with _sink() as alive, OtlpSink(status=0) as hanging:
        variants = {
            "on": {"OTEL_EXPORTER_OTLP_ENDPOINT": alive},
            "off": {"OTEL_SDK_DISABLED": "true"},
            "dead": {"OTEL_EXPORTER_OTLP_ENDPOINT": dead},
            "hanging": {"OTEL_EXPORTER_OTLP_ENDPOINT": hanging.url},
        }
        times: dict[str, list[float]] = {name: [] for name in variants}
        with _servers(**variants) as servers:
            for server in servers.values():
                for _ in range(200):
                    body = server.get(PATH)
                assert orjson.loads(body)["cached"] is True
            for name in _in_turns(servers, 4000):
                began = time.perf_counter()
                servers[name].get(PATH)
                times[name].append((time.perf_counter() - began) * 1e3)
    p50 = {name: median(values) for name, values in times.items()}
    p99 = {name: quantiles(values, n=100)[98] for name, values in times.items()}
    return [
        _row("cached request over HTTP, P50", p50["on"], "ms", "OTEL_SDK_DISABLED=true",
             p50["off"], 1.10),
        _row("the same, P99, Collector dead", p99["dead"], "ms", "Collector alive", p99["on"],
             1.10),
        _row("the same, P99, Collector hanging", p99["hanging"], "ms", "Collector alive",
             p99["on"], 1.10),
    ]  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
