"""kill -9 of every part while load runs: it comes back, no request fails, nothing is lost."""

from __future__ import annotations

import os
import re
import signal
import time
from functools import partial

import psutil
import pytest
import requests

from tests.live import LiveStack, Load, healthy_videos, wait_for

SERVICE = "tldw-transcript-service"
# Of every worker there was: a replaced one's series would else go after five minutes.
COUNTED = f'sum(max_over_time(transcript_requests_total{{job="{SERVICE}"}}[1h]%s))'


def found(live: LiveStack, trace_id: str) -> bool:
    lines = f'{{"service.name"="{SERVICE}"}} trace_id:="{trace_id}"'
    return bool(live.spans(trace_id) and live.log_lines(lines))


def on_disk(live: LiveStack) -> bool:
    """Whether VictoriaLogs has written what it acknowledged (docs/decisions/victorialogs.md)."""
    text = requests.get(live.layout.engine("victorialogs", "/metrics"), timeout=10).text
    in_memory = r'^vl_(?:pending|storage)_rows\{type="storage(?:/inmemory)?"\} (\d+)$'
    found = re.findall(in_memory, text, re.MULTILINE)
    assert len(found) == 2
    return not any(map(int, found))


@pytest.mark.parametrize(
    "engine", ["otel-collector", "prometheus", "alertmanager", "victorialogs", "jaeger"]
)
def test_a_killed_engine_is_back_by_itself_with_what_it_had_and_no_request_fails(
    live: LiveStack, engine: str
) -> None:
    counted = live.number(COUNTED % "") or 0
    with Load(live, healthy_videos(live)[:1]) as earlier:
        earlier.more(5)
    wait_for(
        "the first requests in the counters",
        lambda: (live.number(COUNTED % "") or 0) >= counted + 5,
    )
    # Arrived first: what is still on its way is not waiting in memory either.
    for trace_id in earlier.trace_ids:
        wait_for("an earlier trace and its lines", partial(found, live, trace_id))
    wait_for("their lines on disk", lambda: on_disk(live))
    killed_at = time.time()
    with Load(live, healthy_videos(live)[:1]) as load:
        load.more(2)
        before = live.pid(engine)
        os.kill(before, signal.SIGKILL)
        load.more(10)
        wait_for(f"another {engine}", lambda: live.pid(engine) != before)
        wait_for("every part ready", lambda: live.launcher("status").returncode == 0)
        load.more(5)
    assert set(earlier.statuses + load.statuses) == {200}
    # What was answered before, and while the engine was away, is found where it belongs. A
    # killed Collector had acknowledged nothing that it had not written to disk; a span that
    # was in no one's hands is retried by the service.
    for trace_id in (earlier.trace_ids[0], load.trace_ids[-1]):
        wait_for("the trace and its lines", partial(found, live, trace_id))
    if engine != "otel-collector":
        missing = set(earlier.trace_ids + load.trace_ids)

        def all_arrived() -> bool:
            missing.difference_update([t for t in missing if live.spans(t)])
            return not missing

        wait_for("every trace", all_arrived)
    wait_for(
        "the requests in the counters",
        lambda: (live.number(COUNTED % "") or 0) >= counted + len(earlier.statuses + load.statuses),
    )
    assert (live.number(COUNTED % f" @ {killed_at:.3f}") or 0) >= counted + 5


def test_a_killed_worker_is_replaced_and_the_others_answer_on(live: LiveStack) -> None:
    master = psutil.Process(live.pid("service"))
    workers = {child.pid for child in master.children()}
    assert len(workers) == 2
    os.kill(min(workers), signal.SIGKILL)
    wait_for("two workers again", lambda: len({c.pid for c in master.children()} - workers) == 1)
    with Load(live, healthy_videos(live)[:1]) as load:
        load.more(20)
    assert set(load.statuses) == {200}
