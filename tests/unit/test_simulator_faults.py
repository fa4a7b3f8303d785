"""Faults strike where, how often and for whom they were told to, and the same way every time."""

from __future__ import annotations

import pytest

from simulator.faults import KINDS, Fault, FaultError, FaultPlan


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("http_429", Fault("http_429")),
        ("reset=0.05", Fault("reset", ratio=0.05)),
        ("slow_body@timedtext:3", Fault("slow_body", "timedtext", 3.0)),
        ("slow_headers@player:0.5=1", Fault("slow_headers", "player", 0.5, 1.0)),
    ],
)
def test_a_fault_is_read_from_its_notation(spec: str, expected: Fault) -> None:
    assert Fault.parse(spec) == expected
    assert Fault.from_json(expected.to_json()) == expected


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("nonsense", "unknown fault"),
        ("http_429@nowhere", "unknown endpoint"),
        ("http_429=1.5", "between 0 and 1"),
        ("http_429=", "cannot read"),
        ("slow_body:9999", "between 0 and 3600"),
        ({}, "at least"),
        ({"name": "reset", "times": 0}, "at least 1"),
        ({"name": "reset", "via": "tunnel"}, "via must be"),
        ({"name": "reset", "ratio": "often"}, "no field 'ratio' of this type"),
        ({"name": "reset", "colour": "red"}, "no field 'colour'"),
        (7, "text or an object"),
    ],
)
def test_a_fault_that_cannot_be_meant_is_refused_with_its_reason(value: object, says: str) -> None:
    with pytest.raises(FaultError, match=says):
        Fault.from_json(value)


def test_every_kind_has_a_line_of_description_and_somewhere_to_strike() -> None:
    for kind in KINDS.values():
        assert kind.summary
        assert "\n" not in kind.summary
        assert kind.endpoints


def strikes(
    plan: FaultPlan, count: int, video: str = "v", user: str | None = None
) -> list[str | None]:
    outcomes = [plan.strike("timedtext", video, proxy_user=user) for _ in range(count)]
    return [outcome.fault.name if outcome.fault else None for outcome in outcomes]


def test_a_ratio_is_kept_and_a_seed_repeats_it_whatever_happens_in_between() -> None:
    plan = FaultPlan(seed=3)
    plan.everywhere = [Fault("reset", ratio=0.3)]
    first = strikes(plan, 400)
    assert 80 < first.count("reset") < 160
    plan.reset()
    again: list[str | None] = []
    for _ in range(400):
        strikes(plan, 1, video="another")
        again += strikes(plan, 1)
    assert again == first
    plan.reset(seed=4)
    assert strikes(plan, 400) != first


def test_a_fault_with_times_switches_itself_off() -> None:
    plan = FaultPlan()
    plan.by_video["v"] = [Fault("http_500", times=2)]
    assert strikes(plan, 4) == ["http_500", "http_500", None, None]
    assert plan.by_video["v"] == []


def test_a_videos_own_fault_wins_over_its_exits_and_over_the_general_one() -> None:
    plan = FaultPlan()
    plan.everywhere = [Fault("reset")]
    plan.by_proxy_user["alice"] = [Fault("http_403")]
    plan.by_video["v"] = [Fault("http_429", endpoint="timedtext")]
    assert strikes(plan, 1) == ["http_429"]
    assert strikes(plan, 1, video="w", user="alice-sessid-9f-sesstime-10") == ["http_403"]
    assert strikes(plan, 1, video="w") == ["reset"]


@pytest.mark.parametrize(
    ("via", "direct", "proxied"),
    [("any", "reset", "reset"), ("direct", "reset", None), ("proxy", None, "reset")],
)
def test_a_fault_can_be_kept_to_direct_or_proxied_connections(
    via: str, direct: str | None, proxied: str | None
) -> None:
    plan = FaultPlan()
    plan.everywhere = [Fault.from_json({"name": "reset", "via": via})]
    assert strikes(plan, 1) == [direct]
    assert strikes(plan, 1, user="") == [proxied]


def test_a_general_fault_strikes_only_where_its_kind_does_unless_told() -> None:
    plan = FaultPlan()
    plan.everywhere = [Fault("bot_check")]
    assert strikes(plan, 1) == [None]
    assert plan.strike("player", "v", proxy_user=None).has("bot_check")


def test_latency_adds_to_other_faults_and_has_a_tail() -> None:
    plan = FaultPlan(seed=1)
    plan.everywhere = [Fault("latency"), Fault("http_503")]
    outcomes = [plan.strike("timedtext", "v", proxy_user=None) for _ in range(300)]
    delays = sorted(outcome.delay_s for outcome in outcomes)
    assert all(outcome.has("http_503") for outcome in outcomes)
    assert 0.035 < delays[150] < 0.065
    assert delays[285] > 2 * delays[150]
    assert delays[-1] <= 0.5
