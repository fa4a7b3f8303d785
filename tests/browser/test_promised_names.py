"""The calls that were promised by name run as docs/promised-names.md writes them."""

from __future__ import annotations

import re
from typing import Any

from stack.layout import CHECKOUT
from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.browser import get_browser_pool

PAGE = CHECKOUT / "docs/promised-names.md"


def test_the_blocks_of_the_page_run_in_their_order(telemetry: InMemoryTelemetry) -> None:
    names: dict[str, Any] = {}
    try:
        for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
            exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102 - our own page
    finally:
        get_browser_pool().close(grace_s=2.0)
    assert names["heading"] == "Hello"
    (metric,) = telemetry.events("performance.metric")
    assert (metric["p50"], metric["p95"]) == (900, 2400)
    (measured,) = telemetry.events("performance.measured")
    assert (measured["operation"], measured["video_id"]) == ("captions.parse", "dQw4w9WgXcQ")
    assert telemetry.events("telemetry.metric.unknown") == []


def test_every_class_that_was_asked_for_by_name_is_on_the_page() -> None:
    asked = (
        "BrowserContextManager",
        "CircuitBreakerMonitor",
        "DashboardMetricsCollector",
        "StructuredFormatter",
        "ContextualLogger",
        "PerformanceLogger",
        "AlertLogger",
        "MetricsAggregator",
    )
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    assert [name for name, job in rows if job] == list(asked)
