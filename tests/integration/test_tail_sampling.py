"""A known mix of traces through a balancer and two samplers, and what is left of it.

The committed files on the real program. Slow, because nothing but this runs that program:
`make test-all` builds it.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from stack.layout import CHECKOUT
from tests.live import wait_for
from tests.otlp_sink import OtlpSink
from tests.ports import free_port
from tests.prometheus_process import binary

pytestmark = pytest.mark.slow

# How many of each kind are sent. Ids and numbers are the same in every run.
MIX = {"ordinary": 600, "failed": 40, "slow": 30, "breaker": 20}
SPANS = 4
# Of the sampler's own metrics: traces by what was decided.
DECIDED = "otelcol_processor_tail_sampling_global_count_traces_sampled_total"
START_NS = 1_800_000_000 * 10**9


def spans(kind: str, dice: random.Random) -> list[dict[str, Any]]:
    """A trace, its spans in the order in which they end: the root last."""
    trace_id, root = f"{dice.getrandbits(128):032x}", f"{dice.getrandbits(64):016x}"
    lasted_ns = (31_000 if kind == "slow" else 250) * 10**6
    made = []
    for number in range(SPANS):
        is_root = number == SPANS - 1
        span: dict[str, Any] = {
            "traceId": trace_id,
            "spanId": root if is_root else f"{dice.getrandbits(64):016x}",
            "name": "GET /api/transcripts" if is_root else "transcript.stage",
            "kind": 2 if is_root else 1,
            "startTimeUnixNano": str(START_NS),
            "endTimeUnixNano": str(START_NS + (lasted_ns if is_root else 10**8)),
            "attributes": [{"key": "mix", "value": {"stringValue": kind}}],
        }
        if not is_root:
            span["parentSpanId"] = root
        if kind == "failed" and number == 1:
            span["status"] = {"code": 2}
        if kind == "breaker" and number == 0:
            span["events"] = [
                {"timeUnixNano": str(START_NS), "name": "circuit_breaker.state_changed"}
            ]
        made.append(span)
    return made


@contextmanager
def collector(folder: Path, name: str, configs: list[str], env: Mapping[str, str]) -> Iterator[str]:
    """One that runs; the address of its own metrics."""
    health, metrics = (f"127.0.0.1:{free_port()}" for _ in range(2))
    state = folder / name
    state.mkdir()
    (state / "authorization").write_text("Basic eA==")
    with (state / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                str(binary("otelcol-gateway")),
                *(f"--config={CHECKOUT / 'otel-collector' / config}" for config in configs),
                "--feature-gates=+connector.spanmetrics.excludeResourceMetrics",
            ],
            env={
                **{key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
                "OTELCOL_HEALTH_ENDPOINT": health,
                "OTELCOL_METRICS_HOST": "127.0.0.1",
                "OTELCOL_METRICS_PORT": metrics.rpartition(":")[2],
                "OTELCOL_QUEUE_DIR": str(state / "queue"),
                "ENGINE_AUTHORIZATION_FILE": str(state / "authorization"),
                **env,
            },
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(name, lambda: _is_up(health) or process.poll() is not None)
        assert process.poll() is None, (state / "log").read_text()[-3000:]
        yield metrics
    finally:
        process.terminate()
        process.wait(60)


def _is_up(address: str) -> bool:
    try:
        return requests.get(f"http://{address}/", timeout=5).ok
    except requests.RequestException:
        return False


def test_what_is_worth_it_is_kept_whole_and_of_the_rest_a_few_per_cent(tmp_path: Path) -> None:
    with ExitStack() as stack:
        stores = [stack.enter_context(OtlpSink()) for _ in range(2)]
        measured = stack.enter_context(OtlpSink())
        unused = {
            "PROMETHEUS_OTLP_ENDPOINT": measured.url, "VICTORIALOGS_OTLP_ENDPOINT": measured.url
        }  # fmt: skip
        gateways, samplers = [], []
        for number, store in enumerate(stores):
            gateways.append(f"127.0.0.1:{free_port()}")
            env = {
                **unused,
                "JAEGER_OTLP_ENDPOINT": store.url,
                "OTELCOL_OTLP_GRPC_ENDPOINT": gateways[-1],
                "OTELCOL_OTLP_HTTP_ENDPOINT": f"127.0.0.1:{free_port()}",
            }
            configs = ["config.yaml", "gateway.yaml"]
            samplers.append(
                stack.enter_context(collector(tmp_path, f"gateway-{number}", configs, env))
            )
        door = f"127.0.0.1:{free_port()}"
        env = {
            **unused,
            "OTELCOL_GATEWAYS": f"{{static: {{hostnames: [{', '.join(gateways)}]}}}}",
            "OTELCOL_OTLP_GRPC_ENDPOINT": f"127.0.0.1:{free_port()}",
            "OTELCOL_OTLP_HTTP_ENDPOINT": door,
        }
        stack.enter_context(collector(tmp_path, "balancer", ["config.yaml", "balancer.yaml"], env))

        dice = random.Random(20261128)
        traces = [spans(kind, dice) for kind, count in MIX.items() for _ in range(count)]
        dice.shuffle(traces)
        kinds = {
            trace[0]["traceId"]: trace[0]["attributes"][0]["value"]["stringValue"]
            for trace in traces
        }
        # As workers send them: a request has spans of many traces, a trace comes in many requests.
        for begin in range(0, len(traces), 50):
            some = traces[begin : begin + 50]
            for number in range(SPANS):
                send(door, [trace[number] for trace in some])

        # More, where a trace was decided on in two halves: what is kept tells below.
        wait_for("every decision", lambda: decided(samplers).total() >= len(traces), 180)
        wait_for(
            "what was kept",
            lambda: sum(len(store.spans) for store in stores) == decided(samplers)["true"] * SPANS,
        )
        wait_for(
            "every span's measurement",
            lambda: measured.counter("traces.span.metrics.calls") == len(traces) * SPANS,
        )

    kept = [Counter(span.trace_id for span in store.spans) for store in stores]
    assert all(kept), "both samplers had something to keep"
    # A trace is at one of them, and whole: one sampler saw all of it.
    assert not kept[0].keys() & kept[1].keys()
    assert {count for counter in kept for count in counter.values()} == {SPANS}
    by_kind = Counter(kinds[trace_id] for counter in kept for trace_id in counter)
    ordinary = by_kind.pop("ordinary")
    assert by_kind == Counter({kind: n for kind, n in MIX.items() if kind != "ordinary"})
    assert 0.02 < ordinary / MIX["ordinary"] < 0.09


def send(door: str, some: list[dict[str, Any]]) -> None:
    """One export of a worker."""
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "mix"}}]}
    body = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": some}]}]}
    answer = requests.post(f"http://{door}/v1/traces", json=body, timeout=60)
    assert answer.status_code == 200, answer.text


def decided(gateways: Iterable[str]) -> Counter[str]:
    """How many traces the samplers kept (`true`) and left out (`false`) so far."""
    found: Counter[str] = Counter()
    for address in gateways:
        text = requests.get(f"http://{address}/metrics", timeout=10).text
        for labels, value in re.findall(rf"^{DECIDED}\{{(.*)\}} (\d+)", text, re.MULTILINE):
            found[re.search('sampled="([a-z]+)"', labels)[1]] += int(value)  # type: ignore[index]
    return found
