"""Ask the real engines what every panel of every dashboard asks.

Grafana itself is in no package registry, so its part is done here: variables are filled in and
each target goes to the API that the data source would ask.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from grafana.boards import BOARDS
from tests.contract.places import load_dashboards, panels_of
from tests.contract.promql import SERVICE, expand
from tests.live import LiveStack, wait_for

MUST_HAVE = {
    (board.uid, panel.title) for board in BOARDS for panel in board.panels if panel.must_have
}


@dataclass(frozen=True)
class Answer:
    """What one panel got: how many series, traces or log streams, and what engines objected to."""

    board: str
    panel: str
    series: int
    objections: tuple[str, ...]

    @property
    def must_have(self) -> bool:
        return (self.board, self.panel) in MUST_HAVE

    @property
    def is_good(self) -> bool:
        return not self.objections and (self.series > 0 or not self.must_have)

    def __str__(self) -> str:
        kind = "must have" if self.must_have else ""
        return f"{self.series:4}  {kind:9}  {self.board}: {self.panel} {' '.join(self.objections)}"


def _prometheus(
    stack: LiveStack, target: dict[str, Any], start: float, service: str
) -> tuple[int, list[str]]:
    expression, now = expand(target["expr"], service), time.time()
    if target.get("range"):
        asked = {"query": expression, "start": start, "end": now, "step": 5}
        url = stack.layout.engine("prometheus", "/api/v1/query_range")
    else:
        asked = {"query": expression, "time": now}
        url = stack.layout.engine("prometheus", "/api/v1/query")
    answer = requests.post(url, data=asked, timeout=30).json()
    objections = [*answer.get("warnings", []), *answer.get("infos", [])]
    if answer["status"] != "success":
        return 0, [answer["error"], *objections]
    return sum(map(_has_values, answer["data"]["result"])), objections


def _has_values(series: dict[str, Any]) -> bool:
    """A quantile of nothing is NaN, and Grafana draws that as nothing."""
    if "histogram" in series or "histograms" in series:
        return True
    values = series.get("values") or [series["value"]]
    return not all(math.isnan(float(value)) for _, value in values)


def _victorialogs(
    stack: LiveStack, target: dict[str, Any], start: float, service: str
) -> tuple[int, list[str]]:
    asked: dict[str, Any] = {
        "query": expand(target["expr"], service),
        "start": start,
        "end": time.time(),
    }
    if target["queryType"] == "instant":
        asked |= {"limit": target["maxLines"]}
        answer = requests.post(
            stack.layout.engine("victorialogs", "/select/logsql/query"), asked, timeout=30
        )
        return (len(answer.text.splitlines()), []) if answer.ok else (0, [answer.text])
    url = stack.layout.engine("victorialogs", "/select/logsql/stats_query_range")
    answer = requests.post(url, asked | {"step": "5s"}, timeout=30)
    return (len(answer.json()["data"]["result"]), []) if answer.ok else (0, [answer.text])


def _jaeger(
    stack: LiveStack, target: dict[str, Any], start: float, service: str
) -> tuple[int, list[str]]:
    asked: dict[str, Any] = {
        "service": expand(target["service"], service),
        "limit": target["limit"],
    }
    asked |= {"start": int(start * 1e6), "end": int(time.time() * 1e6)}
    asked |= {key: target[key] for key in ("operation", "minDuration") if key in target}
    if "tags" in target:  # Grafana takes logfmt, Jaeger JSON
        pairs = (pair.split("=", 1) for pair in target["tags"].split())
        asked["tags"] = json.dumps(dict(pairs))
    answer = requests.get(stack.layout.engine("jaeger", "/api/traces"), asked, timeout=30).json()
    return len(answer["data"] or []), [str(error) for error in answer.get("errors") or []]


_ASK = {
    "prometheus": _prometheus,
    "victoriametrics-logs-datasource": _victorialogs,
    "jaeger": _jaeger,
}


def _ask(
    stack: LiveStack, start: float, service: str, only: Container[tuple[str, str]] | None = None
) -> list[Answer]:
    answers = []
    for dashboard in load_dashboards().values():
        for panel in panels_of(dashboard):
            if only is not None and (dashboard["uid"], panel["title"]) not in only:
                continue
            total, objections = 0, []
            for target in panel["targets"]:
                found, said = _ASK[target["datasource"]["type"]](stack, target, start, service)
                total += found
                objections += said
            answers.append(
                Answer(dashboard["uid"], panel["title"], total, tuple(map(str, objections)))
            )
    return answers


def all_good(stack: LiveStack, start: float, service: str = SERVICE) -> list[Answer]:
    """Wait until every panel that must have data since `start` has; fails with those that do not.

    Returns the answers of all panels, of the service that the boards' variable names.
    """
    bad: list[Answer] = []
    left = set(MUST_HAVE)
    hours = itertools.cycle(range(1, 169))

    def check() -> bool:
        # Another window each time, or the answer would come from the cache for 30 s.
        stack.get(f"/api/dashboard/metrics?hours={next(hours)}")
        bad[:] = [answer for answer in _ask(stack, start, service, left) if not answer.is_good]
        left.intersection_update((answer.board, answer.panel) for answer in bad)
        return not left

    try:
        wait_for("data in every must-have panel", check, every_s=2)
    except AssertionError:
        pytest.fail("empty or refused:\n" + "\n".join(map(str, bad)))
    return _ask(stack, start, service)
