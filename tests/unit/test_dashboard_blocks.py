"""From answers to blocks: the arithmetic, and that missing is never 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from transcript_service.dashboard.answers import Answers
from transcript_service.dashboard.blocks import BLOCKS
from transcript_service.dashboard.blocks.circuit_breaker import worst_state
from transcript_service.dashboard.blocks.performance import success_ratio
from transcript_service.dashboard.engines import Engines
from transcript_service.dashboard.prometheus import Exemplar, Sample, Series
from transcript_service.dashboard.upstream import (
    QueryDefect,
    UpstreamError,
    UpstreamMissing,
    UpstreamTimeout,
    UpstreamUnreachable,
    worst,
)
from transcript_service.dashboard.window import Window
from transcript_service.settings import Settings

WINDOW = Window(seconds=900, stage=None, now=1_800_000_000)


def sample(value: float | None, **labels: str) -> Sample:
    return Sample(labels, value)


def answers(
    found: Mapping[str, Sequence[object]] | None = None,
    failed: tuple[str, ...] = (),
    not_built: tuple[str, ...] = (),
) -> Answers:
    failures: dict[str, UpstreamError] = {name: UpstreamTimeout(name) for name in failed}
    return Answers(WINDOW, found or {}, failures, not_built)


@pytest.mark.parametrize(
    ("counts", "ratio"),
    [
        ({("success", ""): 8, ("blocked", "ip_blocked"): 2}, 0.8),
        ({("success", ""): 8, ("no_captions", "transcripts_disabled"): 100}, 1.0),
        ({("success", ""): 8, ("error", "invalid_video_id"): 100}, 1.0),
        ({("no_captions", "video_unavailable"): 3}, None),
        ({("success", ""): 1, ("skipped", "breaker_open"): 3}, 0.25),
        ({("success", ""): 0}, None),
        ({("timeout", "timeout"): 3}, 0.0),
        ({}, None),
    ],
)
def test_the_success_ratio_counts_what_could_have_succeeded(
    counts: dict[tuple[str, ...], float], ratio: float | None
) -> None:
    assert success_ratio(counts) == ratio


@pytest.mark.parametrize("name", ["performance", "circuit_breaker", "browser_contexts", "proxy"])
def test_a_block_without_any_series_has_no_data(name: str) -> None:
    assert BLOCKS[name].build(answers()) is None


def test_every_query_has_a_name_of_its_own() -> None:
    names = [query.name for block in BLOCKS.values() for query in block.queries]
    assert len(names) == len(set(names))


def test_a_failed_query_leaves_null_and_the_rest_stands() -> None:
    data = BLOCKS["performance"].build(
        answers(
            {
                "times": [
                    sample(0.5, quantile="p50"),
                    sample(0.25, stage="asr", quantile="p50"),
                ],
            },
            failed=("requests", "stage_attempts", "stage_skipped"),
        )
    )
    assert data is not None
    assert data["requests"]["total"] is None
    assert data["requests"]["success_ratio"] is None
    assert data["requests"]["outcomes"] is None
    assert data["requests"]["p50_s"] == 0.5
    (asr,) = data["stages"]
    assert (asr["stage"], asr["attempts"], asr["p50_s"], asr["p95_s"]) == ("asr", None, 0.25, None)


def test_stages_add_up_and_errors_come_largest_first() -> None:
    data = BLOCKS["performance"].build(
        answers(
            {
                "requests": [sample(10.0, outcome="success", source="asr")],
                "stage_attempts": [
                    sample(6.0, stage="asr", outcome="success"),
                    sample(1.0, stage="asr", outcome="timeout", error_type="timeout"),
                    sample(3.0, stage="asr", outcome="error", error_type="http_5xx"),
                ],
            }
        )
    )
    assert data is not None
    (asr,) = data["stages"]
    assert asr["attempts"] == 10
    assert asr["success_ratio"] == 0.6
    assert list(asr["errors"].items()) == [("http_5xx", 3.0), ("timeout", 1.0)]
    assert data["requests"]["sources"] == {"asr": 10.0}


def test_slow_requests_are_unique_and_slowest_first_and_failed_ones_newest_first() -> None:
    def exemplar(trace: str, value: float, at: float, outcome: str) -> Exemplar:
        return Exemplar({"outcome": outcome}, trace * 32, value, at)

    exemplars = [
        exemplar("a", 1, 10, "success"),
        exemplar("b", 9, 20, "timeout"),
        exemplar("c", 5, 30, "blocked"),
        exemplar("b", 9, 20, "timeout"),
        exemplar("d", 2, 40, "no_captions"),
    ]
    data = BLOCKS["performance"].build(
        answers(
            {
                "requests": [sample(5.0, outcome="success")],
                "request_exemplars": exemplars,
            }
        )
    )
    assert data is not None
    assert [r["trace_id"][0] for r in data["slow_requests"]] == ["b", "c", "d", "a"]
    assert [r["trace_id"][0] for r in data["failed_requests"]] == ["c", "b"]


def test_of_each_stretch_of_a_chart_the_slowest_request_is_its_point() -> None:
    def exemplar(trace: str, value: float, back_s: float) -> Exemplar:
        return Exemplar({"outcome": "success"}, trace * 32, value, WINDOW.now - back_s)

    exemplars = [exemplar("a", 1, 800), exemplar("b", 9, 799), exemplar("c", 5, 20)]
    data = BLOCKS["performance"].build(
        answers(
            {
                "requests": [sample(5.0, outcome="success")],
                "request_exemplars": exemplars,
            }
        )
    )
    assert data is not None
    assert [point["trace_id"][0] for point in data["points"]] == ["b", "c"]


def test_charts_are_marked_with_deploys_and_the_demos_faults() -> None:
    def line(labels: dict[str, str], *indexes: int) -> Series:
        steps = WINDOW.chart_steps
        return Series(labels, [1.0 if i in indexes else None for i in range(len(steps))])

    data = BLOCKS["performance"].build(
        answers(
            {
                "requests": [sample(5.0, outcome="success")],
                "marks": [
                    line({"service_version": "1.0"}, 1, 2, 3),  # not there before: no deploy
                    line({"service_version": "1.1"}, 3, 4),
                    line({"fault": "bot check"}, 2, 3, 7),
                ],
            },
        )
    )
    assert data is not None
    at = [Window(900, None, moment).as_json()["end"] for moment in WINDOW.chart_steps]
    assert data["marks"] == [
        {"kind": "demo_fault", "name": "bot check", "start": at[2], "end": at[3]},
        {"kind": "demo_fault", "name": "bot check", "start": at[7], "end": at[7]},
        {"kind": "deploy", "name": "1.1", "start": at[3], "end": None},
    ]


def test_memory_is_that_of_each_worker_and_their_sum() -> None:
    data = BLOCKS["browser_contexts"].build(
        answers(
            {
                "browser_memory": [sample(3e8, instance="b"), sample(2e8, instance="a")],
                "browser_memory_threshold": [sample(1.5e9)],
            }
        )
    )
    assert data is not None
    assert data["memory_bytes"] == 5e8
    assert data["workers"] == [{"worker": "a", "bytes": 2e8}, {"worker": "b", "bytes": 3e8}]
    assert data["memory_threshold_bytes"] == 1.5e9


@pytest.mark.parametrize(
    ("states", "shown"),
    [
        (("closed",), "closed"),
        (("closed", "open"), "open"),
        (("half_open", "closed"), "half_open"),
        (("forced_open", "open"), "forced_open"),
        ((), None),
    ],
)
def test_workers_that_disagree_show_the_worst_state(
    states: tuple[str, ...], shown: str | None
) -> None:
    assert worst_state(states) == shown


def test_a_breaker_of_a_stage_that_is_switched_off_is_not_listed() -> None:
    states = [
        sample(1.0, name="timedtext", state="closed"),
        sample(0.0, name="timedtext", state="open"),
        sample(0.0, name="asr", state="closed"),
    ]
    calls = [sample(0.0, name="asr", kind="successful")]
    data = BLOCKS["circuit_breaker"].build(
        answers({"breaker_state": states, "breaker_calls": calls})
    )
    assert data is not None
    assert [b["name"] for b in data["breakers"]] == ["timedtext"]


def test_a_breaker_timeline_joins_equal_steps_and_leaves_gaps() -> None:
    def line(state: str, *indexes: int) -> Series:
        values = [1.0 if i in indexes else None for i in range(len(WINDOW.chart_steps))]
        return Series({"name": "asr", "state": state}, values)

    data = BLOCKS["circuit_breaker"].build(
        answers(
            {
                "breaker_state": [sample(1.0, name="asr", state="closed")],
                "breaker_state_over_time": [line("closed", 1, 2, 3, 6, 7), line("open", 3, 4)],
            }
        )
    )
    assert data is not None
    (timeline,) = data["timeline"]
    # step 3 has a worker in each state: the worse one counts; step 5 is silent
    assert [s["state"] for s in timeline["segments"]] == ["closed", "open", "closed"]
    assert timeline["segments"][0]["end"] == timeline["segments"][1]["start"]
    assert timeline["segments"][1]["end"] < timeline["segments"][2]["start"]


FAILED = sample(1.0, outcome="error")
HEALTHY = {
    "workers": [sample(2.0)],
    "telemetry_age": [sample(7.0)],
    "recent_requests": [sample(99.0, outcome="success"), FAILED],
    "breakers_now": [sample(1.0, name="asr", state="closed")],
    "breaker_calls_now": [sample(3.0, name="asr")],
    "engines": [sample(1.0, job="victorialogs")],
    "firing": [],
}


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, "healthy"),
        ({"workers": [], "telemetry_age": []}, "unhealthy"),
        ({"telemetry_age": [sample(90.0)]}, "degraded"),
        ({"recent_requests": []}, "healthy"),
        (
            {"recent_requests": [sample(9.0, outcome="success"), sample(1.0, outcome="error")]},
            "degraded",
        ),
        ({"recent_requests": [FAILED]}, "unhealthy"),
        ({"breakers_now": [sample(1.0, name="asr", state="half_open")]}, "degraded"),
        ({"breakers_now": [sample(1.0, name="asr", state="open")]}, "unhealthy"),
        ({"engines": [sample(0.0, job="victorialogs"), sample(1.0, job="jaeger")]}, "degraded"),
        ({"engines": [sample(0.5, job="prometheus")]}, "degraded"),
        ({"firing": [sample(1.0, severity="warning")]}, "degraded"),
        ({"firing": [sample(1.0, severity="critical")]}, "unhealthy"),
    ],
)
def test_the_verdict_is_the_worst_of_its_checks(
    changed: dict[str, list[Sample]], verdict: str
) -> None:
    data = BLOCKS["health"].build(answers({**HEALTHY, **changed}))
    assert data is not None
    assert data["verdict"] == verdict


@pytest.mark.parametrize(
    ("state", "verdict", "text"),
    [
        ("open", "healthy", "asr is open and waits for its next call."),
        ("half_open", "healthy", "asr is half-open and waits for its next call."),
        ("forced_open", "unhealthy", "asr is open."),
    ],
)
def test_a_breaker_that_nobody_has_called_for_ten_minutes_is_no_fault(
    state: str, verdict: str, text: str
) -> None:
    tripped = {"breakers_now": [sample(1.0, name="asr", state=state)], "breaker_calls_now": []}
    data = BLOCKS["health"].build(answers({**HEALTHY, **tripped}))
    assert data is not None
    assert data["verdict"] == verdict
    assert [c["text"] for c in data["checks"] if c["name"] == "breakers"] == [text]


def test_an_engine_that_is_still_being_built_is_named_and_is_no_fault(tmp_path: Path) -> None:
    told = tmp_path / "not_built"
    told.write_text("jaeger\nvictorialogs\n")
    engines = Engines(Settings(_env_file=None, engines_not_built_file=told))
    data = BLOCKS["health"].build(answers(HEALTHY, not_built=engines.not_built()))
    assert data is not None
    assert data["verdict"] == "healthy"
    (check,) = [check for check in data["checks"] if check["name"] == "engines"]
    assert check["text"] == "1 engine answers. Not built yet: jaeger, victorialogs."
    told.unlink()
    assert engines.not_built() == ()


def test_health_is_unknown_while_nobody_can_say() -> None:
    data = BLOCKS["health"].build(
        answers(failed=tuple(query.name for query in BLOCKS["health"].queries))
    )
    assert data is not None
    assert data["verdict"] == "unknown"
    assert data["engines"] is None


def test_the_most_telling_failure_is_reported() -> None:
    failures = [UpstreamUnreachable(""), UpstreamMissing(""), UpstreamTimeout(""), QueryDefect("")]
    assert isinstance(worst(failures), QueryDefect)
    assert isinstance(worst(failures[:3]), UpstreamMissing)
    assert isinstance(worst([failures[0], failures[2]]), UpstreamTimeout)
