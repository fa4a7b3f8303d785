"""The dashboard's quantiles under load against what every single answer said it took.

The simulator holds its answers back by known times, which its log has; no try may say that it
took less. How much more it took is the machine's business, so quantiles are compared with those
of the tries that the answers list. Only the first two stages take part; the others spend their
time in a browser and in a speech engine.

Slow, because tests/integration/test_dashboard_numbers.py compares the same quantiles with what was
recorded; here the whole service measures.

Quantiles of a list are by nearest rank, as `histogram_quantile` means them: the smallest value
that at least the wanted share of all values does not exceed. The numbers of tries are such that
no wanted rank is a whole number, where a quantile could be either of two values.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.live import FAST_TELEMETRY, LiveStack, running_stack, wait_for

ENVIRON = {
    **FAST_TELEMETRY,
    "WEB_CONCURRENCY": "1",
    "WEB_THREADS": "12",
    "DASHBOARD_CACHE_TTL_S": "1",
    "ENABLE_TRANSCRIPT_CACHE": "0",
    "ENABLE_YOUTUBEI": "0",
    "ENABLE_ASR": "0",
    # They count, but do not open: each request is to reach its stage.
    "CIRCUIT_BREAKER_FORCED": "youtube_api=metrics_only,timedtext=metrics_only",
}
# Clients at once, and the requests of each: for videos like any other, and for those whose watch
# page is a captcha, so that the second stage must do.
PLAIN, PLAIN_ROUNDS = 4, 12
WALLED, WALLED_ROUNDS = 5, 7
# Native histograms resolve this range to about 4 %; one more for what answers leave out.
CLOSE = 0.05


@dataclass(frozen=True)
class Video:
    """A video of the simulator, whether its watch page is a captcha, how often it is asked for."""

    id: str
    walled: bool
    rounds: int


def nearest_rank(values: list[float], share: float) -> float:
    """The smallest value that at least `share` of all `values` does not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


@pytest.fixture(scope="module")
def stack() -> Iterator[LiveStack]:
    with running_stack("load", ENVIRON) as running:
        yield running


@pytest.fixture(scope="module")
def videos(stack: LiveStack) -> list[Video]:
    """One for each client."""
    found = stack.simulator("GET", "videos")["videos"]
    healthy = [
        v["id"]
        for v in found
        if not v["default_fault"] and any(track["lang"] == "en" for track in v["tracks"])
    ]
    return [
        *(Video(video, False, PLAIN_ROUNDS) for video in healthy[:PLAIN]),
        *(Video(video, True, WALLED_ROUNDS) for video in healthy[PLAIN:][:WALLED]),
    ]


def ask(stack: LiveStack, video: Video, dice: random.Random) -> list[dict[str, Any]]:
    """The tries of one request, whose answers are held back by times that `dice` chooses."""

    def slow(endpoint: str, answers: int = 1) -> dict[str, Any]:
        seconds = sum(dice.triangular(0.2, 1.0, 0.9) for _ in range(answers))
        return {"name": "slow_headers", "endpoint": endpoint, "seconds": round(seconds, 3)}

    faults: list[Any] = [slow("player"), slow("timedtext")]
    # A captcha takes as long as the three answers of a try that succeeds, so that the tries of
    # the first stage have one distribution, not two with a gap in which the median would lie.
    faults += [slow("watch", 3), "recaptcha@watch"] if video.walled else [slow("watch")]
    stack.simulator("PUT", f"videos/{video.id}/fault", faults)
    answer = stack.get(f"/api/transcripts/{video.id}?lang=en")
    assert answer.status_code == 200
    document = answer.json()
    assert document["source"] == ("timedtext" if video.walled else "youtube_api")
    tries: list[dict[str, Any]] = document["attempts"]
    return tries


def seconds_by_stage(stack: LiveStack, videos: list[Video]) -> dict[str, list[float]]:
    """The seconds that the simulator spent on each try of each stage, from its log.

    A watch page begins a try of `youtube_api`. What comes after it belongs to the same try,
    but where the page was a captcha it is the other stage's: it never asks for the page.
    """
    tries: dict[str, list[float]] = {"youtube_api": [], "timedtext": []}
    for video in videos:
        log = stack.simulator("GET", f"requests?last=5000&video={video.id}")["requests"]
        assert log, video
        for entry in log:
            assert entry["status"] == 200, entry
            if entry["endpoint"] == "watch":
                tries["youtube_api"].append(entry["latency_s"])
            elif not video.walled:
                tries["youtube_api"][-1] += entry["latency_s"]
            elif entry["endpoint"] == "player":
                tries["timedtext"].append(entry["latency_s"])
            else:
                tries["timedtext"][-1] += entry["latency_s"]
    return tries


def stored(stack: LiveStack) -> float:
    """Tries of stages that Prometheus holds by now."""
    return stack.number("sum(histogram_count(transcript_stage_duration_seconds))") or 0


@pytest.mark.slow
def test_quantiles_of_every_stage_are_those_of_its_tries(
    stack: LiveStack, videos: list[Video]
) -> None:
    # Every series must exist before the record begins: its first sample is no increase.
    with ThreadPoolExecutor(len(videos)) as clients:
        list(clients.map(lambda video: ask(stack, video, random.Random(video.id)), videos))
    warm = sum(map(len, seconds_by_stage(stack, videos).values()))
    wait_for("the first tries in Prometheus", lambda: stored(stack) == warm)
    stack.simulator("DELETE", "requests")

    told: dict[str, list[float]] = {"youtube_api": [], "timedtext": []}

    def client(video: Video) -> None:
        dice = random.Random(f"load {video.id}")
        for _ in range(video.rounds):
            for one in ask(stack, video, dice):
                told[one["stage"]].append(one["duration_s"])

    with ThreadPoolExecutor(len(videos)) as clients:
        list(clients.map(client, videos))

    record = seconds_by_stage(stack, videos)
    assert {stage: len(tries) for stage, tries in record.items()} == {
        "youtube_api": PLAIN * PLAIN_ROUNDS + WALLED * WALLED_ROUNDS,
        "timedtext": WALLED * WALLED_ROUNDS,
    }
    for stage, tries in record.items():
        assert len(told[stage]) == len(tries)
        assert all(
            said > spent for said, spent in zip(sorted(told[stage]), sorted(tries), strict=True)
        )
    total = warm + sum(map(len, record.values()))
    wait_for("all tries in Prometheus", lambda: stored(stack) == total)

    def block() -> dict[str, Any] | None:
        """The block once it is of a time at which Prometheus held them all."""
        found = stack.get("/api/dashboard/metrics/performance?hours=0.25").json()
        shown = {stage["stage"]: stage for stage in (found["data"] or {}).get("stages", [])}
        if any(shown[name]["attempts"] < len(tries) - 0.5 for name, tries in record.items()):
            return None
        return shown

    shown = wait_for("a block with all tries", block)
    for stage, tries in told.items():
        for name, share in (("p50_s", 0.5), ("p95_s", 0.95)):
            exact = nearest_rank(tries, share)
            assert shown[stage][name] == pytest.approx(exact, rel=CLOSE), (stage, name)
