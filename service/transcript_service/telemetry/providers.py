"""Start and stop the OpenTelemetry SDK in this process, after gunicorn has forked.

Counters, queues and export threads belong to one process; a copy of them counts twice or hangs.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from opentelemetry import _logs, metrics, propagate, trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.system_metrics import SystemMetricsInstrumentor
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.propagators.textmap import Getter, default_getter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ..settings import Settings
from . import environment, http_server, instruments, self_metrics
from .context import TRACER_NAME
from .export_queue import Answer, ExportQueue
from .logs import VERSION, configure_logging, get_logger, otlp
from .otlp import QueueProcessor, Watch, deliver_with, masking_metrics, watch_for
from .redacting import redact_logs, redact_spans
from .redaction import redact_mapping, register_environment

P = TypeVar("P")
log = get_logger(__name__)

# Of this process only; the host's numbers are the Collector's business.
_PROCESS_METRICS: Final[dict[str, list[str] | None]] = {
    "process.cpu.time": ["user", "system"],
    "process.cpu.utilization": ["user", "system"],
    "process.context_switches": ["involuntary", "voluntary"],
    **dict.fromkeys((
        "process.memory.usage", "process.memory.virtual", "process.open_file_descriptor.count",
        "process.thread.count", "cpython.gc.collections", "cpython.gc.collected_objects",
    )),
}  # fmt: skip


def service_resource(settings: Settings) -> Resource:
    """What is sent about the service with every signal, secrets masked.

    `OTEL_RESOURCE_ATTRIBUTES` wins over our own variables. The instance's id always has a part of
    this process's own, because workers that wrote one series would count over each other.
    """
    given = OTELResourceDetector().detect().attributes
    instance, own = given.get("service.instance.id"), str(uuid.uuid4())
    attributes = {
        "service.name": settings.service_name,
        "service.version": VERSION,
        "deployment.environment.name": settings.environment,
        **given,
        "service.instance.id": f"{instance}-{own[:8]}" if instance else own,
    }
    created = Resource.create(attributes)
    return Resource(dict(redact_mapping(dict(created.attributes))), created.schema_url)


def service_identity(settings: Settings) -> tuple[str, str]:
    """Under which `service.name` traces and lines are kept, and under which `job` metrics.

    The label `job` is the name, after `service.namespace` where there is one.
    """
    given = OTELResourceDetector().detect().attributes
    name = str(given.get("service.name", settings.service_name))
    namespace = given.get("service.namespace")
    return name, f"{namespace}/{name}" if namespace else name


class ContinueCallers(TraceContextTextMapPropagator):
    """Continue a caller's trace, take nothing else from it and tell nobody.

    `tracestate` and `baggage` are free text from outside, which would end up in spans. Outgoing
    requests go to YouTube and proxies, which have no part in our traces; a `traceparent` would
    only mark the client as instrumented. `OTEL_PROPAGATORS` replaces this.
    """

    fields: Any = frozenset()

    def extract(
        self, carrier: Any, context: Context | None = None, getter: Getter[Any] = default_getter
    ) -> Context:
        found = getter.get(carrier, "traceparent")
        return super().extract({"traceparent": found} if found else {}, context)

    def inject(self, *_: object, **__: object) -> None:
        pass


class OutageLog:
    """One warning when delivery stops working, one line when all of it works again."""

    def __init__(self) -> None:
        # Of each signal that fails: since when, and how many records had been dropped before.
        self._failing: dict[str, tuple[float, int]] = {}
        self._dropped = 0
        self._lock = threading.RLock()

    def __call__(self, signal: str, answer: Answer, lost: int = 0) -> None:
        """Take note of an answer, before which `lost` records of the signal had been dropped."""
        with self._lock:
            failed_before, began = bool(self._failing), time.monotonic()
            if answer.failed:
                self._failing.setdefault(signal, (began, lost))
            elif signal in self._failing:
                began, lost_before = self._failing.pop(signal)
                self._dropped += lost - lost_before
            if failed_before is bool(self._failing):
                return
            dropped, self._dropped = self._dropped, 0
        if answer.failed:
            log.warning("telemetry.export.failing", signal=signal, reason=answer.reason)
        else:
            outage = {"outage_s": round(time.monotonic() - began, 1), "dropped": dropped}
            log.info("telemetry.export.recovered", signal=signal, **outage)


@dataclass
class Telemetry:
    """What runs in this process; empty when the SDK is disabled."""

    meter_provider: MeterProvider | None = None
    queues: list[ExportQueue[Any]] = field(default_factory=list)
    _outages: OutageLog = field(default_factory=OutageLog, repr=False)
    _abort: list[Callable[[], None]] = field(default_factory=list, repr=False)

    def shutdown(self, timeout_s: float = 8.0) -> bool:
        """Send what is queued and close all three signals, at the same time.

        Returns whether everything was delivered within `timeout_s`. What was not is lost; the
        line `telemetry.shutdown.finished` on stderr says how much.
        """
        meters, self.meter_provider = self.meter_provider, None
        if meters is None:
            return True
        began = time.monotonic()
        begin = partial(threading.Thread, daemon=True)
        closing = [begin(target=queue.close, args=(timeout_s - 0.2,)) for queue in self.queues]

        def close_metrics() -> None:
            # The last collection counts what the queues delivered, if they are quick.
            for closer in closing[:-1]:
                closer.join(timeout_s * 0.2)
            left_s = began + timeout_s - time.monotonic()
            meters.shutdown(max(0.1, left_s) * 1000)

        closing.append(begin(target=close_metrics))
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join(max(0.0, began + timeout_s - time.monotonic()))
        for abort in self._abort:
            abort()
        in_time = not any(thread.is_alive() for thread in closing)
        lost: Counter[str] = Counter()
        for queue in self.queues:
            what = "lost_spans" if queue.signal == "traces" else "lost_logs"
            lost[what] += queue.ledger().dropped.get("shutdown", 0)
        otlp.logger = None
        took_s = round(time.monotonic() - began, 3)
        log.info("telemetry.shutdown.finished", duration_s=took_s, **lost)
        instruments.stop()
        return in_time and not any(lost.values())


def start(settings: Settings) -> Telemetry:
    """Build this process's providers, make them global and start the registry's instruments.

    Never waits for the Collector. With `OTEL_SDK_DISABLED=true` only lines on stderr remain.
    """
    environment.apply_defaults()
    register_environment()
    configure_logging(settings)
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return Telemetry()
    running, resource = Telemetry(), service_resource(settings)
    _start_metrics(running, resource)
    # The SDK would count every span and record as it begins and ends; `self_metrics` reads the
    # same numbers from the queues.
    common: dict[str, Any] = {"resource": resource, "meter_provider": NoOpMeterProvider()}
    sampler: Any = environment.own_sampler(Sampler)
    tracers = _provider(TracerProvider, "tracer", sampler=sampler, **common)
    tracers.sampler = http_server.SampleAway(tracers.sampler)
    for spans in _queues(running, "traces", "BSP", redact_spans):
        tracers.add_span_processor(spans)
    loggers = _provider(LoggerProvider, "logger", **common)
    for logs in _queues(running, "logs", "BLRP", redact_logs):
        loggers.add_log_record_processor(logs)

    trace.set_tracer_provider(tracers)
    _logs.set_logger_provider(loggers)
    if not environment.words(os.environ.get("OTEL_PROPAGATORS", "")):  # else the API made them
        propagate.set_global_textmap(ContinueCallers())
    for instrumentor in (
        ThreadingInstrumentor(),
        RequestsInstrumentor(),
        SystemMetricsInstrumentor(config=_PROCESS_METRICS),
    ):
        if not instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.instrument(meter_provider=instruments.deferred())
    otlp.logger = loggers.get_logger(TRACER_NAME, VERSION)
    for name, what in dict(environment.problems).items():
        log.warning("telemetry.environment.invalid", variable=name, reason=what)
    return running


def _provider(sdk: type[P], kind: str, **options: Any) -> P:
    """The SDK's provider, or the operator's subclass of it."""
    options["shutdown_on_exit"] = False
    group = f"opentelemetry_{kind}_provider"
    own = environment.plugin(f"OTEL_PYTHON_{kind.upper()}_PROVIDER", group, sdk, **options)
    return own or sdk(**options)


def _exporters(
    running: Telemetry,
    signal: str,
    prepare: Callable[[Any, Watch], Callable[..., Any]] = lambda exporter, _: exporter,
) -> Iterator[tuple[Any, Watch]]:
    """The exporters of a signal, with what watches them; without those that cannot be made."""
    for exporter, name, options in environment.exporters(signal):
        watch = watch_for(name)
        try:
            made = prepare(exporter, watch)(**watch.arguments, **options)
        except Exception as error:  # of a user's own exporter
            why = f"An exporter cannot be made ({type(error).__name__}); it is left out."
            environment.problems.append((f"OTEL_{signal.upper()}_EXPORTER", why))
        else:
            running._abort.append(made.shutdown)
            yield made, watch


def _start_metrics(running: Telemetry, resource: Resource) -> None:
    masking = partial(masking_metrics, on_answer=partial(running._outages, "metrics"))
    made = _exporters(running, "metrics", masking)
    readers = [PeriodicExportingMetricReader(exporter) for exporter, _ in made]
    parts: dict[str, Any] = {"metric_readers": readers, "views": http_server.VIEWS}
    provider = _provider(MeterProvider, "meter", resource=resource, **parts)
    metrics.set_meter_provider(provider)
    if readers:  # what is measured waits for a collection, and without a reader there is none
        instruments.start(provider.get_meter(TRACER_NAME, VERSION))
    running.meter_provider = provider


def _queues(
    running: Telemetry, signal: str, prefix: str, redact: Callable[..., Sequence[Any]]
) -> Iterator[QueueProcessor]:
    for number, (exporter, watch) in enumerate(_exporters(running, signal)):
        queue = ExportQueue(
            signal,
            deliver_with(exporter, redact, watch),
            capacity=int(os.environ[f"OTEL_{prefix}_MAX_QUEUE_SIZE"]),
            batch_size=int(os.environ[f"OTEL_{prefix}_MAX_EXPORT_BATCH_SIZE"]),
            delay_s=float(os.environ[f"OTEL_{prefix}_SCHEDULE_DELAY"]) / 1000,
            on_answer=running._outages,
        )
        running.queues.append(queue)
        if number == 0:  # of several exporters, the first one's numbers: each gets every record
            self_metrics.observe(metrics.get_meter("opentelemetry-sdk"), queue)
        yield QueueProcessor(queue)
