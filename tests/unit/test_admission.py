"""How many fetches there are at a time, who waits, and who is refused."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.settings import Settings
from transcript_service.transcripts.admission import Places
from transcript_service.transcripts.model import TranscriptError


def test_beyond_those_that_fetch_and_wait_everybody_is_refused_at_once(
    telemetry: InMemoryTelemetry,
) -> None:
    places = Places(Settings(web_fetches=2, web_fetches_waiting=3, web_fetch_wait_s=60))
    go, entered, fetching = threading.Event(), threading.Semaphore(0), threading.Semaphore(0)
    running = most = 0
    lock = threading.Lock()

    def request() -> str:
        nonlocal running, most
        try:
            with places.waiting():
                entered.release()
                with places.fetching():
                    with lock:
                        running += 1
                        most = max(most, running)
                    fetching.release()
                    go.wait(30)
                    with lock:
                        running -= 1
        except TranscriptError as error:
            assert error.retry_after_s
            return error.error_type
        return "done"

    with ThreadPoolExecutor(20) as pool:
        inside = [pool.submit(request) for _ in range(5)]
        for place in [entered] * 5 + [fetching] * 2:
            assert place.acquire(timeout=30)
        refused = [pool.submit(request).result(30) for _ in range(10)]
        go.set()
        served = [future.result(30) for future in inside]
    assert refused == ["overloaded"] * 10
    assert served == ["done"] * 5
    assert most == 2
    assert telemetry.metric("requests.rejected", reason="full") == 10
    assert request() == "done"  # recovery at once


def test_nobody_waits_for_a_place_for_ever(telemetry: InMemoryTelemetry) -> None:
    places = Places(Settings(web_fetches=1, web_fetches_waiting=1, web_fetch_wait_s=0.01))
    with (
        places.waiting(),
        places.fetching(),
        places.waiting(),
        pytest.raises(TranscriptError, match="Too many"),
        places.fetching(),
    ):
        pass
    assert telemetry.metric("requests.rejected", reason="waited") == 1
