"""Reads PromQL and says what in it cannot be: names, labels, values, kinds, and the unit.

The check follows labels through the whole expression, so that `sum by (stage)` over a metric
without a stage is found: Prometheus would answer it with one nameless series.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache
from typing import Any

import promql_parser as ast

from tests.contract.series import Kind, Labels, Series

# What an expression's values are. Empty: a plain number, or nothing that this module can tell.
SECONDS, BYTES, BYTES_PER_SECOND = "s", "By", "By/s"
COUNT, PER_SECOND, RATIO, UNKNOWN = "count", "per_second", "ratio", ""

_NEEDS_COUNTER = {"rate", "increase", "irate"}
_NEEDS_GAUGE = {"delta", "deriv", "predict_linear", "idelta"}
_NEEDS_HISTOGRAM = {
    "histogram_quantile": 1,
    "histogram_fraction": 2,
    "histogram_count": 0,
    "histogram_sum": 0,
    "histogram_avg": 0,
}
_KEEPS_UNIT = re.compile(
    r"(sum|avg|min|max|last|first|quantile|stddev|mad)_over_time|abs|ceil|floor"
)
_COMPARISONS = {"==", "!=", ">", "<", ">=", "<="}
_SETS = {"and", "or", "unless"}

SERVICE = "tldw-transcript-service"
_SERVICE = re.compile(r"\$\{?service(:\w+)?\}?(?!_)")
# How Grafana and templates fill a query; here with something that parses and means the same.
_VARIABLES = (
    (re.compile(r"\$(__rate_interval|__interval|__auto)\b"), "1m"),
    (re.compile(r"\$__range\b"), "1h"),
    (re.compile(r"\$\{?(environment|instance|stage|error_type)(:\w+)?\}?"), ".*"),
)


@dataclass
class Value:
    """What is known about a part of an expression. `labels` is None for "could be any"."""

    labels: Labels | None = field(default_factory=dict)
    unit: str = UNKNOWN
    kind: Kind = "gauge"
    # Native histograms need no `le`; classic ones are told by their `_bucket`.
    classic: bool = False
    # A histogram after rate() counts per second, after increase() it just counts.
    per_second: bool = False


@dataclass
class Reading:
    """The result for a whole expression."""

    problems: list[str]
    labels: Labels | None
    unit: str
    kind: Kind = "gauge"


def expand(expression: str, service: str = SERVICE) -> str:
    """The expression with Grafana's variables filled in."""
    expression = _SERVICE.sub(service, expression)
    for pattern, text in _VARIABLES:
        expression = pattern.sub(text, expression)
    return expression


def read(expression: str, known: Mapping[str, Series]) -> Reading:
    """Parse and check one expression."""
    try:
        tree = _parsed(expand(expression))
    except ValueError as error:
        return Reading([f"does not parse: {error}"], None, UNKNOWN)
    reader = _Reader(known)
    value = reader.value(tree)
    return Reading(reader.problems, value.labels, value.unit, value.kind)


@cache
def _parsed(expression: str) -> Any:
    return ast.parse(expression)


class _Reader:
    def __init__(self, known: Mapping[str, Series]) -> None:
        self.known = known
        self.problems: list[str] = []

    def value(self, node: Any) -> Value:
        match node:
            case ast.VectorSelector():
                return self._selector(node)
            case ast.MatrixSelector():
                return self._selector(node.vector_selector)
            case ast.ParenExpr() | ast.SubqueryExpr() | ast.UnaryExpr():
                return self.value(node.expr)
            case ast.AggregateExpr():
                return self._aggregate(node)
            case ast.Call():
                return self._call(node)
            case ast.BinaryExpr():
                return self._binary(node)
            case _:
                return Value()

    # --- selectors -------------------------------------------------------------------------

    def _selector(self, node: ast.VectorSelector) -> Value:
        groups = [*node.matchers.or_matchers] or [node.matchers.matchers]
        matchers = [matcher for group in groups for matcher in group]
        names = [node.name] if node.name else _names(matchers)
        if not names:
            self.problems.append(f"names no metric: {node}")
            return Value(None, kind="unknown")
        found = [self._one(name, matchers) for name in names]
        if any(value.labels is None for value in found):
            return replace(found[0], labels=None)
        shared = set.intersection(*(set(value.labels or {}) for value in found))
        return replace(found[0], labels=_only(found[0].labels, sorted(shared)))

    def _one(self, name: str, matchers: list[ast.Matcher]) -> Value:
        series = self.known.get(name)
        if series is None:
            self.problems.append(f"no such metric: {name}{_similar(name, self.known)}")
            return Value(None, kind="unknown")
        for matcher in matchers:
            self._matcher(series, matcher)
        units = {"s": SECONDS, "By": BYTES, "ratio": RATIO, "": COUNT}
        labels = None if "*" in series.labels else dict(series.labels)
        unit = units.get(series.unit, UNKNOWN)
        return Value(labels, unit, series.kind, "_bucket" in series.name)

    def _matcher(self, series: Series, matcher: ast.Matcher) -> None:
        if matcher.name == "__name__":
            return
        if matcher.name not in series.labels:
            if "*" in series.labels:  # a metric that takes any label, such as ALERTS
                return
            self.problems.append(
                f"{series.name} has no label {matcher.name}{_similar(matcher.name, series.labels)}"
            )
            return
        allowed = series.labels[matcher.name]
        if allowed is None:
            return
        for value in _meant(matcher):
            if not any(re.fullmatch(value, word) for word in (*allowed, "")):
                self.problems.append(
                    f"{series.name}: {matcher.name} is never {value!r}, only one of"
                    f" {', '.join(sorted(allowed))}"
                )

    # --- aggregations and calls ------------------------------------------------------------

    def _aggregate(self, node: ast.AggregateExpr) -> Value:
        inner = self.value(node.expr)
        operation = str(node.op)
        labels: Labels | None = {}
        if node.modifier is not None:
            named = node.modifier.labels
            if node.modifier.type == ast.AggModifierType.By:
                self._need(inner.labels, named, f"{operation} by")
                labels = _only(inner.labels, named)
            elif inner.labels is not None:
                labels = {k: v for k, v in inner.labels.items() if k not in named}
            else:
                labels = None
        elif operation in ("topk", "bottomk", "limitk"):
            labels = inner.labels
        if operation == "count_values":
            labels = {**(labels or {}), _text(node.param): None}
        unit = COUNT if operation in ("count", "count_values") else inner.unit
        unit = UNKNOWN if operation == "group" else unit
        return replace(inner, labels=labels, unit=unit)

    def _call(self, node: ast.Call) -> Value:
        name = node.func.name
        values = [self.value(argument) for argument in node.args]
        vector = values[_vector_argument(name, len(values))] if values else Value()
        if name in _NEEDS_COUNTER:
            return self._per_time(name, vector, node)
        if name in _NEEDS_GAUGE and vector.kind == "counter":
            self.problems.append(f"{name}() of a counter: {node.args[0]}")
        if name in _NEEDS_HISTOGRAM:
            return self._histogram(name, vector)
        if name in ("scalar", "vector", "time", "pi"):
            return Value({}, SECONDS if name == "time" else vector.unit)
        if name.startswith("absent"):
            return Value(None, UNKNOWN)
        if name in ("timestamp", "time") or name.startswith("ts_of"):
            return Value(vector.labels, SECONDS)
        if name in ("label_replace", "label_join"):
            labels = None if vector.labels is None else {**vector.labels, _text(node.args[1]): None}
            return Value(labels, vector.unit, vector.kind)
        if name in ("changes", "resets", "count_over_time"):
            return Value(vector.labels, COUNT)
        if name == "avg_over_time" and vector.unit == COUNT:
            return replace(vector, unit=UNKNOWN)  # of something that is 0 or 1 it is a share
        unit = vector.unit if _KEEPS_UNIT.fullmatch(name) or name.startswith("clamp") else UNKNOWN
        return replace(vector, unit=unit)

    def _per_time(self, name: str, vector: Value, node: ast.Call) -> Value:
        if vector.kind == "gauge":
            self.problems.append(f"{name}() of a gauge: {node.args[0]}")
        if vector.kind == "histogram":
            return replace(vector, per_second=name != "increase")
        if name == "increase":
            return vector
        units = {COUNT: PER_SECOND, BYTES: BYTES_PER_SECOND, SECONDS: RATIO}
        unit = vector.unit if vector.classic else units.get(vector.unit, UNKNOWN)
        return replace(vector, unit=unit)

    def _histogram(self, name: str, vector: Value) -> Value:
        if vector.kind not in ("histogram", "unknown") and not vector.classic:
            self.problems.append(f"{name}() of something that is no histogram")
        if vector.classic and vector.labels is not None and "le" not in vector.labels:
            self.problems.append(f"{name}() of buckets without the label le")
        labels = vector.labels
        if labels is not None:
            labels = {key: value for key, value in labels.items() if key != "le"}
        counts = PER_SECOND if vector.per_second else COUNT
        unit = {"histogram_fraction": RATIO, "histogram_count": counts}.get(name, vector.unit)
        return Value(labels, unit)

    # --- operators -------------------------------------------------------------------------

    def _binary(self, node: ast.BinaryExpr) -> Value:
        left, right = self.value(node.lhs), self.value(node.rhs)
        operator = str(node.op)
        labels = self._matched(node, left, right, operator)
        if operator in _SETS:
            return Value(labels, left.unit or right.unit, left.kind)
        if operator in _COMPARISONS:
            bool_result = node.modifier is not None and node.modifier.return_bool
            return Value(labels, COUNT if bool_result else left.unit, left.kind)
        if operator == "/":
            unit = RATIO if left.unit == right.unit != UNKNOWN else UNKNOWN
            unit = left.unit if isinstance(node.rhs, ast.NumberLiteral) else unit
            return Value(labels, unit)
        if operator == "*":
            return Value(labels, left.unit or right.unit if not (left.unit and right.unit) else "")
        if operator in ("+", "-"):
            return Value(labels, left.unit or right.unit)
        return Value(labels, UNKNOWN)

    def _matched(
        self, node: ast.BinaryExpr, left: Value, right: Value, operator: str
    ) -> Labels | None:
        modifier = node.modifier
        matching = modifier.matching if modifier is not None else None
        if matching is not None and matching.type == ast.LabelModifierType.Include:
            for side in (left, right):
                self._need(side.labels, matching.labels, f"{operator} on")
        if operator in ("and", "unless"):
            return left.labels
        if operator == "or":
            if left.labels is None or right.labels is None:
                return None
            return {**right.labels, **left.labels}
        if _is_number(node.lhs):
            return right.labels
        if _is_number(node.rhs):
            return left.labels
        many = modifier.card if modifier is not None else None
        if many == ast.VectorMatchCardinality.OneToMany:
            left, right = right, left
        if many in (
            ast.VectorMatchCardinality.ManyToOne,
            ast.VectorMatchCardinality.OneToMany,
        ):
            taken = modifier.group_labels or [] if modifier is not None else []
            self._need(right.labels, taken, "group_left")
            return None if left.labels is None else {**left.labels, **dict.fromkeys(taken)}
        if matching is not None and matching.type == ast.LabelModifierType.Include:
            return _only(left.labels, matching.labels)
        return left.labels

    def _need(self, labels: Labels | None, wanted: list[str], where: str) -> None:
        for name in wanted:
            if labels is not None and name not in labels:
                self.problems.append(
                    f"{where} ({name}): no such label there{_similar(name, labels)}"
                )


def _vector_argument(function: str, count: int) -> int:
    position = _NEEDS_HISTOGRAM.get(function, 1 if function == "quantile_over_time" else 0)
    return min(position, count - 1)


def _is_number(node: Any) -> bool:
    while isinstance(node, ast.ParenExpr):
        node = node.expr
    return isinstance(node, ast.NumberLiteral) or (
        isinstance(node, ast.Call) and node.func.name in ("scalar", "time")
    )


def _text(node: Any) -> str:
    return node.val if isinstance(node, ast.StringLiteral) else str(node)


def _only(labels: Labels | None, names: list[str]) -> Labels:
    return {name: (labels or {}).get(name) for name in names}


def _names(matchers: list[ast.Matcher]) -> list[str]:
    """The metrics that `__name__` matchers list; an alternation is written out."""
    for matcher in matchers:
        if matcher.name == "__name__" and matcher.op == ast.MatchOp.Equal:
            return [matcher.value]
        if matcher.name == "__name__" and matcher.op == ast.MatchOp.Re:
            return _written_out(matcher.value)
    return []


def _written_out(pattern: str) -> list[str]:
    """`a_(b|c)_d` and `x|y` as the words they stand for; anything cleverer stays as it is."""
    group = re.search(r"\(([^()]*)\)", pattern)
    if group is None:
        return pattern.split("|")
    before, after = pattern[: group.start()], pattern[group.end() :]
    return [word for part in group[1].split("|") for word in _written_out(before + part + after)]


def _meant(matcher: ast.Matcher) -> list[str]:
    """The values a matcher speaks of, as regular expressions."""
    if matcher.op in (ast.MatchOp.Equal, ast.MatchOp.NotEqual):
        return [re.escape(matcher.value)]
    # Every word of a plain list of words must exist; anything cleverer must match something.
    if re.fullmatch(r"[\w|-]*", matcher.value):
        return [re.escape(word) for word in matcher.value.split("|")]
    return [matcher.value]


def _similar(name: str, known: Mapping[str, Any]) -> str:
    # Comparing with all would take longer than everything else here.
    nearby = [word for word in known if word[:3] == name[:3]]
    close = get_close_matches(name, nearby, n=1, cutoff=0.75)
    return f" (did you mean {close[0]}?)" if close else ""
