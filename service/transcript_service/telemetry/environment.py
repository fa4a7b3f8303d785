"""The `OTEL_*` variables: our defaults, what makes sense, and who heeds which.

As the specification says, an empty value counts as not set, and one that makes no sense is
warned about and replaced by the default: telemetry's configuration never stops the service.
`docs/configuration.md` has this table.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")


@dataclass(frozen=True)
class Variable:
    """One variable of the specification. An empty `default` leaves it to the SDK."""

    name: str
    default: str
    heeded_by: str
    meaning: str
    fits: Callable[[str], bool] = lambda _: True


def _number(least: float, most: float = math.inf) -> Callable[[str], bool]:
    """Whether it is a number between them; where they are whole, a whole one."""
    kind = float if isinstance(least, float) else int
    return lambda value: math.isfinite(kind(value)) and least <= kind(value) <= most


def _one_of(*words: str) -> Callable[[str], bool]:
    return lambda value: value.strip().lower() in words


def _address(value: str) -> bool:
    parts = urlsplit(value)
    return bool(parts.scheme or parts.path) and (parts.port is None or parts.port > 0)


def _pairs(value: str) -> bool:
    return all("=" in part for part in value.split(",") if part.strip())


def words(value: str) -> list[str]:
    """The words of a comma-separated list."""
    return [word.strip() for word in value.split(",") if word.strip()]


def _known(group: str, *ours: str) -> Callable[[str], bool]:
    """Whether every word of a comma-separated list is one of ours or what is installed."""
    return lambda value: all(
        word.lower() in ours or any(entry_points(group=group, name=word)) for word in words(value)
    )


def _propagators(value: str) -> bool:
    """Whether each can be made: `opentelemetry.propagate` makes them as it is imported."""
    for word in words(value):
        if word != "none":
            (entry,) = entry_points(group="opentelemetry_propagator", name=word)
            entry.load()()
    return True


def _each(name: str, *rest: Any) -> Iterator[Variable]:
    """A variable for each of the words that stand in braces in its name."""
    before, choices, after = re.split("[{}]", name)
    return (Variable(f"{before}{word}{after}", *rest) for word in choices.split("|"))


def _otlp(name: str, default: str, *rest: Any) -> Iterator[Variable]:
    """For all signals, with the default, and for each one."""
    yield Variable(f"OTEL_EXPORTER_OTLP_{name}", default, *rest)
    yield from _each(f"OTEL_EXPORTER_OTLP_{{TRACES|METRICS|LOGS}}_{name}", "", *rest)


_ROOT_SAMPLERS: Final = ("always_on", "always_off", "traceidratio")
_SAMPLERS: Final = (*_ROOT_SAMPLERS, *(f"parentbased_{name}" for name in _ROOT_SAMPLERS))
_SDK, _OTLP, _WE, _NOBODY = "SDK", "OTLP exporter", "service", "nobody"
_BOOLEAN, _COUNT, _POSITIVE = _one_of("true", "false"), _number(0), _number(1)
_HISTOGRAMS: Final = ("base2_exponential_bucket_histogram", "explicit_bucket_histogram")

# fmt: off
VARIABLES: Final = (
    Variable("OTEL_SDK_DISABLED", "", _WE, "`true`: no telemetry but lines on stderr.", _BOOLEAN),
    Variable("OTEL_SERVICE_NAME", "", _WE, "`service.name`; wins over `SERVICE_NAME`."),
    Variable("OTEL_RESOURCE_ATTRIBUTES", "", _WE,
             "More about the service, as `key=value,…`; wins over `SERVICE_NAME` and "
             "`ENVIRONMENT`, `OTEL_SERVICE_NAME` over it. Masked like everything else. A "
             "`service.instance.id` gets each worker's own part appended.", _pairs),
    *(Variable(f"OTEL_{signal.upper()}_EXPORTER", "otlp", _WE,
               "`otlp`, `console`, `none` or another that is installed; several with commas.",
               _known(f"opentelemetry_{signal}_exporter", "otlp", "none"))
      for signal in ("traces", "metrics", "logs")),
    *_otlp("PROTOCOL", "http/protobuf", _WE, "`http/protobuf`, or `grpc` with the extra `grpc` "
           "installed.", _one_of("http/protobuf", "grpc")),
    *_otlp("ENDPOINT", "", _OTLP, "Where the Collector listens.", _address),
    *_otlp("HEADERS", "", _OTLP, "Sent along, as `key=value,…`; never printed.", _pairs),
    *_otlp("TIMEOUT", "5", _OTLP, "Seconds for one request.", _number(0.0)),
    *_otlp("COMPRESSION", "gzip", _OTLP, "`gzip`, `none`, or (HTTP) `deflate`.",
           _one_of("gzip", "none", "deflate")),
    *_otlp("CERTIFICATE", "", _OTLP, "File with the authority to trust.", os.path.exists),
    *_otlp("CLIENT_CERTIFICATE", "", _OTLP, "File for mutual TLS.", os.path.exists),
    *_otlp("CLIENT_KEY", "", _OTLP, "File with its key.", os.path.exists),
    *_otlp("INSECURE", "", _OTLP, "gRPC without TLS where the endpoint has no scheme.", _BOOLEAN),
    Variable("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "", _OTLP,
             "`cumulative`, `delta` or `lowmemory`.", _one_of("cumulative", "delta", "lowmemory")),
    Variable("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", _HISTOGRAMS[0], _OTLP,
             f"Or `{_HISTOGRAMS[1]}`, with which boards and rules show no percentiles.",
             _one_of(*_HISTOGRAMS)),
    Variable("OTEL_TRACES_SAMPLER", "", _SDK, "Which traces are kept; health checks never are.",
             _known("opentelemetry_traces_sampler", *_SAMPLERS)),
    *(Variable(f"OTEL_PYTHON_{kind.upper()}_PROVIDER", "", _WE,
               f"A subclass of the SDK's, by its entry point `opentelemetry_{kind}_provider`; made "
               "with our arguments, it may add processors, views and readers.",
               _known(f"opentelemetry_{kind}_provider")) for kind in ("tracer", "meter", "logger")),
    Variable("OTEL_TRACES_SAMPLER_ARG", "", _SDK, "The sampler's argument, such as `0.1`."),
    Variable("OTEL_PROPAGATORS", "", _WE,
             "Without it a caller's `traceparent` is continued and nothing is sent on to YouTube; "
             "with it, exactly these headers are read and written.", _propagators),
    *_each("OTEL_{ATTRIBUTE_COUNT|ATTRIBUTE_VALUE_LENGTH|SPAN_ATTRIBUTE_COUNT|"
           "SPAN_ATTRIBUTE_VALUE_LENGTH|SPAN_EVENT_COUNT|SPAN_LINK_COUNT|EVENT_ATTRIBUTE_COUNT|"
           "LINK_ATTRIBUTE_COUNT|LOGRECORD_ATTRIBUTE_COUNT|LOGRECORD_ATTRIBUTE_VALUE_LENGTH}_LIMIT",
           "", _SDK, "Limit of what one span or record holds.", _COUNT),
    *_each("OTEL_{BSP|BLRP}_MAX_QUEUE_SIZE", "10000", _WE,
           "Most spans (BSP) or log records (BLRP) that wait.", _POSITIVE),
    *_each("OTEL_{BSP|BLRP}_SCHEDULE_DELAY", "1000", _WE,
           "Longest wait in ms of one of them for its batch.", _POSITIVE),
    *_each("OTEL_{BSP|BLRP}_MAX_EXPORT_BATCH_SIZE", "512", _WE, "Most in one batch.", _POSITIVE),
    Variable("OTEL_METRIC_EXPORT_INTERVAL", "15000", _SDK, "Ms between two collections.",
             _POSITIVE),
    Variable("OTEL_METRIC_EXPORT_TIMEOUT", "", _SDK, "Ms that reading all instruments may take; "
             "sending has `OTEL_EXPORTER_OTLP_TIMEOUT`.", _POSITIVE),
    *_each("OTEL_{BSP|BLRP}_EXPORT_TIMEOUT", "", _NOBODY,
           "No effect: `OTEL_EXPORTER_OTLP_TIMEOUT` bounds an export.", _one_of()),
    Variable("OTEL_LOG_LEVEL", "", _NOBODY, "No effect: `LOG_LEVEL` decides.", _one_of()),
    Variable("OTEL_CONFIG_FILE", "", _NOBODY, "No effect: Python's SDK reads none.", _one_of()),
    Variable("OTEL_METRICS_EXEMPLAR_FILTER", "trace_based", _SDK, "Which measurements lead to a "
             "trace.", _one_of("trace_based", "always_on", "always_off")),
    Variable("OTEL_PYTHON_FLASK_EXCLUDED_URLS", "", "Flask instrumentation",
             "Requests without span and metric; they keep a correlation id."),
    Variable("OTEL_SEMCONV_STABILITY_OPT_IN", "http", "instrumentations",
             "Names of the stable HTTP conventions; boards and rules read these."),
    Variable("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true", _SDK,
             "Measurements of the SDK about itself.", _BOOLEAN),
)
# fmt: on

# What was wrong, as (variable, what was done about it); said once logs are written.
problems: Final[list[tuple[str, str]]] = []


def apply_defaults(environ: MutableMapping[str, str] = os.environ) -> None:
    """Put the `OTEL_*` variables right: empty ones out, senseless ones and ours to the default.

    Before any instrumentation is imported, as some read theirs then.
    """
    for variable in VARIABLES:
        value = environ.get(variable.name)
        if value is not None and not value.strip():
            del environ[variable.name]
        elif value is not None and not _fits(variable.fits, value):
            problems.append((variable.name, _put_right(variable, value, environ)))
        if variable.default:
            environ.setdefault(variable.name, variable.default)
    argument = environ.get("OTEL_TRACES_SAMPLER_ARG", "0")
    if "ratio" in environ.get("OTEL_TRACES_SAMPLER", "") and not _fits(_number(0.0, 1.0), argument):
        del environ["OTEL_TRACES_SAMPLER_ARG"]
        problems.append(("OTEL_TRACES_SAMPLER_ARG", "It is no number from 0 to 1; 1 is used."))


def _fits(test: Callable[[str], bool], value: str) -> bool:
    try:
        return test(value)
    except Exception:  # it is no number or address at all, or a plugin's doing
        return False


def _put_right(variable: Variable, value: str, environ: MutableMapping[str, str]) -> str:
    """Use the default, or of a list of pairs what is one; returns what to tell the operator."""
    del environ[variable.name]
    if variable.fits is _pairs:  # such values hold secrets: none of it is repeated
        good = [part for part in value.split(",") if "=" in part]
        if good:
            environ[variable.name] = ",".join(good)
        return "An entry is not `key=value`; it is left out."
    if variable.heeded_by == _NOBODY:
        return variable.meaning
    used = f"`{variable.default}` is used" if variable.default else "it is ignored"
    return f"It makes no sense; {used}."


def plugin(variable: str, group: str, kind: type[T], *arguments: Any, **options: Any) -> T | None:
    """What the entry point that a variable names makes of these arguments, if it is a `kind`."""
    name = os.environ.get(variable, "").strip()
    if not name:
        return None
    try:
        (entry,) = entry_points(group=group, name=name)
        made = entry.load()(*arguments, **options)
        if isinstance(made, kind):
            return made
        said = f"makes no {kind.__name__}"
    except Exception as error:
        said = f"failed: {type(error).__name__}"
    problems.append((variable, f"`{name}` {said}; it is ignored."))
    return None


def own_sampler(kind: type[T]) -> T | None:
    """A sampler that is not the SDK's own, which reads its variable itself."""
    if os.environ.get("OTEL_TRACES_SAMPLER", "").strip().lower() in _SAMPLERS:
        return None
    argument = os.environ.get("OTEL_TRACES_SAMPLER_ARG")
    return plugin("OTEL_TRACES_SAMPLER", "opentelemetry_traces_sampler", kind, argument)


def exporters(signal: str) -> Iterator[tuple[type[Any], str, dict[str, Any]]]:
    """Of each named exporter that can be had its class, entry point and what to make it with."""
    for word in words(os.environ[f"OTEL_{signal.upper()}_EXPORTER"]):
        name = word
        if word == "none":
            continue
        if word == "otlp":
            _, protocol = _otlp_setting(signal, "PROTOCOL")
            name = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
        try:
            yield _load(signal, name)
        except (AttributeError, ImportError, ValueError):
            if name == "otlp_proto_grpc":
                why = "gRPC needs the extra `grpc` (opentelemetry-exporter-otlp); HTTP is used."
                problems.append(("OTEL_EXPORTER_OTLP_PROTOCOL", why))
                yield _load(signal, "otlp_proto_http")
            else:
                problems.append((f"OTEL_{signal.upper()}_EXPORTER", f"`{word}` cannot be loaded."))


def _otlp_setting(signal: str, name: str) -> tuple[str, str]:
    """The variable that decides for a signal, and its word."""
    variable = f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}"
    if variable not in os.environ:
        variable = f"OTEL_EXPORTER_OTLP_{name}"
    return variable, os.environ[variable].strip().lower()


def _load(signal: str, name: str) -> tuple[type[Any], str, dict[str, Any]]:
    (entry,) = entry_points(group=f"opentelemetry_{signal}_exporter", name=name)
    exporter = entry.load()
    if name != "otlp_proto_grpc":
        return exporter, name, {}
    # gRPC's exporters raise at any other word of the variable than `gzip`.
    from grpc import Compression  # type: ignore[import-untyped] # of the extra `grpc`

    variable, word = _otlp_setting(signal, "COMPRESSION")
    if word == "deflate":
        problems.append((variable, "gRPC knows no `deflate`; `gzip` is used."))
    chosen = Compression.NoCompression if word == "none" else Compression.Gzip
    return exporter, name, {"compression": chosen}


# `opentelemetry.propagate` ends the process that imports it with a propagator it does not know;
# so this module comes before all that import it (`http_server` and below).
apply_defaults()
