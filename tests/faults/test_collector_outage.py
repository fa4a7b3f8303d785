"""The Collector is away for a while under load: every span and log line is accounted for.

Slow, because the first row of tests/faults/test_matrix.py does the same without the service.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import requests

from stack.supervise import Supervisor
from tests.live import (
    FAST_TELEMETRY,
    LiveStack,
    Load,
    healthy_videos,
    running_stack,
    wait_for,
)

SERVICE = "tldw-transcript-service"
OUTAGE_S = 120
# More requests than the small queues below hold spans and lines of.
LEAST_REQUESTS = 400
# When each worker's newest accounts were taken.
COLLECTED = "timestamp(otel_sdk_span_ended_total)"
NOUNS = {"span": "otel_sdk_span_ended_total", "log": "otel_sdk_log_created_total"}


@pytest.fixture
def stack() -> Iterator[LiveStack]:
    """A stack whose service can hold few records, so that an outage must cost some."""
    environ = {
        **FAST_TELEMETRY,
        "WEB_CONCURRENCY": "2",
        "OTEL_BSP_MAX_QUEUE_SIZE": "150",
        "OTEL_BLRP_MAX_QUEUE_SIZE": "100",
        "LOG_RATE_LIMIT_PER_MIN": "0",
    }
    with running_stack("outage", environ) as running:
        yield running


def accounts(stack: LiveStack) -> dict[str, dict[str, float]]:
    """By noun: created, exported, queued, and dropped with the reasons apart."""

    def number(promql: str) -> float:
        return stack.number(promql) or 0.0

    found = {}
    for noun, created in NOUNS.items():
        processed = f"otel_sdk_processor_{noun}_processed_total"
        dropped = stack.query(f'sum by (error_type) ({processed}{{error_type!=""}})')
        found[noun] = {
            "created": number(f"sum({created})"),
            "exported": number(f'sum(otel_sdk_exporter_{noun}_exported_total{{error_type=""}})'),
            "queued": number(f"sum(otel_sdk_processor_{noun}_queue_size)"),
            **{row["metric"]["error_type"]: float(row["value"][1]) for row in dropped},
        }
    return found


def spans_in_jaeger(stack: LiveStack, since: float) -> int:
    """How many different spans of the service Jaeger holds; asked in pieces of five seconds."""
    spans: set[tuple[str, str]] = set()
    until = time.time() + 5
    while since < until:
        answer = requests.get(
            stack.layout.engine("jaeger", "/api/traces"),
            {
                "service": SERVICE,
                "limit": "1500",
                "start": str(int(since * 1e6)),
                "end": str(int((since + 5) * 1e6)),
            },
            timeout=60,
        ).json()["data"]
        assert len(answer) < 1500, "Jaeger may have left some out"
        spans.update(
            (span["traceID"], span["spanID"])
            for found in answer
            for span in found["spans"]
            if found["processes"][span["processID"]]["serviceName"] == SERVICE
        )
        since += 5
    return len(spans)


def lines_in_victorialogs(stack: LiveStack) -> int:
    (found,) = stack.log_lines(f'{{"service.name"="{SERVICE}"}} | stats count() lines')
    return int(found["lines"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_created_is_exported_plus_dropped_and_what_was_exported_is_stored(
    stack: LiveStack,
) -> None:
    began = time.time() - 60
    supervisor = Supervisor(stack.layout)
    with Load(stack, healthy_videos(stack)[:1], threads=4, pause_s=0.2) as load:
        load.more(20)
        # Through the supervisor, which would otherwise bring it back at once.
        supervisor.stop(["otel-collector"])
        away = time.monotonic()
        load.more(LEAST_REQUESTS)
        wait_for("the end of the outage", lambda: time.monotonic() - away >= OUTAGE_S, OUTAGE_S + 9)
        assert not supervisor.processes()["otel-collector"].pid
        supervisor.launch("otel-collector")
        load.more(20)
    assert set(load.statuses) == {200}

    def settled() -> dict[str, dict[str, float]] | None:
        """The accounts, once nothing is queued and each worker's next collection says the same."""
        first, newest = accounts(stack), stack.number(f"max({COLLECTED})") or time.time()
        if any(account["queued"] for account in first.values()):
            return None
        wait_for("newer accounts", lambda: (stack.number(f"min({COLLECTED})") or 0) > newest)
        return first if first == accounts(stack) and first["span"]["created"] > 800 else None

    found = wait_for("the accounts of after the outage", settled)
    for noun, account in found.items():
        reasons = {
            reason: count
            for reason, count in account.items()
            if reason not in ("created", "exported", "queued")
        }
        assert set(reasons) == {"queue_full", "refused", "unencodable", "shutdown"}, noun
        assert reasons.pop("queue_full") > 0, noun
        assert not any(reasons.values()), (noun, reasons)
        assert account["created"] == account["exported"] + account["queue_full"], noun
    # 20 requests and more before, 400 and more in between, 20 and more after; two spans each
    # and a line.
    assert found["span"]["created"] >= 2 * len(load.statuses)
    assert found["log"]["created"] >= len(load.statuses)

    # What the service says was taken is what the stores hold, and they hold nothing twice.
    exported = {noun: int(account["exported"]) for noun, account in found.items()}
    wait_for(
        f"{exported['span']} spans in Jaeger",
        lambda: spans_in_jaeger(stack, began) == exported["span"],
    )
    wait_for(
        f"{exported['log']} lines in VictoriaLogs",
        lambda: lines_in_victorialogs(stack) == exported["log"],
    )
    print(f"outage of {time.monotonic() - away:.0f} s, {len(load.statuses)} requests: {found}")
