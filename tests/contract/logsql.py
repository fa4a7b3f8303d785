"""Reads LogsQL and says what in it cannot be: stream fields, fields, events, words, pipes.

The language: https://docs.victoriametrics.com/victorialogs/logsql/. Read is the part that this
project uses: `{stream="x"} field:filter … | pipe | …`. A word without a field would be a search
through message texts, which is never meant here, so it counts as a mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.contract.series import CHECKOUT, read_yaml
from transcript_service.telemetry.events import CATALOGUE
from transcript_service.telemetry.vocabulary import ERROR_TYPES, OUTCOMES, SOURCES, STAGES

# What the log pipeline, OpenTelemetry and VictoriaLogs add to every line.
_ON_EVERY_LINE = frozenset(
    ("event", "logger", "source", "trace_id", "span_id", "severity_text", "severity_number")
) | frozenset(("_msg", "_time", "_stream", "service.instance.id", "service.version"))
_OF_THE_RESOURCE = frozenset(("service.namespace", "deployment.environment.name"))
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

_STATS = frozenset(
    ("count", "count_uniq", "sum", "avg", "min", "max", "median", "quantile", "rate", "uniq_values")
)
# Of the many pipes those with which a reader of this project's documents has to do.
_PIPES = frozenset(("stats", "sort", "limit", "fields", "uniq", "top", "filter"))
_LOGIC = frozenset(("and", "or", "not"))
_TOKEN = re.compile(
    r"""\s+ | (?P<string>"(?:[^"\\]|\\.)*"|`[^`]*`|'(?:[^'\\]|\\.)*')
    | (?P<word>(?:[\w.$/-]|\$\{[\w:]+\})+\*?) | (?P<star>\*)
    | (?P<operator>:=|:~|!=|!~|=~|>=|<=|[|{}()\[\],:=<>!~])""",
    re.VERBOSE,
)
_CLOSES = {"(": ")", "{": "}", "[": "]"}
_COMPARE = frozenset(("=", "!=", "=~", "!~", ">", "<", ">=", "<=", "~"))


def stream_fields(checkout: Path = CHECKOUT) -> frozenset[str]:
    """The fields that name a log stream, as the Collector asks VictoriaLogs for them."""
    exporter = read_yaml(checkout / "otel-collector" / "config.yaml")["exporters"]
    named: str = exporter["otlp_http/victorialogs"]["headers"]["VL-Stream-Fields"]
    return frozenset(named.split(","))


def problems_of(expression: str, streams: frozenset[str] | None = None) -> list[str]:
    """Everything that is wrong with a LogsQL expression; empty when nothing is."""
    try:
        tokens = _tokens(expression)
        _balanced(tokens)
        return _Reader(tokens, stream_fields() if streams is None else streams).problems()
    except (IndexError, ValueError) as error:
        return [f"does not parse: {error}"]


def _tokens(text: str) -> list[str]:
    tokens, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"at {text[position : position + 20]!r}")
        position = match.end()
        if match.lastgroup:
            tokens.append(match.group())
    if not tokens:
        raise ValueError("it is empty")
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


class _Reader:
    """One expression, part by part: the filter, then the pipes."""

    def __init__(self, tokens: list[str], streams: frozenset[str]) -> None:
        self._streams = streams
        self._filter, *self._pipes = _split(tokens)
        self._events = self._named_events()
        fields = {name for event in self._events if event in CATALOGUE for name in CATALOGUE[event]}
        self._known = fields | _ON_EVERY_LINE | _FROM_CONTEXT | _OF_THE_RESOURCE | streams

    def problems(self) -> list[str]:
        found = list(self._filters(self._filter))
        results: set[str] = set()
        for pipe in self._pipes:
            found += self._pipe(pipe, results)
        return found

    def _named_events(self) -> list[str]:
        """The events an expression is about: those it names, or all."""
        for index, token in enumerate(self._filter[:-2]):
            if _text(token) == "event" and self._filter[index + 1] in (":", ":="):
                return [word for word in _values(self._filter, index + 1) if word in CATALOGUE]
        return list(CATALOGUE)

    def _filters(self, tokens: list[str]) -> Iterator[str]:
        index = 0
        while index < len(tokens):
            token = tokens[index]
            if token == "{":
                end = tokens.index("}", index)
                yield from self._selector(tokens[index + 1 : end])
                index = end + 1
            elif token in ("(", ")", "!", "*") or token.lower() in _LOGIC:
                index += 1
            elif index + 1 < len(tokens) and tokens[index + 1] in (":", ":=", ":~"):
                name, at = _text(token), index + 1
                if name not in self._known:
                    yield f"{name} is no field of {self._called()}"
                else:
                    yield from _bad_values(name, _values(tokens, at))
                index = _after(tokens, at)
            else:
                yield f"{token} searches message texts: no field before it"
                index += 1

    def _selector(self, tokens: list[str]) -> Iterator[str]:
        for index in range(0, len(tokens), 4):
            name, operator, value = tokens[index : index + 3]
            if operator not in _COMPARE or value[0] not in "\"'`":
                raise ValueError(f"{name}{operator}{value} is no stream selector")
            if _text(name) not in self._streams:
                named = ", ".join(sorted(self._streams))
                yield f"{_text(name)} is no stream field, only {named}"

    def _pipe(self, tokens: list[str], results: set[str]) -> Iterator[str]:
        name = tokens[0]
        if name not in _PIPES:
            yield f"no such pipe: {name}"
            return
        if name == "filter":
            yield from self._filters(tokens[1:])
        if name in ("fields", "uniq", "top", "sort", "stats"):
            for field in _grouped(tokens):
                if field not in self._known | results:
                    yield f"{name} by ({field}): no field of {self._called()}"
        if name == "stats":
            yield from self._stats(tokens, results)

    def _stats(self, tokens: list[str], results: set[str]) -> Iterator[str]:
        depth, start = 0, _after_by(tokens)
        for index in range(start, len(tokens)):
            token = tokens[index]
            if token == "(":
                if depth == 0 and tokens[index - 1] not in _STATS:
                    yield f"no such function: {tokens[index - 1]}"
                depth += 1
            elif token == ")":
                depth -= 1
            elif depth and token not in (",", "*") and not re.fullmatch(r"[0-9.]+", token):
                if _text(token) not in self._known:
                    yield f"stats of {_text(token)}: no field of {self._called()}"
            elif not depth and tokens[index - 1] in (")", "as"):
                results.add(_text(token))

    def _called(self) -> str:
        return ", ".join(self._events) if len(self._events) < 4 else "any event"


def _split(tokens: list[str]) -> list[list[str]]:
    """The filter and the pipes, at the bars that stand in no brackets."""
    parts: list[list[str]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token in _CLOSES) - (token in _CLOSES.values())
        if token == "|" and depth == 0:
            parts.append([])
        else:
            parts[-1].append(token)
    if not all(parts):
        raise ValueError("nothing between two bars")
    return parts


def _values(tokens: list[str], at: int) -> list[str]:
    """The words that the filter whose operator is at `at` names; none where it is no list."""
    operator, value = tokens[at], tokens[at + 1]
    if operator == ":" and value == "in":
        end = tokens.index(")", at)
        return [_text(token) for token in tokens[at + 3 : end] if token != ","]
    if operator == ":~":
        return _text(value).strip("()").split("|")
    return [] if value in _COMPARE | {"!", "*"} else [_text(value)]


def _after(tokens: list[str], at: int) -> int:
    """Where the filter whose operator is at `at` ends."""
    index = at + 1
    while tokens[index] in _COMPARE or tokens[index] == "!":  # :>5, :!="x"
        index += 1
    if index + 1 < len(tokens) and tokens[index + 1] == "(":  # in(…), range(…)
        return tokens.index(")", index) + 1
    return index + 1


def _after_by(tokens: list[str]) -> int:
    return tokens.index(")") + 1 if "by" in tokens[:2] else 1


def _grouped(tokens: list[str]) -> list[str]:
    """The fields that a pipe groups or orders by."""
    if tokens[0] == "fields":
        return [_text(token) for token in tokens[1:] if token != ","]
    if "by" not in tokens:
        return []
    start = tokens.index("by") + 2
    named = (token for token in tokens[start : tokens.index(")", start)])
    return [_text(token) for token in named if token not in (",", "desc", "asc")]


def _bad_values(name: str, values: list[str]) -> Iterator[str]:
    words = set(_WORDS.get(name, ()))
    for value in values:
        if words and value and "$" not in value and value != "*" and value not in words:
            yield f"{name} is never {value!r}"


def _text(token: str) -> str:
    return token[1:-1] if token[0] in "\"'`" else token
