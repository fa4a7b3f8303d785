"""A job that was queued or running when its worker was killed ends after all, once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import requests

from tests.live import FAST_TELEMETRY, LiveStack, running_stack, wait_for


@pytest.fixture(scope="module")
def stack() -> Iterator[LiveStack]:
    """The service and the simulator alone: no engine is asked here but by trace."""
    environ = {
        **FAST_TELEMETRY,
        "WEB_CONCURRENCY": "1",
        "JOB_WORKERS": "1",
        "READ_TIMEOUT_S": "60",
    }
    with running_stack("jobs", environ, "prometheus", "alertmanager", "victorialogs") as running:
        yield running


def ask_later(stack: LiveStack, video: str) -> requests.Response:
    return stack.get(f"/api/transcripts/{video}", headers={"Prefer": "respond-async"})


def state_of(stack: LiveStack, location: str) -> dict[str, Any]:
    document: dict[str, Any] = stack.get(location).json()
    return document


def test_jobs_are_finished_after_their_worker_was_killed(stack: LiveStack) -> None:
    videos = [
        v["id"]
        for v in stack.simulator("GET", "videos")["videos"]
        if v["tracks"] and not v["faults"] and v["playability"] == "OK"
    ]
    slow, waiting = videos[0], videos[1]
    stack.simulator("PUT", f"videos/{slow}/fault", ["slow_headers@watch:40"])

    answers = [ask_later(stack, video) for video in (slow, waiting)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].headers["Preference-Applied"] == "respond-async"
    locations = [answer.headers["Location"] for answer in answers]
    assert answers[0].json()["trace_id"] == answers[0].headers["X-Correlation-ID"]

    wait_for("the first run", lambda: state_of(stack, locations[0])["state"] == "running")
    # A killed worker takes along what it has not sent yet: let the request's span get away.
    trace_id = answers[0].headers["X-Correlation-ID"]
    wait_for("the request in its trace", lambda: stack.spans(trace_id))
    assert state_of(stack, locations[0])["state"] == "running"
    (worker,) = psutil.Process(stack.pid("service")).children()
    os.kill(worker.pid, signal.SIGKILL)
    stack.simulator("PUT", f"videos/{slow}/fault", [])

    for location in locations:
        done = wait_for(
            "the job's end",
            lambda where=location: (  # type: ignore[misc]
                d if (d := state_of(stack, where))["state"] in ("succeeded", "failed") else None
            ),
        )
        assert done["state"] == "succeeded"
        assert done["result"]["segments"]

    # Fetched once each after the kill: the watch page of the second video was asked for once.
    seen = stack.simulator("GET", f"requests?last=5000&video={waiting}&endpoint=watch")["requests"]
    assert len(seen) == 1

    # Both ends of the story are one trace.
    names = wait_for(
        "the job in the trace of its request",
        lambda: (
            n
            if "transcript.job" in (n := [s["operationName"] for s in stack.spans(trace_id)])
            else None
        ),
    )
    assert any(name.startswith("GET /api/transcripts/") for name in names)


def test_an_unknown_job_is_a_problem(stack: LiveStack) -> None:
    for job_id in ("0" * 32, "nonsense", "..%2f"):
        answer = stack.get(f"/api/jobs/{job_id}")
        assert answer.status_code == 404
        assert answer.headers["Content-Type"] == "application/problem+json"
