"""kill -9 of every part while load runs: it comes back, no request fails, nothing is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from tests.live import FAST_TELEMETRY, LiveStack, Load, healthy_videos, running_stack, wait_for

SERVICE = "tldw-transcript-service"


@pytest.fixture(scope="module")
def stack() -> Iterator[LiveStack]:
    """A stack of this module's own: it is left worse than it was found."""
    with running_stack("killed", {**FAST_TELEMETRY, "WEB_CONCURRENCY": "2"}) as running:
        yield running


@pytest.mark.parametrize(
    "engine", ["otel-collector", "prometheus", "alertmanager", "victorialogs", "jaeger"]
)
def test_a_killed_engine_is_back_by_itself_and_no_request_fails(
    stack: LiveStack, engine: str
) -> None:
    with Load(stack, healthy_videos(stack)[:1]) as load:
        load.more(5)
        before = stack.pid(engine)
        os.kill(before, signal.SIGKILL)
        load.more(10)
        wait_for(f"another {engine}", lambda: stack.pid(engine) != before)
        wait_for("every part ready", lambda: stack.launcher("status").returncode == 0)
        load.more(5)
    assert set(load.statuses) == {200}
    # What was answered while the engine was away is found where it belongs afterwards. A
    # killed Collector had acknowledged nothing that it had not written to disk; a span that
    # was in no one's hands is retried by the service.
    last = load.trace_ids[-1]
    wait_for("the last trace", lambda: stack.spans(last))
    wait_for(
        "its lines",
        lambda: stack.log_lines(f'{{"service.name"="{SERVICE}"}} trace_id:="{last}"'),
    )
    if engine != "otel-collector":
        missing = set(load.trace_ids)

        def all_arrived() -> bool:
            missing.difference_update([t for t in missing if stack.spans(t)])
            return not missing

        wait_for("every trace", all_arrived)
    answered = len(load.statuses)
    wait_for(
        "the requests in the counters",
        lambda: (stack.number("sum(transcript_requests_total)") or 0) >= answered,
    )


def test_a_killed_worker_is_replaced_and_the_others_answer_on(stack: LiveStack) -> None:
    master = psutil.Process(stack.pid("service"))
    workers = {child.pid for child in master.children()}
    assert len(workers) == 2
    os.kill(min(workers), signal.SIGKILL)
    wait_for("two workers again", lambda: len({c.pid for c in master.children()} - workers) == 1)
    with Load(stack, healthy_videos(stack)[:1]) as load:
        load.more(20)
    assert set(load.statuses) == {200}


def test_what_the_collector_accepted_arrives_after_it_was_killed(stack: LiveStack) -> None:
    # Jaeger is stopped (not dead), so what the Collector accepts waits in its queue on disk.
    jaeger = psutil.Process(stack.pid("jaeger"))
    jaeger.suspend()
    try:
        with Load(stack, healthy_videos(stack)[:1]) as load:
            load.more(20)
        accepted = len(load.trace_ids)

        def received() -> bool:
            spans = stack.number("sum(otelcol_receiver_accepted_spans_total)") or 0
            return spans >= 3 * accepted

        wait_for("the spans in the Collector", received)
        before = stack.pid("otel-collector")
        os.kill(before, signal.SIGKILL)
        wait_for("another Collector", lambda: stack.pid("otel-collector") != before)
    finally:
        jaeger.resume()
    missing = set(load.trace_ids)

    def all_arrived() -> bool:
        missing.difference_update([t for t in missing if len(stack.spans(t)) >= 3])
        return not missing

    wait_for("every accepted trace in Jaeger", all_arrived)
