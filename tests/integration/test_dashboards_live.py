"""Every query of every dashboard, asked of the real engines after a load with faults.

Grafana itself is in no package registry, so its part is done here: variables are filled in and
each target goes to the API that the data source would ask. A stack of its own, because engines
are killed at the end.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from grafana.boards import BOARDS
from stack.layout import CHECKOUT, Layout
from stack.supervise import Supervisor
from tests.contract.places import all_places, load_dashboards, panels_of
from tests.contract.promql import expand
from tests.live import FAST_TELEMETRY, LiveStack, running_stack, wait_for

MUST_HAVE = {
    (board.uid, panel.title) for board in BOARDS for panel in board.panels if panel.must_have
}
LISTING = CHECKOUT / ".stack" / "dashboards-live.txt"


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


@pytest.fixture(scope="module")
def stack() -> Iterator[LiveStack]:
    """A stack under a steady mixed load with three random faults switched on."""
    # At the end nobody waits for the answers that are still held back.
    environ = {**FAST_TELEMETRY, "WEB_CONCURRENCY": "2", "GRACEFUL_TIMEOUT_S": "3"}
    with (
        running_stack("dashboards", environ) as running,
        _load(running.layout),
    ):
        yield running


@contextmanager
def _load(place: Layout) -> Iterator[None]:
    command = [sys.executable, "-m", "simulator", "load", "--target", place.url("service")]
    command += ["--rate", "8", "--duration", "600", "--concurrency", "8", "--seed", "7"]
    command += ["--videos", "mix", "--faults", "3", "--ca-file", str(place.simulator_ca)]
    command += ["--control", f"https://{place.address('simulator')}"]
    with (place.state_dir / "load.log").open("wb") as log:
        load = subprocess.Popen(command, cwd=CHECKOUT, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        load.terminate()
        load.wait(30)


def _prometheus(stack: LiveStack, target: dict[str, Any], start: float) -> tuple[int, list[str]]:
    expression, now = expand(target["expr"]), time.time()
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


def _victorialogs(stack: LiveStack, target: dict[str, Any], start: float) -> tuple[int, list[str]]:
    asked: dict[str, Any] = {"query": expand(target["expr"]), "start": start, "end": time.time()}
    if target["queryType"] == "instant":
        asked |= {"limit": target["maxLines"]}
        answer = requests.post(
            stack.layout.engine("victorialogs", "/select/logsql/query"), asked, timeout=30
        )
        return (len(answer.text.splitlines()), []) if answer.ok else (0, [answer.text])
    url = stack.layout.engine("victorialogs", "/select/logsql/stats_query_range")
    answer = requests.post(url, asked | {"step": "5s"}, timeout=30)
    return (len(answer.json()["data"]["result"]), []) if answer.ok else (0, [answer.text])


def _jaeger(stack: LiveStack, target: dict[str, Any], start: float) -> tuple[int, list[str]]:
    asked: dict[str, Any] = {"service": expand(target["service"]), "limit": target["limit"]}
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


def _ask_every_panel(stack: LiveStack, start: float, *, only_must_have: bool) -> list[Answer]:
    answers = []
    for dashboard in load_dashboards().values():
        for panel in panels_of(dashboard):
            if only_must_have and (dashboard["uid"], panel["title"]) not in MUST_HAVE:
                continue
            total, objections = 0, []
            for target in panel["targets"]:
                found, said = _ASK[target["datasource"]["type"]](stack, target, start)
                total += found
                objections += said
            answers.append(
                Answer(dashboard["uid"], panel["title"], total, tuple(map(str, objections)))
            )
    return answers


def _pid(stack: LiveStack, program: str) -> int:
    """The process id of a program, 0 in the moment between its death and its next start."""
    return int(Supervisor(stack.layout).processes()[program].pid or 0)


def _all_good(stack: LiveStack, start: float) -> list[Answer]:
    """Waits until every panel is good; fails with those that are not."""
    bad: list[Answer] = []
    hours = itertools.cycle(range(1, 169))

    def check() -> bool:
        # Another window each time, or the answer would come from the cache for 30 s.
        stack.get(f"/api/dashboard/metrics?hours={next(hours)}")
        bad[:] = [a for a in _ask_every_panel(stack, start, only_must_have=True) if not a.is_good]
        return not bad

    try:
        wait_for("data in every must-have panel", check)
    except AssertionError:
        pytest.fail("empty or refused:\n" + "\n".join(map(str, bad)))
    return _ask_every_panel(stack, start, only_must_have=False)


def test_every_panel_answers_and_none_that_must_have_data_is_empty(stack: LiveStack) -> None:
    start = time.time()
    answers = _all_good(stack, start)
    listing = "\n".join(map(str, answers))
    LISTING.write_text(f"{listing}\n{len(answers)} panels\n")
    print(listing)
    assert len(answers) >= 60
    assert [str(answer) for answer in answers if not answer.is_good] == []


def test_annotations_and_variables_are_queries_that_prometheus_takes(stack: LiveStack) -> None:
    for place in all_places():
        if ".json: annotation" in place.where or ".json: variable" in place.where:
            stack.query(expand(place.expression))  # raises on an error


@pytest.mark.parametrize("engine", ["otel-collector", "prometheus"])
def test_dashboards_recover_by_themselves_when_an_engine_is_killed(
    stack: LiveStack, engine: str
) -> None:
    killed = stack.pid(engine)
    os.kill(killed, signal.SIGKILL)
    wait_for(f"another {engine}", lambda: _pid(stack, engine) not in (0, killed))
    start = time.time()
    wait_for(
        "metrics newer than the restart",
        lambda: (stack.number("max(timestamp(transcript_requests_total))") or 0) > start,
    )
    _all_good(stack, start)
