"""When contexts are replaced, each reason seen in metric, log and span."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from tests.browser.conftest import MakePool, idle, wait_until
from tests.browser.site import Site
from tests.pool_stats import stats
from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.browser import BrowserPool, BrowserUnavailable

MIB = 2**20
# Memory that is really used: untouched pages cost nothing. Kept by the window.
ALLOCATE = "mib => { window.kept = new Uint8Array(mib * 2 ** 20).fill(7); }"


def told(telemetry: InMemoryTelemetry, reason: str) -> tuple[float, int, list[ReadableSpan]]:
    """Times a reason appears in metric, log and spans."""
    return (
        telemetry.metric("browser.contexts.closed", profile="desktop", reason=reason),
        sum(e["reason"] == reason for e in telemetry.events("browser.context.retired")),
        [s for s in telemetry.spans("browser.retire") if (s.attributes or {})["reason"] == reason],
    )


def use(pool: BrowserPool, site: Site) -> None:
    with pool.lease() as context:
        context.new_page().goto(site.url)
    wait_until(lambda: idle(pool))


def test_a_context_serves_exactly_the_configured_uses(
    make_pool: MakePool, site: Site, telemetry: InMemoryTelemetry
) -> None:
    pool = make_pool(max_uses=3)
    for _ in range(7):
        use(pool, site)
    wait_until(lambda: stats(pool).closed == {"uses": 2})
    counts = [event["uses"] for event in telemetry.events("browser.context.leased")]
    assert counts == [1, 2, 3, 1, 2, 3, 1]
    metric, log, spans = told(telemetry, "uses")
    assert (metric, log, len(spans)) == (2, 2, 2)
    retired = [(s.attributes or {}).get("retired") for s in telemetry.spans("browser.lease")]
    assert retired == [None, None, "uses", None, None, "uses", None]
    # The successor stood ready when the third lease ended: nobody waited for it.
    assert all(event["wait_s"] < 0.5 for event in telemetry.events("browser.context.leased")[3::3])


def test_a_context_goes_at_its_age_give_or_take_the_jitter(
    make_pool: MakePool, site: Site, telemetry: InMemoryTelemetry
) -> None:
    pool = make_pool(max_age_s=4.0, age_jitter=0.25, replace_ahead_s=1.0, tick_s=0.05)
    use(pool, site)
    wait_until(lambda: stats(pool).closed.get("age", 0) >= 2, 60)
    ages = [e["age_s"] for e in telemetry.events("browser.context.retired")]
    # The first was leased, its successor was not and has none itself. Closing takes a while.
    assert len(ages) == 2
    assert all(age >= 3.0 for age in ages)
    assert all(age < 5.0 + 3.0 for age in ages)
    assert stats(pool).created == 2
    metric, log, spans = told(telemetry, "age")
    assert (metric, log, len(spans)) == (2, 2, 2)


def test_memory_past_the_threshold_retires_contexts(
    make_pool: MakePool, site: Site, telemetry: InMemoryTelemetry
) -> None:
    pool = make_pool(memory_threshold_bytes=400 * MIB, memory_interval_s=0.2)
    use(pool, site)
    before = stats(pool)
    assert not before.memory_high
    with pool.lease() as context:
        page = context.new_page()
        page.goto(site.url)
        page.evaluate(ALLOCATE, 600)
        wait_until(lambda: stats(pool).memory_high)
        # Not closed under the lease, and no new context meanwhile.
        assert page.evaluate("window.kept[0]") == 7
        with pytest.raises(BrowserUnavailable) as refused, pool.lease("mobile", timeout_s=0.2):
            pass
        assert refused.value.reason == "memory"
        assert refused.value.retry_after_s is not None
    wait_until(lambda: stats(pool).closed == {"memory": 1})
    wait_until(lambda: not stats(pool).memory_high)
    use(pool, site)
    after = stats(pool)
    assert after.memory_bytes is not None
    assert after.memory_baseline_bytes is not None
    assert after.memory_bytes - after.memory_baseline_bytes < 400 * MIB
    assert after.launches == 1
    metric, log, spans = told(telemetry, "memory")
    assert (metric, log, len(spans)) == (1, 1, 1)
    high = telemetry.events("browser.memory.high")[0]
    assert high["used_bytes"] - high["baseline_bytes"] > 400 * MIB
    assert telemetry.metric("browser.memory.usage") > 0


def test_idle_contexts_are_given_up_for_a_leased_one_that_grows(
    make_pool: MakePool, site: Site, telemetry: InMemoryTelemetry
) -> None:
    pool = make_pool(memory_threshold_bytes=400 * MIB, memory_interval_s=0.2)
    with pool.lease("mobile") as context:
        context.new_page().goto(site.url)
    wait_until(lambda: idle(pool))
    with pool.lease("desktop") as context:
        page = context.new_page()
        page.goto(site.url)
        page.evaluate(ALLOCATE, 600)
        wait_until(lambda: stats(pool).closed == {"memory": 1})
        assert page.evaluate("window.kept[0]") == 7
    assert telemetry.metric("browser.contexts.closed", profile="mobile", reason="memory") == 1


def test_the_pools_state_is_in_its_metrics(
    make_pool: MakePool, site: Site, telemetry: InMemoryTelemetry
) -> None:
    pool = make_pool(max_contexts=2)
    use(pool, site)
    with pool.lease("mobile"):
        counts: dict[Any, float] = {
            (profile, state): telemetry.metric("browser.contexts", profile=profile, state=state)
            for profile in ("desktop", "mobile")
            for state in ("idle", "leased")
        }
    assert counts == {
        ("desktop", "idle"): 1,
        ("desktop", "leased"): 0,
        ("mobile", "idle"): 0,
        ("mobile", "leased"): 1,
    }
    assert telemetry.metric("browser.contexts.limit") == 2
    pool.close(grace_s=10)
    for profile in ("desktop", "mobile"):
        assert telemetry.metric("browser.contexts.created", profile=profile) == 1
        assert telemetry.metric("browser.contexts.closed", profile=profile, reason="shutdown") == 1
        assert telemetry.metric("browser.context.wait.duration", profile=profile) == 1
        assert telemetry.metric("browser.context.uses", profile=profile) == 1
        assert telemetry.metric("browser.context.age", profile=profile) == 1
        for state in ("idle", "leased"):
            assert telemetry.metric("browser.contexts", profile=profile, state=state) == 0
