"""Reads LogQL and says what in it cannot be: stream labels, fields, events, words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from tests.contract.series import CHECKOUT, read_yaml
from transcript_service.telemetry.events import CATALOGUE
from transcript_service.telemetry.vocabulary import ERROR_TYPES, OUTCOMES, SOURCES, STAGES

# What the log pipeline, OpenTelemetry and Loki add to every line.
_ON_EVERY_LINE = frozenset(
    ("event", "logger", "source", "trace_id", "span_id", "severity_text", "severity_number")
) | frozenset(("detected_level", "scope_name", "service_instance_id", "service_version"))
# Fields that the surrounding log_context adds to any line inside a request.
_FROM_CONTEXT = frozenset(("video_id", "stage"))

_SEVERITIES = ("DEBUG", "INFO", "WARN", "WARNING", "ERROR", "CRITICAL", "FATAL")
_WORDS: dict[str, Iterable[str]] = {
    "event": CATALOGUE,
    "stage": STAGES,
    "outcome": OUTCOMES,
    "error_type": ERROR_TYPES,
    "source": SOURCES,
    "severity_text": _SEVERITIES,
}

_AGGREGATIONS = frozenset(
    ("sum", "avg", "min", "max", "count", "topk", "bottomk", "sort", "sort_desc", "vector")
)
_RANGES = frozenset(("rate", "bytes_rate")) | frozenset(
    f"{kind}_over_time"
    for kind in ("count", "bytes", "sum", "avg", "min", "max", "quantile", "last", "absent")
)
_TOKEN = re.compile(
    r"""\s+ | (?P<string>"(?:[^"\\]|\\.)*"|`[^`]*`) | (?P<variable>\$\{?[\w:]+\}?)
    | (?P<duration>\d+(?:ms|[smhdw])(?:\d+(?:ms|[smhdw]))*) | (?P<number>\d+(?:\.\d+)?)
    | (?P<word>[A-Za-z_]\w*) | (?P<operator>\|=|\|~|!~|!=|=~|==|>=|<=|[|{}()\[\],=<>+*/%-])""",
    re.VERBOSE,
)
_COMPARE = frozenset(("=", "==", "!=", "=~", "!~", ">", "<", ">=", "<="))
_CLOSES = {"(": ")", "{": "}", "[": "]"}


def index_labels(checkout: Path = CHECKOUT) -> frozenset[str]:
    """The labels of log streams, from Loki's own configuration."""
    config = read_yaml(checkout / "loki" / "config.yaml")
    rules = config["limits_config"]["otlp_config"]["resource_attributes"]["attributes_config"]
    names = [n for rule in rules if rule["action"] == "index_label" for n in rule["attributes"]]
    return frozenset(name.replace(".", "_") for name in names)


def problems_of(expression: str, streams: frozenset[str] | None = None) -> list[str]:
    """Everything that is wrong with a LogQL expression; empty when nothing is."""
    try:
        tokens = _tokens(expression)
        _balanced(tokens)
    except ValueError as error:
        return [f"does not parse: {error}"]
    streams = index_labels() if streams is None else streams
    return [*_unknown_functions(tokens), *_bad_names(tokens, streams)]


def _tokens(text: str) -> list[str]:
    tokens, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"at {text[position : position + 20]!r}")
        position = match.end()
        if match.lastgroup:
            tokens.append(match.group())
    return tokens


def _balanced(tokens: list[str]) -> None:
    waiting: list[str] = []
    for token in tokens:
        if token in _CLOSES:
            waiting.append(_CLOSES[token])
        elif token in _CLOSES.values() and (not waiting or waiting.pop() != token):
            raise ValueError(f"{token} without its opening")
    if waiting:
        raise ValueError(f"{waiting[-1]} is missing")
    if "{" not in tokens:
        raise ValueError("no stream selector")


def _unknown_functions(tokens: list[str]) -> list[str]:
    calls = (
        name
        for name, following in pairwise(tokens)
        if following == "(" and name.isidentifier() and name not in ("by", "without")
    )
    return [f"no such function: {name}" for name in calls if name not in _AGGREGATIONS | _RANGES]


def _bad_names(tokens: list[str], streams: frozenset[str]) -> list[str]:
    found = []
    events = _events(tokens)
    fields = {name for event in events for name in CATALOGUE[event].fields if event in CATALOGUE}
    known = fields | _ON_EVERY_LINE | _FROM_CONTEXT | streams
    in_selector = False
    for index, token in enumerate(tokens):
        in_selector = token == "{" or (in_selector and token != "}")
        if index + 2 < len(tokens) and token.isidentifier() and tokens[index + 1] in _COMPARE:
            if in_selector and token not in streams:
                found.append(f"{token} is no stream label, only {', '.join(sorted(streams))}")
            elif token not in known:
                found.append(f"{token} is no field of {_called(events)}")
            else:
                found += _bad_values(token, tokens[index + 1], tokens[index + 2])
        if token in ("by", "without"):
            grouped = tokens[index + 2 : tokens.index(")", index)]
            unknown = (name for name in grouped if name != "," and name not in known)
            found += [f"{token} ({name}): no field of {_called(events)}" for name in unknown]
    return found


def _events(tokens: list[str]) -> list[str]:
    """The events an expression is about: those it names, or all."""
    for index, token in enumerate(tokens[:-2]):
        if token == "event" and tokens[index + 1] in ("=", "=~"):
            named = _text(tokens[index + 2]).split("|")
            return [event for event in named if event in CATALOGUE]
    return list(CATALOGUE)


def _called(events: list[str]) -> str:
    return ", ".join(events) if len(events) < 4 else "any event"


def _bad_values(name: str, operator: str, value: str) -> list[str]:
    if name not in _WORDS or "$" in value or not value.startswith(('"', "`")):
        return []
    words = _text(value).split("|") if operator in ("=~", "!~") else [_text(value)]
    return [f"{name} is never {word!r}" for word in words if word and word not in set(_WORDS[name])]


def _text(token: str) -> str:
    return token[1:-1]
