"""Who gets which context, and when one goes: the pool's decisions, without Chromium."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from tests.telemetry_memory import InMemoryTelemetry
from tests.unit.browser_fakes import DESKTOP, MOBILE, Lab
from transcript_service.browser import context, stock
from transcript_service.browser.context import State
from transcript_service.browser.errors import BrowserUnavailable
from transcript_service.browser.identity import Identity

THIRD = Identity.of("desktop", {"server": "http://proxy.test:1"})


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


# Reuse and bounds


def test_a_returned_context_serves_the_next_lease_of_its_identity() -> None:
    async def test() -> None:
        lab = Lab()
        first = await lab.pool.acquire(DESKTOP)
        lab.pool.release(first)
        other = await lab.pool.acquire(MOBILE)
        lab.pool.release(other)
        second = await lab.pool.acquire(DESKTOP)
        assert second.entry is first.entry
        assert (first.reused, other.reused, second.reused) == (False, False, True)
        assert second.entry.uses == 2
        assert lab.pool.stock.counts["created"] == 2

    run(test())


def test_a_lease_is_exclusive() -> None:
    async def test() -> None:
        lab = Lab(max_contexts=2)
        first = await lab.pool.acquire(DESKTOP)
        second = await lab.pool.acquire(DESKTOP)
        assert first.entry is not second.entry

    run(test())


def test_no_more_contexts_exist_than_the_limit() -> None:
    async def test() -> None:
        lab = Lab(max_contexts=3, queue_limit=50, wait_s=5)

        async def use(identity: Identity) -> None:
            lease = await lab.pool.acquire(identity)
            await asyncio.sleep(0)
            lab.pool.release(lease)

        await asyncio.gather(*(use((DESKTOP, MOBILE, THIRD)[i % 3]) for i in range(40)))
        await lab.settle()
        assert lab.browser.most_contexts <= 3
        assert lab.pool.stock.counts["leases"] == 40
        assert lab.open == len(lab.browser.contexts) <= 3

    run(test())


def test_an_idle_context_makes_room_for_another_identity() -> None:
    async def test() -> None:
        lab = Lab(max_contexts=1)
        lab.pool.release(await lab.pool.acquire(DESKTOP))
        lease = await lab.pool.acquire(MOBILE)
        assert lease.entry.identity == MOBILE
        assert lab.pool.stock.closed == {"capacity": 1}
        assert lab.browser.most_contexts == 1

    run(test())


def test_the_context_that_rested_longest_makes_room() -> None:
    async def test() -> None:
        lab = Lab(max_contexts=2)
        for identity in (MOBILE, DESKTOP):
            lab.pool.release(await lab.pool.acquire(identity))
            await lab.settle()
            lab.clock.now += 1
        await lab.pool.acquire(THIRD)
        await lab.settle()
        assert {entry.identity for entry in lab.pool.stock.entries} == {DESKTOP, THIRD}

    run(test())


def test_those_who_wait_are_served_in_turn() -> None:
    async def test() -> None:
        lab = Lab(max_contexts=1)
        held = await lab.pool.acquire(DESKTOP)
        order: list[int] = []

        async def wait(number: int) -> None:
            lease = await lab.pool.acquire(DESKTOP)
            order.append(number)
            lab.pool.release(lease)

        waiting = [asyncio.create_task(wait(number)) for number in range(3)]
        await lab.until(lambda: len(lab.pool._waiters) == 3)
        lab.pool.release(held)
        await asyncio.gather(*waiting)
        assert order == [0, 1, 2]

    run(test())


def test_a_waiter_of_another_identity_is_not_overtaken_for_ever() -> None:
    async def test() -> None:
        lab = Lab(max_contexts=1, queue_limit=100)
        held = await lab.pool.acquire(DESKTOP)
        served: list[str] = []

        async def use(identity: Identity) -> None:
            lease = await lab.pool.acquire(identity)
            served.append(identity.profile)
            lab.pool.release(lease)

        mobile = asyncio.create_task(use(MOBILE))
        await lab.until(lambda: len(lab.pool._waiters) == 1)
        desktops = [asyncio.create_task(use(DESKTOP)) for _ in range(30)]
        await lab.until(lambda: len(lab.pool._waiters) == 31)
        lab.pool.release(held)
        await asyncio.gather(mobile, *desktops)
        assert served.index("mobile") == 8  # pool._OVERTAKES

    run(test())


# Refusals


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(
    telemetry: InMemoryTelemetry,
) -> None:
    async def test() -> None:
        lab = Lab(max_contexts=1, queue_limit=1)
        await lab.pool.acquire(DESKTOP)
        waiting = asyncio.create_task(lab.pool.acquire(DESKTOP))
        await lab.until(lambda: len(lab.pool._waiters) == 1)
        with pytest.raises(BrowserUnavailable, match="All 1 browser contexts are in use") as caught:
            await lab.pool.acquire(DESKTOP)
        assert caught.value.reason == "queue_full"
        assert caught.value.error_type == "browser_unavailable"
        assert caught.value.retry_after_s is not None
        assert 1 <= caught.value.retry_after_s <= 60
        waiting.cancel()

    run(test())
    assert telemetry.events("browser.context.lease_failed")[0]["reason"] == "queue_full"


def test_waiting_ends_with_the_reason() -> None:
    async def test() -> None:
        lab = Lab(max_contexts=1)
        await lab.pool.acquire(DESKTOP)
        with pytest.raises(BrowserUnavailable) as caught:
            await lab.pool.acquire(DESKTOP, wait_s=0.01)
        assert caught.value.reason == "wait_timeout"
        assert len(lab.pool._waiters) == 0

    run(test())


def test_a_browser_that_does_not_start_fails_all_who_wait_and_is_not_tried_again_at_once() -> None:
    async def test() -> None:
        lab = Lab()
        lab.refusal = BrowserUnavailable("not_installed", "No Chromium found.")
        answers = await asyncio.gather(
            *(lab.pool.acquire(DESKTOP) for _ in range(3)), return_exceptions=True
        )
        assert [getattr(answer, "reason", None) for answer in answers] == ["not_installed"] * 3
        lab.refusal = None  # somebody installs one, but the pause is not over
        with pytest.raises(BrowserUnavailable, match="No Chromium found") as caught:
            await lab.pool.acquire(DESKTOP)
        assert caught.value.retry_after_s == pytest.approx(5, abs=1)
        assert lab.launched == []

    run(test())


def test_a_context_that_cannot_be_made_is_the_answer_to_its_waiter_only() -> None:
    async def test() -> None:
        lab = Lab(max_contexts=1)
        held = await lab.pool.acquire(DESKTOP)
        lab.browser.failing.add("new_context")
        lab.pool.release(held)
        with pytest.raises(BrowserUnavailable) as caught:
            await lab.pool.acquire(MOBILE)
        assert caught.value.reason == "context_failed"
        lab.browser.failing.clear()
        assert (await lab.pool.acquire(MOBILE)).entry.identity == MOBILE

    run(test())


def test_a_page_that_crashes_while_it_is_opened_is_no_refusal() -> None:
    async def test() -> None:
        lab = Lab(max_contexts=1)
        lab.pool.release(await lab.pool.acquire(MOBILE))
        await lab.settle()
        lab.browser.failing.add("evaluate")
        waiting = asyncio.create_task(lab.pool.acquire(DESKTOP))
        await lab.until(lambda: lab.pool.stock.closed["unhealthy"] == 1)
        lab.browser.failing.clear()
        assert (await waiting).entry.identity == DESKTOP
        assert lab.open == 1

    run(test())


def test_a_caller_who_gives_up_takes_no_context_along() -> None:
    async def test() -> None:
        lab = Lab(max_contexts=1)
        held = await lab.pool.acquire(DESKTOP)
        for _ in range(20):
            task = asyncio.create_task(lab.pool.acquire(DESKTOP))
            await lab.until(lambda: len(lab.pool._waiters) == 1)
            lab.pool.release(held)
            # The context is handed out and the caller is cancelled in the same step.
            await lab.until(lambda: len(lab.pool._waiters) == 0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            held = await lab.pool.acquire(DESKTOP)
        assert lab.open == 1

    run(test())


# Leases end


def test_returning_twice_changes_nothing() -> None:
    async def test() -> None:
        lab = Lab(max_contexts=1)
        first = await lab.pool.acquire(DESKTOP)
        lab.pool.release(first)
        second = await lab.pool.acquire(DESKTOP)
        lab.pool.release(first)
        assert second.entry.state is State.LEASED

    run(test())


def test_a_lease_past_its_deadline_is_taken_away_and_its_place_is_free(
    telemetry: InMemoryTelemetry,
) -> None:
    async def test() -> None:
        lab = Lab(max_contexts=1)
        stuck = await lab.pool.acquire(DESKTOP, hold_s=0.01)
        second = await lab.pool.acquire(DESKTOP)
        assert stuck.lost == "expired"
        assert second.entry is not stuck.entry
        lab.pool.release(stuck)  # the holder comes back at last
        assert second.entry.state is State.LEASED
        assert lab.pool.stock.closed == {"expired": 1}

    run(test())
    assert telemetry.metric("browser.contexts.closed", profile="desktop", reason="expired") == 1
    assert telemetry.events("browser.context.lease_expired")


def test_a_context_that_cannot_be_cleaned_is_not_handed_out_again() -> None:
    async def test() -> None:
        lab = Lab()
        first = await lab.pool.acquire(DESKTOP)
        lab.browser.failing.add("unroute_all")
        lab.pool.release(first)
        await lab.settle()
        assert lab.pool.stock.closed == {"unhealthy": 1}
        assert (await lab.pool.acquire(DESKTOP)).entry is not first.entry

    run(test())


def test_what_takes_long_to_clean_occupies_nothing_but_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(context, "SLOW_S", 0.05)

    async def test() -> None:
        lab = Lab(max_contexts=1, wait_s=2, tick_s=0.01)
        slow = await lab.pool.acquire(DESKTOP)
        await slow.context.new_page()
        await slow.context.new_page()
        lab.browser.hanging.add("close_page")
        lab.pool.release(slow)
        other = await lab.pool.acquire(DESKTOP)
        assert other.entry is not slow.entry
        lab.browser.hanging.clear()
        # Never more than twice as many, whatever hangs.
        assert len(lab.pool.stock.entries) == 2

    run(test())


def test_of_two_contexts_where_one_is_wanted_the_one_cleaned_last_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(context, "SLOW_S", 0.02)

    async def test() -> None:
        lab = Lab(max_contexts=1, wait_s=2, tick_s=0.01)
        go_on = asyncio.Event()
        slow = await lab.pool.acquire(DESKTOP)
        monkeypatch.setattr(slow.entry, "clean", go_on.wait)
        lab.pool.release(slow)
        lab.pool.release(await lab.pool.acquire(DESKTOP))
        go_on.set()
        await lab.settle()
        assert [entry.state for entry in lab.pool.stock.entries] == [State.IDLE]
        assert lab.pool.stock.closed == {"capacity": 1}

    run(test())


def test_a_context_that_will_not_close_costs_the_browser_and_no_slot() -> None:
    async def test() -> None:
        lab = Lab(max_contexts=1, operation_s=0.05, wait_s=2)
        stuck = await lab.pool.acquire(DESKTOP)
        old = lab.browser
        old.hanging.add("close_context")
        stuck.entry.condemn("unhealthy")
        lab.pool.release(stuck)
        second = await lab.pool.acquire(DESKTOP)
        await lab.settle()
        assert second.entry.process is not old
        assert old.destroyed
        assert lab.open == 1

    run(test())


@pytest.mark.parametrize("method", ["add_init_script", "expose_binding", "clock", "tracing"])
def test_what_cleaning_cannot_undo_costs_the_context(method: str) -> None:
    async def test() -> None:
        lab = Lab()
        lease = await lab.pool.acquire(DESKTOP)
        getattr(lease.context, method)
        lab.pool.release(lease)
        await lab.settle()
        assert lab.pool.stock.closed == {"unhealthy": 1}
        assert lease.entry.detail == method

    run(test())


# Recycling


def test_a_context_goes_after_exactly_its_uses_and_its_successor_is_ready_before() -> None:
    async def test() -> None:
        lab = Lab(max_uses=3, max_contexts=1)
        for use in (1, 2, 3):
            lease = await lab.pool.acquire(DESKTOP)
            assert lease.entry.uses == use
            if use == 3:
                await lab.settle()
                assert [entry.state for entry in lab.pool.stock.entries] == [
                    State.LEASED,
                    State.IDLE,
                ]
            lab.pool.release(lease)
        successor = await lab.pool.acquire(DESKTOP)
        assert (successor.entry.uses, successor.reused) == (1, False)
        await lab.settle()
        assert lab.pool.stock.closed == {"uses": 1}
        assert lab.browser.most_contexts == 2  # the limit and the successor

    run(test())


def test_a_successor_is_not_leased_beyond_the_limit() -> None:
    async def test() -> None:
        lab = Lab(max_uses=1, max_contexts=1)
        first = await lab.pool.acquire(DESKTOP)
        await lab.settle()
        assert len(lab.pool.stock.entries) == 2
        with pytest.raises(BrowserUnavailable):
            await lab.pool.acquire(DESKTOP, wait_s=0.01)
        lab.pool.release(first)
        await lab.pool.acquire(DESKTOP)

    run(test())


def test_an_idle_context_goes_at_its_age_and_a_successor_is_made_just_before() -> None:
    async def test() -> None:
        lab = Lab(max_age_s=100, replace_ahead_s=3)
        lab.pool.release(await lab.pool.acquire(DESKTOP))
        await lab.settle()
        lab.clock.now += 96
        lab.pool.stock.tick()
        assert len(lab.pool.stock.entries) == 1
        lab.clock.now += 2
        lab.pool.stock.tick()
        await lab.settle()
        assert [entry.state for entry in lab.pool.stock.entries] == [State.IDLE, State.IDLE]
        lab.clock.now += 2
        lab.pool.stock.tick()
        await lab.settle()
        assert lab.pool.stock.closed == {"age": 1}
        assert len(lab.pool.stock.entries) == 1

    run(test())


def test_a_context_nobody_used_since_it_was_made_gets_no_successor() -> None:
    async def test() -> None:
        lab = Lab(max_age_s=100)
        lab.pool.release(await lab.pool.acquire(DESKTOP))
        await lab.settle()
        for _ in range(4):
            lab.clock.now += 98
            lab.pool.stock.tick()
            await lab.settle()
            lab.clock.now += 3
            lab.pool.stock.tick()
            await lab.settle()
        assert lab.pool.stock.entries == []
        assert lab.pool.stock.counts["created"] == 2

    run(test())


def test_a_busy_context_goes_at_its_age_when_it_comes_back_and_not_before() -> None:
    async def test() -> None:
        lab = Lab(max_age_s=100)
        lease = await lab.pool.acquire(DESKTOP)
        lab.clock.now += 200
        lab.pool.stock.tick()
        await lab.settle()
        assert lease.entry.state is State.LEASED
        lab.pool.release(lease)
        await lab.settle()
        assert lab.pool.stock.closed == {"age": 1}

    run(test())


def test_an_expired_context_is_not_leased_even_if_nobody_has_retired_it_yet() -> None:
    async def test() -> None:
        lab = Lab(max_age_s=100, max_contexts=2)
        first = await lab.pool.acquire(DESKTOP)
        lab.pool.release(first)
        await lab.settle()
        lab.clock.now += 100
        assert (await lab.pool.acquire(DESKTOP)).entry is not first.entry

    run(test())


def test_contexts_made_together_do_not_expire_together() -> None:
    async def test() -> None:
        lab = Lab(max_contexts=20, max_age_s=1000, age_jitter=0.1)
        for _ in range(20):
            await lab.pool.acquire(DESKTOP)
        lives = [entry.expires_at - entry.created_at for entry in lab.pool.stock.entries]
        assert all(900 <= life <= 1100 for life in lives)
        assert len({round(life) for life in lives}) > 10

    run(test())


def test_a_context_that_is_closing_when_the_pool_ends_keeps_its_reason() -> None:
    async def test() -> None:
        lab = Lab(max_age_s=100)
        lab.pool.release(await lab.pool.acquire(DESKTOP))
        await lab.settle()
        lab.clock.now += 100
        lab.pool.stock.tick()
        await lab.pool.close(grace_s=0)
        assert lab.pool.stock.closed == {"age": 1}

    run(test())


def test_a_worn_context_is_replaced_and_a_slow_machine_wears_nothing() -> None:
    async def test() -> None:
        lab = Lab()
        lease = await lab.pool.acquire(DESKTOP)
        lab.pool.release(lease)
        await lab.settle()
        entry = lease.entry
        entry.probes_s.extend([2.0] * 5)
        lab.pool.stock._wear._fresh_s.extend([1.5] * 8)  # fresh ones are as slow
        lab.pool.release(await lab.pool.acquire(DESKTOP))
        await lab.settle()
        assert entry.state is State.IDLE
        lab.pool.stock._wear._fresh_s.extend([0.2] * 8)
        entry.probes_s.extend([2.0] * 5)
        lab.pool.release(await lab.pool.acquire(DESKTOP))
        await lab.settle()
        assert lab.pool.stock.closed == {"wear": 1}

    run(test())


# Memory


def test_past_the_threshold_idle_contexts_go_the_most_used_first_until_below() -> None:
    async def test() -> None:
        lab = Lab(memory_threshold_bytes=1000, max_contexts=4)
        leases = [await lab.pool.acquire(DESKTOP) for _ in range(3)]
        entries = [lease.entry for lease in leases]
        for lease, uses in zip(leases, (5, 30, 7), strict=True):
            lease.entry.uses = uses
            lab.pool.release(lease)
        await lab.settle()
        lab.browser.memory = lambda: 100 + 600 * len(lab.browser.contexts)
        lab.pool.stock.tick()
        await lab.settle()
        # 1,800 above the baseline: two have to go.
        assert [entry.state for entry in entries] == [State.IDLE, State.GONE, State.GONE]
        assert lab.pool.stock.closed == {"memory": 2}
        assert not lab.pool.stock.memory.high

    run(test())


def test_past_the_threshold_a_leased_context_goes_when_it_comes_back_and_no_new_one_is_made() -> (
    None
):
    async def test() -> None:
        lab = Lab(memory_threshold_bytes=1000, max_contexts=2)
        lease = await lab.pool.acquire(DESKTOP)
        lab.browser.memory = lambda: 5000
        lab.pool.stock.tick()
        await lab.settle()
        assert lease.entry.state is State.LEASED
        with pytest.raises(BrowserUnavailable) as caught:
            await lab.pool.acquire(MOBILE, wait_s=0.01)
        assert caught.value.reason == "memory"
        lab.pool.release(lease)
        await lab.settle()
        assert lab.pool.stock.closed == {"memory": 1}

    run(test())


def test_a_browser_that_stays_above_without_any_context_is_replaced(
    telemetry: InMemoryTelemetry,
) -> None:
    async def test() -> None:
        lab = Lab(memory_threshold_bytes=1000)
        lab.pool.release(await lab.pool.acquire(DESKTOP))
        await lab.settle()
        old = lab.browser
        old.memory = lambda: 5000
        for _ in range(2):
            lab.clock.now += 10
            lab.pool.stock.tick()
            await lab.settle()
        assert old.destroyed
        assert lab.browser is not old
        assert (await lab.pool.acquire(DESKTOP)).entry.process is lab.browser

    run(test())
    assert telemetry.events("browser.replaced")[0]["reason"] == "memory"


def test_without_a_measurement_the_pool_goes_on() -> None:
    async def test() -> None:
        lab = Lab(max_uses=1)
        lab.pool.release(await lab.pool.acquire(DESKTOP))
        lab.browser.memory = lambda: None
        for _ in range(3):
            lab.clock.now += 10
            lab.pool.stock.tick()
            await lab.settle()
        assert lab.pool.stock.closed["uses"] == 1

    run(test())


# Death


def test_a_dead_browser_is_replaced_before_the_next_lease(telemetry: InMemoryTelemetry) -> None:
    async def test() -> None:
        lab = Lab(max_contexts=2)
        leased = await lab.pool.acquire(DESKTOP)
        lab.pool.release(await lab.pool.acquire(MOBILE))
        await lab.settle()
        dead = lab.browser
        dead.die()
        assert leased.lost == "crash"
        assert lab.open == 0
        await lab.settle()
        assert dead.destroyed
        lease = await lab.pool.acquire(DESKTOP)
        assert lease.entry.process is not dead
        lab.pool.release(leased)
        assert lease.entry.state is State.LEASED

    run(test())
    assert telemetry.metric("browser.contexts.closed", profile="desktop", reason="crash") == 1
    assert telemetry.metric("browser.contexts", profile="desktop", state="leased") == 1
    assert telemetry.metric("browser.contexts", profile="mobile", state="idle") == 0
    assert telemetry.events("browser.crashed")[0]["contexts_lost"] == 2


def test_callers_who_wait_while_the_browser_dies_are_served_by_the_next_one() -> None:
    async def test() -> None:
        lab = Lab(max_contexts=1)
        await lab.pool.acquire(DESKTOP)
        waiting = asyncio.create_task(lab.pool.acquire(DESKTOP))
        await lab.until(lambda: len(lab.pool._waiters) == 1)
        lab.browser.die()
        assert (await waiting).entry.process is lab.launched[1]

    run(test())


@pytest.mark.parametrize("how", ["failing", "hanging"])
def test_a_browser_that_gives_no_sign_of_life_is_replaced(how: str) -> None:
    async def test() -> None:
        lab = Lab(heartbeat_s=0.05)
        lab.pool.release(await lab.pool.acquire(DESKTOP))
        await lab.settle()
        silent = lab.browser
        getattr(silent, how).add("heartbeat")
        for _ in range(2):  # one missed beat may be a busy machine
            lab.clock.now += 1
            lab.pool.stock.tick()
            await lab.settle()
        assert silent.destroyed
        assert lab.browser is not silent

    run(test())


def test_an_idle_context_whose_page_crashes_is_retired(telemetry: InMemoryTelemetry) -> None:
    async def test() -> None:
        lab = Lab()
        lab.pool.release(await lab.pool.acquire(DESKTOP))
        await lab.settle()
        lab.page().crash()
        await lab.settle()
        assert lab.pool.stock.closed == {"crash": 1}

    run(test())
    assert telemetry.events("browser.context.crashed")
    assert telemetry.span("browser.retire").attributes == {
        "profile": "desktop",
        "reason": "crash",
        "uses": 1,
    }


# Shutdown


def test_closing_waits_for_leaseholders_and_refuses_everybody_else() -> None:
    async def test() -> None:
        lab = Lab(max_contexts=1)
        lease = await lab.pool.acquire(DESKTOP)
        waiting = asyncio.create_task(lab.pool.acquire(DESKTOP))
        await lab.until(lambda: len(lab.pool._waiters) == 1)
        closing = asyncio.create_task(lab.pool.close(grace_s=5))
        with pytest.raises(BrowserUnavailable) as caught:
            await waiting
        assert caught.value.reason == "shutting_down"
        assert lease.entry.state is State.LEASED
        lab.pool.release(lease)
        await closing
        assert lab.browser.destroyed
        assert lab.open == 0
        with pytest.raises(BrowserUnavailable):
            await lab.pool.acquire(DESKTOP)

    run(test())


def test_closing_takes_the_context_of_a_holder_who_does_not_return() -> None:
    async def test() -> None:
        lab = Lab()
        lease = await lab.pool.acquire(DESKTOP)
        await lab.pool.close(grace_s=0.01)
        assert lease.lost == "shutdown"
        assert lab.pool.stock.closed == {"shutdown": 1}

    run(test())


def test_closing_does_not_wait_long_for_a_context_that_goes_with_its_browser(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stock, "SLOW_S", 0.02)

    async def test() -> None:
        lab = Lab(operation_s=600)
        lab.pool.release(await lab.pool.acquire(DESKTOP))
        await lab.settle()
        lab.browser.hanging.add("close_context")
        async with asyncio.timeout(60):
            await lab.pool.close(grace_s=0)
        assert lab.browser.destroyed
        assert lab.pool.stock.closed == {"shutdown": 1}

    run(test())
