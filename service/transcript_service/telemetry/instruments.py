"""The registry: every metric instrument of the service, and the only place that makes one.

At a call an undeclared attribute is dropped and a value outside its list becomes `other`, so the
number of series is bounded by this file. `docs/metrics.md` is generated from it, and every PromQL
of the project is tested against it.

Names follow the OpenTelemetry semantic conventions (dots, seconds, no unit in the name);
breaker names follow resilience4j's CircuitBreakerMetricNames.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from keyword import iskeyword
from math import prod
from typing import Any, ClassVar, Final
from weakref import WeakMethod

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.trace import NonRecordingSpan, SpanContext

from .vocabulary import BREAKER_STATES, ERROR_TYPES, OUTCOMES, PROFILES, SOURCES, STAGES, outcome_of

# The attributes of a call, by parameter; and of one series, sorted.
_Given = Mapping[str, str | None]
_Series = tuple[tuple[str, str], ...]

OTHER: Final = "other"


@dataclass(frozen=True)
class Attribute:
    """One attribute of an instrument, with the closed list of its values.

    Where they are only known at run time (a masked proxy id, an alert's name) that is empty, and
    `limit` is how many different ones are let through before the rest become `other`.
    """

    key: str
    values: tuple[str, ...] = ()
    limit: int = 0

    @property
    def parameter(self) -> str:
        """The keyword for it in a call: `error_type` for `error.type`, `from_` for `from`."""
        name = self.key.replace(".", "_")
        return f"{name}_" if iskeyword(name) else name


class Instrument:
    """Common part: the attribute rules, the series and the life cycle. Use a subclass.

    A call only appends to a deque, and what was appended is counted on the thread that collects.
    So a call takes no lock: one made in the middle of another, by `__del__` or a signal handler,
    cannot wait for itself (the SDK's instruments can), and a request pays less. Calls take finite
    numbers; of an attribute, `None` is as good as nothing.
    """

    kind: ClassVar[str]
    least: ClassVar[float] = -math.inf
    """What a measurement may not be below."""

    def __init__(
        self,
        name: str,
        unit: str,
        description: str,
        *attributes: Attribute,
        zeros: Iterable[Mapping[str, str]] = (),
        series_limit: int | None = None,
    ) -> None:
        """Declare an instrument; its unit is UCUM's.

        `zeros` are attribute sets (by parameter) that exist from the start with 0, because the
        first increment of a series is invisible to `increase()`. By default, of a counter whose
        attributes all have closed lists: every combination. `series_limit` is the budget where
        it is less than the product of all values, because most combinations cannot occur.
        """
        self.name, self.unit, self.description = name, unit, description
        self.attributes = {attribute.parameter: attribute for attribute in attributes}
        self.zeros = list(zeros)
        if not self.zeros and isinstance(self, (Counter, UpDownCounter)):
            combinations = product(*(attribute.values for attribute in attributes))
            self.zeros = [dict(zip(self.attributes, each, strict=True)) for each in combinations]
        # The most values of each in storage: absent and `other` included.
        budget = prod((len(each.values) or each.limit) + 2 for each in attributes)
        self.series_limit = min(budget, series_limit or budget)
        self.stop()

    @property
    def prometheus_name(self) -> str:
        """Its name in PromQL, as Prometheus' OTLP receiver translates it by default."""
        unit = {"s": "_seconds", "By": "_bytes"}.get(self.unit, "")
        return self.name.replace(".", "_") + unit + ("_total" if self.kind == "counter" else "")

    def start(self, meter: Meter) -> None:
        """Count from now on, zero series included, and let the SDK read it; once stopped."""
        self._read_by(meter)
        for zero in self.zeros:
            self._series_of(*zero.items())
        self._started = True

    def stop(self) -> None:
        """Forget all series and who refreshes them; calls do nothing until the next `start`."""
        self._started = False
        self._series: dict[_Series, float] = {}
        self._series_of: Callable[..., _Series] = lru_cache(4096)(self._find)
        self._open_values: dict[str, set[str]] = {p: set() for p in self.attributes}
        self._refreshes: list[WeakMethod[Callable[[], None]]] = []

    def note(self, value: Any, attributes: _Given) -> bool:
        """Note a measurement, to be counted at the next collection.

        Returns whether it is a number that a sum survives; else it is only counted as unusable.
        """
        try:
            usable = math.isfinite(value) and value >= self.least
        except (TypeError, ValueError, OverflowError):
            usable = False
        if not usable:
            TELEMETRY_UNKNOWN.add(1, kind="value")
        elif self._started:
            _note(self._count, value, attributes)
        return usable

    def _read_by(self, meter: Meter) -> None:
        series = self._series  # of this start: a provider that was left behind reads on

        def read(_: CallbackOptions) -> list[Observation]:
            for known in self._refreshes:
                if refresh := known():
                    refresh()
            _count_pending()
            return [Observation(value, dict(key)) for key, value in series.copy().items()]

        kind = self.kind.replace("-", "_").replace(" ", "_")
        create = getattr(meter, f"create_observable_{kind}")
        create(self.name, [read], self.unit, self.description)

    def _count(self, value: float, given: _Given, around: Context) -> None:
        self._series[self._series_of(*given.items())] += value

    def _find(self, *given: tuple[str, str | None]) -> _Series:
        """The series that a call with these parameters belongs to."""
        kept = [each for each in given if each[0] in self.attributes and each[1] is not None]
        found = tuple(sorted(self._bounded(*each) for each in kept))
        if len(self._series) >= self.series_limit and found not in self._series:
            found = tuple((name, OTHER) for name, _ in found)
        self._series.setdefault(found, 0)
        return found

    def _bounded(self, parameter: str, value: str | None) -> tuple[str, str]:
        attribute = self.attributes[parameter]
        text, seen = str(value), self._open_values[parameter]
        if not attribute.values and len(seen) < attribute.limit:
            seen.add(text)
        return attribute.key, text if text in attribute.values or text in seen else OTHER


class Counter(Instrument):
    """Only ever grows."""

    kind = "counter"
    least = 0

    def add(self, amount: float = 1, /, **attributes: str | None) -> None:
        """Count `amount`, which is not negative."""
        self.note(amount, attributes)


class UpDownCounter(Instrument):
    """A sum that rises and falls; summed over workers it is the whole service's."""

    kind = "up-down counter"

    def add(self, amount: float, /, **attributes: str | None) -> None:
        """Add `amount`; negative to take away."""
        self.note(amount, attributes)


class Gauge(Instrument):
    """The last value that was set. That of what changes by time or elsewhere is refreshed."""

    kind = "gauge"

    def set(self, value: float, /, **attributes: str | None) -> None:
        """Replace the value of one series."""
        self.note(value, attributes)

    def _count(self, value: float, given: _Given, around: Context) -> None:
        self._series[self._series_of(*given.items())] = value

    def refreshed_by(self, refresh: Callable[[], None]) -> None:
        """Have a method of an object, which is not kept alive, called before each collection."""
        self._refreshes.append(WeakMethod(refresh))


class Histogram(Instrument):
    """A distribution: the SDK's histogram, whose aggregation the provider chooses."""

    kind = "histogram"
    least = 0

    def record(self, value: float, /, **attributes: str | None) -> None:
        """Record one measurement in the instrument's unit, which is not negative."""
        self.note(value, attributes)

    def _read_by(self, meter: Meter) -> None:
        self._sdk = meter.create_histogram(self.name, self.unit, self.description)

    def _count(self, value: float, given: _Given, around: Context) -> None:
        self._sdk.record(float(value), dict(self._series_of(*given.items())), around)


class Deferred:
    """The SDK's meter provider, or a meter or instrument of it, on which calls wait as on ours."""

    def __init__(self, of: Any) -> None:
        self._of = of

    def __getattr__(self, name: str) -> Any:
        make = getattr(self._of, name)
        return lambda *told, **named: Deferred(make(*told, **named))

    def add(self, value: float, attributes: Any = None, context: Context | None = None) -> None:
        _note(self._of.add, value, attributes, context)

    def record(self, value: float, attributes: Any = None, context: Context | None = None) -> None:
        _note(self._of.record, value, attributes, context)


# What was measured and not counted yet, with the span that an exemplar leads to. Far more than
# come between two collections (6,000 a second); beyond it the oldest is lost and counted.
_MOST_PENDING: Final = 100_000
_pending: Final = deque[tuple[Callable[..., None], float, Any, SpanContext]](maxlen=_MOST_PENDING)
_counting = threading.Lock()


def _note(count: Callable[..., None], value: float, attributes: Any, at: Any = None) -> None:
    """Have it counted at the next collection."""
    if len(_pending) == _MOST_PENDING:
        _count_unknown("overflow")
    _pending.append((count, value, attributes, trace.get_current_span(at).get_span_context()))


def _count_unknown(kind: str) -> None:
    TELEMETRY_UNKNOWN._count(1, {"kind": kind}, Context())


def _count_pending() -> None:
    """Count what was measured; called by the SDK at the beginning of each collection."""
    if not _counting.acquire(timeout=5):  # another reader is at it
        return
    try:
        for _ in range(len(_pending)):
            if not _pending:  # stopped meanwhile
                break
            count, value, attributes, span = _pending.popleft()
            try:
                around = trace.set_span_in_context(NonRecordingSpan(span), Context())
                count(value, attributes, around)
            except Exception:  # a call that makes no sense costs nobody else's
                _count_unknown("value")
    finally:
        _counting.release()


_STAGE, _OUTCOME = Attribute("stage", STAGES), Attribute("outcome", OUTCOMES)
_SOURCE, _ERROR_TYPE = Attribute("source", SOURCES), Attribute("error.type", ERROR_TYPES)
_PROFILE, _BREAKER = Attribute("profile", PROFILES), Attribute("name", STAGES)
_STATE = Attribute("state", BREAKER_STATES)
_SIGNAL = Attribute("signal", ("traces", "metrics", "logs"))
_BOOLEAN: Final = ("true", "false")
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "_OTHER")
_TRANSITIONS: Final = ("closed open", "open half_open", "half_open closed", "half_open open")

# fmt: off
# -- requests
HTTP_SERVER_REQUEST_DURATION: Final = Histogram("http.server.request.duration", "s",
    "Time from an HTTP request's arrival to its answer.",
    Attribute("http.request.method", _METHODS), Attribute("http.response.status_code", limit=40),
    Attribute("http.route", limit=60), Attribute("error.type", limit=10), series_limit=600)
TRANSCRIPT_REQUESTS: Final = Counter("transcript.requests", "{request}",
    "Transcript requests answered, by outcome and by the stage that delivered.",
    _OUTCOME, _SOURCE, _ERROR_TYPE, series_limit=200,
    zeros=[*({"outcome": "success", "source": source} for source in SOURCES),
           *({"outcome": outcome_of(word), "error_type": word} for word in ERROR_TYPES)])
TRANSCRIPT_REQUEST_DURATION: Final = Histogram("transcript.request.duration", "s",
    "Time from a transcript request to its answer, all stages together.", _OUTCOME, _SOURCE)
TRANSCRIPT_STAGE_DURATION: Final = Histogram("transcript.stage.duration", "s",
    "Time one stage took to deliver or to fail, its retries included.",
    _STAGE, _OUTCOME, _ERROR_TYPE, _PROFILE, Attribute("proxy_used", _BOOLEAN), series_limit=600)
TRANSCRIPT_STAGE_SKIPPED: Final = Counter("transcript.stage.skipped", "{stage}",
    "Stages that were not tried, and why.",
    _STAGE, Attribute("reason", ("breaker_open", "deadline_exceeded", "unavailable")))
REQUESTS_REJECTED: Final = Counter("requests.rejected", "{request}",
    "Requests refused because there are too many; why is in docs/scaling.md.",
    Attribute("reason", ("full", "waited", "queue", "rate")))
JOB_QUEUE_SIZE: Final = Gauge("job.queue.size", "{job}",
    "Requests to be answered later that wait for a thread.", zeros=[{}])
JOB_DURATION: Final = Histogram("job.duration", "s",
    "Time from the start of such a job to its end.", Attribute("outcome", ("success", "error")))

# -- breakers. Unit "1" on a gauge would make Prometheus append _ratio.
CIRCUIT_BREAKER_STATE: Final = Gauge("circuit_breaker.state", "",
    "1 for the state a breaker is in, 0 for the others.", _BREAKER, _STATE)
CIRCUIT_BREAKER_TRANSITIONS: Final = Counter("circuit_breaker.transitions", "{transition}",
    "State changes of a breaker.",
    _BREAKER, Attribute("from", BREAKER_STATES), Attribute("to", BREAKER_STATES),
    zeros=[{"name": stage, "from_": before, "to": after}
           for stage in STAGES for before, after in map(str.split, _TRANSITIONS)])
CIRCUIT_BREAKER_CALLS: Final = Counter("circuit_breaker.calls", "{call}",
    "Calls through a breaker by result; `slow` counts in addition to successful or failed.",
    _BREAKER, Attribute("kind", ("successful", "failed", "ignored", "slow", "not_permitted")))
CIRCUIT_BREAKER_RECOVERY_DURATION: Final = Histogram("circuit_breaker.recovery.duration", "s",
    "Time from a breaker's opening to its closing again.", _BREAKER)

# -- browsers
BROWSER_CONTEXTS: Final = UpDownCounter("browser.contexts", "{context}",
    "Browser contexts by what they are doing.", _PROFILE, Attribute("state", ("idle", "leased")))
BROWSER_CONTEXTS_LIMIT: Final = Gauge("browser.contexts.limit", "{context}",
    "Most browser contexts a worker keeps at once.")
BROWSER_MEMORY_USAGE: Final = Gauge("browser.memory.usage", "By",
    "Proportional set size (PSS) of the browser's process tree.")
BROWSER_CONTEXTS_CREATED: Final = Counter("browser.contexts.created", "{context}",
    "Browser contexts created.", _PROFILE)
BROWSER_CONTEXTS_CLOSED: Final = Counter("browser.contexts.closed", "{context}",
    "Browser contexts closed, and why.", _PROFILE,
    # wear: pages open much more slowly than in a fresh context; unhealthy: could not be cleaned
    # after a lease; expired: the lease's deadline passed; capacity: made room for another identity.
    Attribute("reason", ("age", "uses", "memory", "wear", "unhealthy", "crash", "expired",
                         "capacity", "shutdown")))
BROWSER_CONTEXT_LEASES: Final = Counter("browser.context.leases", "{lease}",
    "Leases given out, on a used context or a new one.", _PROFILE, Attribute("reused", _BOOLEAN))
BROWSER_CONTEXT_WAIT_DURATION: Final = Histogram("browser.context.wait.duration", "s",
    "Time a caller waited for a context.", _PROFILE)
BROWSER_CONTEXT_AGE: Final = Histogram("browser.context.age", "s",
    "Age of a context when it was closed.", _PROFILE)
BROWSER_CONTEXT_USES: Final = Histogram("browser.context.uses", "{use}",
    "Leases a context had served when it was closed.", _PROFILE)

# -- proxies
PROXY_PREFLIGHT_DURATION: Final = Histogram("proxy.preflight.duration", "s",
    "Time a proxy took to answer the health probe.", Attribute("proxy", limit=50),
    Attribute("outcome", ("success", "auth_failed", "blocked", "timeout", "error")))
PROXY_POOL_PROXIES: Final = Gauge("proxy.pool.proxies", "{proxy}",
    "Proxies known, by health.", Attribute("state", ("healthy", "quarantined")))
PROXY_ROTATIONS: Final = Counter("proxy.rotations", "{rotation}",
    "Times a job changed its proxy, and why.",
    Attribute("reason", ("http_401", "http_403", "http_407", "http_429", "bot_check",
                         "rate_limited", "country", "proxy_error")))

# -- dashboard and alerts
DASHBOARD_QUERY_DURATION: Final = Histogram("dashboard.query.duration", "s",
    "Time one named query to Prometheus took.", Attribute("query", limit=60),
    Attribute("outcome", ("success", "timeout", "unreachable", "rejected", "invalid")))
DASHBOARD_CACHE_LOOKUPS: Final = Counter("dashboard.cache.lookups", "{lookup}",
    "Lookups in the dashboard API's answer cache.", Attribute("result", ("hit", "miss", "stale")))
DASHBOARD_AUTH_FAILURES: Final = Counter("dashboard.auth.failures", "{failure}",
    "Dashboard API requests refused, and why.",
    Attribute("reason", ("missing", "malformed", "unknown", "expired", "revoked", "scope",
                         "throttled", "not_loopback")))
ALERTS_RECEIVED: Final = Counter("alerts.received", "{notification}",
    "Alert notifications that Alertmanager delivered to the service.",
    Attribute("alertname", limit=100),
    Attribute("severity", ("critical", "warning", "info", "none")),
    Attribute("status", ("firing", "resolved")), series_limit=400)  # an alert has one severity

# -- telemetry about telemetry
TELEMETRY_REDACTIONS: Final = Counter("telemetry.redactions", "{value}",
    "Secrets masked before leaving the process.", _SIGNAL)
TELEMETRY_REDACTION_FAILURES: Final = Counter("telemetry.redaction.failures", "{record}",
    "Records replaced whole because masking them failed.", _SIGNAL)
TELEMETRY_UNKNOWN: Final = Counter("telemetry.unknown", "{call}",
    "Calls with an event, metric, label or unit that the code does not declare, or lost in number.",
    Attribute("kind", ("event", "metric", "label", "unit", "value", "overflow")))
OTEL_SDK_EXPORTER_METRIC_DATA_POINT_EXPORTED: Final = Counter(
    "otel.sdk.exporter.metric_data_point.exported", "{point}",
    "Points the Collector took; with `error.type` those it did not. The next export has their sum.",
    Attribute("error.type", ("unavailable", "refused", "unencodable")))
OPERATION_DURATION: Final = Histogram("operation.duration", "s",
    "Time a block measured with `log_performance` took.",
    Attribute("operation", limit=60), Attribute("outcome", ("success", "error")))
LOGS_SUPPRESSED: Final = Counter("logs.suppressed", "{record}",
    "Log lines left out by the rate limit.", Attribute("signal", ("logs",)))
# fmt: on

REGISTRY: Final[dict[str, Instrument]] = {
    value.name: value for value in list(globals().values()) if isinstance(value, Instrument)
}


def start(meter: Meter) -> None:
    """Start every instrument on this process's meter, zero series included."""
    global _counting  # noqa: PLW0603 - another thread of a parent may have held it at the fork
    _counting = threading.Lock()
    stop()  # and forget what the parent had measured
    for instrument in REGISTRY.values():
        instrument.start(meter)


def deferred() -> Deferred | None:
    """The meter provider for instrumentations; `None`, the SDK's, where nobody counts later."""
    return Deferred(metrics.get_meter_provider()) if TELEMETRY_UNKNOWN._started else None


def stop() -> None:
    """Stop every instrument; calls do nothing until the next `start`."""
    for instrument in REGISTRY.values():
        instrument.stop()
    _pending.clear()
