"""Putting named queries to Prometheus, all of a block at once, and reading the answers.

A query that fails does not take the others with it: its numbers are missing (`None`), the
block says which, and a reader never sees a 0 that nobody measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any, TypeVar

from ..resilience.deadline import Deadline
from ..rfc3339 import rfc3339
from ..telemetry import get_logger
from ..telemetry.instruments import DASHBOARD_QUERY_DURATION
from . import shapes
from .engines import Engines
from .prometheus import Sample, Series
from .queries import Query
from .upstream import QueryDefect, UpstreamError, gather, worst
from .window import EXPORT_INTERVAL_S, Window

log = get_logger(__name__)
T = TypeVar("T")


def ratio(part: float | None, whole: float | None) -> float | None:
    """`part / whole`, `None` where there is nothing to divide by."""
    return part / whole if whole and part is not None else None


def stretches(values: Iterable[T | None]) -> Iterator[tuple[T, int, int]]:
    """Every run of equal values that is no gap, with its first and its last index."""
    for value, run in groupby(enumerate(values), key=lambda pair: pair[1]):
        if value is not None:
            indexes = [index for index, _ in run]
            yield value, indexes[0], indexes[-1]


@dataclass(frozen=True)
class Answers:
    """What the queries of one round answered, by query name."""

    window: Window
    found: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    failures: Mapping[str, UpstreamError] = field(default_factory=dict)
    not_built: tuple[str, ...] = ()

    def samples(self, name: str) -> Sequence[Sample]:
        return self.found.get(name, ())

    def series(self, name: str) -> Sequence[Series]:
        return self.found.get(name, ())

    def number(self, name: str) -> float | None:
        """The single value of a query without labels."""
        return next((sample.value for sample in self.samples(name)), None)

    def by(self, query: str, /, *labels: str, **where: str) -> dict[tuple[str, ...], float]:
        """The finite values of a query by some of its labels, summed over the others.

        Only of samples with labels as in `where`.
        """
        sums: dict[tuple[str, ...], float] = {}
        for sample in self.samples(query):
            if sample.value is not None and where.items() <= sample.labels.items():
                key = tuple([sample.labels.get(label, "") for label in labels])
                sums[key] = sums.get(key, 0.0) + sample.value
        return sums

    def gone_quiet(self, *names: str) -> bool:
        """Whether these queries were answered and none of them has a value."""
        return not any(
            name in self.failures or any(s.value is not None for s in self.samples(name))
            for name in names
        )

    def tally(self, query: str, label: str, /, **where: str) -> dict[str, float] | None:
        """Values above 0 by one label, the largest first, of samples with labels as in `where`.

        `None` when the query failed: an empty tally would claim that nothing happened.
        """
        if query in self.failures:
            return None
        sums = self.by(query, label, **where)
        known = ((word, value) for (word,), value in sums.items() if word and value)
        return dict(sorted(known, key=lambda item: -item[1]))

    def chart(self, name: str, unit: str, *, as_: str | None = None) -> list[shapes.Series]:
        """The series of a query on the window's raster, `null` where there is no value.

        A `{}` in `as_` becomes the quantile.
        """
        steps = self.window.chart_steps
        start = rfc3339(steps.start)
        return [
            {
                "name": (as_ or name).format(series.labels.get("quantile")),
                "labels": {k: v for k, v in series.labels.items() if k != "quantile"},
                "unit": unit,
                "start": start,
                "step_s": steps.step,
                "values": series.values,
            }
            for series in sorted(self.series(name), key=lambda s: sorted(s.labels.items()))
        ]


# The data of a block, or `None` when nothing was measured in the window.
Build = Callable[[Answers], Mapping[str, Any] | None]


@dataclass(frozen=True)
class Block:
    """A part of the dashboard.

    Attributes:
        name: key in `/metrics`.
        about: what it answers, for the API's description.
        from_log: what the log adds to the data, by its name in `missing`: a function that asks
            for it, which may raise an `UpstreamError`.
    """

    name: str
    scope: str
    about: str
    shape: Any
    queries: Sequence[Query]
    build: Build
    from_log: tuple[str, Callable[[Engines, Any, Window], None]] | None = None

    def fetch(
        self, engines: Engines, window: Window
    ) -> tuple[Mapping[str, Any] | None, dict[str, UpstreamError]]:
        """Its data, and why what is missing of it is.

        Raises:
            UpstreamError: no query was answered.
        """
        answers = ask(engines, self.queries, window)
        failures = dict(answers.failures)
        if len(failures) == len(self.queries):
            raise worst(failures.values())
        data = self.build(answers)
        if data is not None and self.from_log:
            name, complete = self.from_log
            try:
                complete(engines, data, window)
            except UpstreamError as failure:
                failures[name] = failure
        return data, failures


def ask(
    engines: Engines, queries: Iterable[Query], window: Window, *, measured_as: str | None = None
) -> Answers:
    """Put every query to Prometheus.

    Single numbers should stand before charts: they are asked in this order, and what uses up
    the time at the end takes nothing with it. `measured_as` is one name for all of them in
    `dashboard.query.duration`.
    """
    took: dict[str, float] = {}

    def timed(query: Query, deadline: Deadline) -> Sequence[Any]:
        started = time.perf_counter()
        try:
            return _answer(engines, query, window, deadline)
        finally:
            took[query.name] = time.perf_counter() - started

    started = time.perf_counter()
    work = {query.name: (engines.queries, partial(timed, query)) for query in queries}
    found, failures = gather(work, engines.deadline())
    whole = time.perf_counter() - started
    not_built = engines.not_built()
    # What was never up is not down: nobody is to be alerted that it does not answer.
    for name in () if "prometheus" in not_built else work:
        outcome = failures[name].outcome if name in failures else "success"
        DASHBOARD_QUERY_DURATION.record(
            took.get(name, whole), query=measured_as or name, outcome=outcome
        )
    _log_failures(failures)
    return Answers(window, found, failures, not_built)


def _answer(engines: Engines, query: Query, window: Window, deadline: Deadline) -> Sequence[Any]:
    found: Sequence[Any] = ()
    for promql in query.renderings(window, service=engines.job):
        match query.kind:
            case "value":
                found = engines.prometheus.instant(promql, at=window.now, deadline=deadline)
            case "chart":
                found = engines.prometheus.range(promql, window.chart_steps, deadline)
            case "exemplars":
                # `now` is on the raster; miss nothing newer
                end = window.now + (0 if window.past else EXPORT_INTERVAL_S)
                found = engines.prometheus.exemplars(
                    promql, start=window.start, end=end, deadline=deadline
                )
        if found:
            break
    return found


def _log_failures(failures: Mapping[str, UpstreamError]) -> None:
    """One line per defect, but one for all queries that an absent engine did not answer."""
    defects = {name: e for name, e in failures.items() if isinstance(e, QueryDefect)}
    others = [name for name in failures if name not in defects]
    told: dict[str, UpstreamError] = {**defects}
    if others:
        told[" ".join(others)] = worst(failures[name] for name in others)
    for query, error in told.items():
        # A defect is to be found by reading the log: what Prometheus objects to stands only here.
        write = log.error if query in defects else log.warning
        write(
            "dashboard.query.failed",
            query=query,
            outcome=error.outcome,
            error_type=error.code,
            detail=str(error),
        )
