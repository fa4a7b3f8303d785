"""The two parameters of the dashboard API, as people and attackers send them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcript_service.dashboard.inputs import Recent, read
from transcript_service.dashboard.window import MAX_POINTS, Window
from transcript_service.problem import Problem
from transcript_service.telemetry.vocabulary import STAGES

NOW = 1_800_000_007.9


def parse_window(arguments: list[tuple[str, str]], *, now: float) -> Window:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: now)
        return read(Recent, arguments).window()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1", 3600),
        ("1.0", 3600),
        ("01", 3600),
        ("0.25", 900),
        ("168", 604_800),
        ("0.5", 1800),
        ("0.0001", 60),  # shorter than four exports: nothing could be seen
        ("0.1", 360),
        ("1e-9", 60),  # how programs write a small number
        ("166.00000000000003", 597_600),
    ],
)
def test_a_plain_decimal_is_a_window(text: str, seconds: int) -> None:
    assert parse_window([("hours", text)], now=NOW).seconds == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0.0",
        "-1",
        "168.01",
        "169",
        "1000",
        "nan",
        "NaN",
        "inf",
        "-inf",
        "1e309",
        "1e2",
        "1e-400",  # 0 once it is a number
        "0x10",
        "1_0",
        "+1",
        " 1",
        "1 ",
        "1,5",
        ".5",
        "1.",
        "٣",
        "1٣",
        "¹",
        "1\n",
        "1;drop",
        "9" * 100_000,
        "1h",
        "true",
        "[1]",
        "null",
    ],
)
def test_anything_else_is_refused_as_a_callers_mistake(text: str) -> None:
    with pytest.raises(Problem) as refused:
        parse_window([("hours", text)], now=NOW)
    assert (refused.value.status, refused.value.code) == (400, "invalid_parameter")
    assert text not in refused.value.detail or len(text) <= 3


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_can_be_asked_for(stage: str) -> None:
    assert parse_window([("stage", stage)], now=NOW).stage == stage


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ASR",
        "asr ",
        'asr"} or vector(1) or {x="',
        'asr",job="other',
        "asr\\",
        ".*",
        "asr\x00",
        "$job",
        "__name__",
    ],
)
def test_a_stage_outside_the_list_never_reaches_a_query(text: str) -> None:
    with pytest.raises(Problem):
        parse_window([("stage", text)], now=NOW)


def test_a_parameter_given_twice_is_refused_even_with_equal_values() -> None:
    with pytest.raises(Problem, match="more than once"):
        parse_window([("hours", "1"), ("hours", "1")], now=NOW)


def test_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(Problem):
        parse_window([("query", "up")], now=NOW)


def test_a_window_may_end_in_the_past_and_is_then_a_question_of_its_own() -> None:
    past = parse_window([("end", "2026-11-24T17:41:09Z")], now=NOW)
    assert past.as_json()["end"] == "2026-11-24T17:41:00Z"
    assert past.key != parse_window([], now=NOW).key


@pytest.mark.parametrize("end", ["", "now", "1764000000", "2026-13-01T00:00:00Z", "2026-11-24"])
def test_an_end_that_is_no_time_is_refused(end: str) -> None:
    with pytest.raises(Problem):
        parse_window([("end", end)], now=NOW)


def test_equal_questions_within_one_export_interval_are_equal_queries() -> None:
    first = parse_window([("hours", "1")], now=1_800_000_000)
    second = parse_window([("hours", "1.00")], now=1_800_000_014)
    assert first == second


@given(st.integers(min_value=1, max_value=168 * 60), st.integers(0, 10**6))
def test_a_chart_never_has_too_many_points_and_lies_within_its_window(
    minutes: int, offset: int
) -> None:
    now = 1_800_000_000 + offset
    window = parse_window([("hours", f"{minutes / 60:.6f}")], now=now)
    steps = window.chart_steps
    assert len(steps) <= MAX_POINTS
    assert now - window.step_s - 15 < steps[-1] <= now
    assert steps[0] >= window.now - window.seconds - window.step_s
    assert window.rate_s > window.step_s


@pytest.mark.parametrize(
    ("hours", "step_s"),
    [
        ("0.25", 15),
        ("0.5", 15),
        ("0.51", 30),
        ("1", 30),
        ("6", 60),
        ("24", 300),
        ("72", 900),
        ("168", 1800),
    ],
)
def test_longer_windows_have_wider_steps(hours: str, step_s: int) -> None:
    assert parse_window([("hours", hours)], now=NOW).step_s == step_s
