"""Fields and spans follow the work, wherever it runs, and end with their block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.telemetry import (
    current_fields,
    current_trace_id,
    get_logger,
    log_context,
    span,
)

pytestmark = pytest.mark.usefixtures("telemetry")


def test_an_inner_context_adds_to_and_overrides_the_outer_one() -> None:
    with log_context(video_id="a", stage="timedtext"):
        with log_context(stage="asr", attempt=2):
            assert current_fields() == {"video_id": "a", "stage": "asr", "attempt": 2}
        assert current_fields() == {"video_id": "a", "stage": "timedtext"}
    assert current_fields() == {}


def test_a_span_ends_whatever_its_exception_does(telemetry: InMemoryTelemetry) -> None:
    class Rude(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    with pytest.raises(Rude), span("outer"):
        raise Rude
    with span("next") as following:
        assert getattr(following, "parent", None) is None
    (outer,) = (each for each in telemetry.spans() if each.name == "outer")
    assert (outer.attributes or {})["error.type"] == "Rude"


def test_none_takes_a_field_away() -> None:
    with log_context(video_id="a", stage="asr"), log_context(stage=None):
        assert current_fields() == {"video_id": "a"}


def test_the_outer_context_is_back_after_an_exception() -> None:
    with log_context(video_id="a"):
        with pytest.raises(ValueError, match="x"), log_context(video_id="b"):
            raise ValueError("x")
        assert current_fields() == {"video_id": "a"}


def test_one_object_can_be_entered_again_inside_itself() -> None:
    context = log_context(video_id="a")
    with context, context:
        assert current_fields() == {"video_id": "a"}
    assert current_fields() == {}


def test_it_decorates_a_function_that_many_threads_run() -> None:
    barrier = threading.Barrier(4)

    @log_context(stage="asr")
    def work(number: int) -> dict[str, object]:
        with log_context(attempt=number):
            barrier.wait(5)
            return dict(current_fields())

    with ThreadPoolExecutor(4) as pool:
        assert sorted(f["attempt"] for f in pool.map(work, range(4))) == [0, 1, 2, 3]  # type: ignore[type-var]
    assert current_fields() == {}


def test_a_thread_gets_the_fields_of_who_started_it() -> None:
    seen: list[dict[str, object]] = []
    with log_context(video_id="a"):
        thread = threading.Thread(target=lambda: seen.append(dict(current_fields())))
        thread.start()
        thread.join()
    assert seen == [{"video_id": "a"}]


def test_an_executor_gets_the_fields_and_trace_of_who_submitted() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()  # the worker thread exists before the context does
        with span("transcript.stage"), log_context(video_id="a"):
            found = pool.submit(lambda: (dict(current_fields()), current_trace_id())).result()
            assert found == ({"video_id": "a"}, current_trace_id())
        assert pool.submit(lambda: dict(current_fields())).result() == {}


def test_a_coroutine_on_another_threads_loop_gets_the_fields_of_its_caller() -> None:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def hop() -> tuple[dict[str, object], str]:
        await asyncio.sleep(0)
        return dict(current_fields()), current_trace_id()

    try:
        with span("transcript.stage"), log_context(video_id="a"):
            found = asyncio.run_coroutine_threadsafe(hop(), loop).result(5)
            assert found == ({"video_id": "a"}, current_trace_id())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_tasks_of_one_loop_do_not_see_each_others_fields() -> None:
    async def work(name: str) -> dict[str, object]:
        with log_context(video_id=name):
            await asyncio.sleep(0)
            return dict(current_fields())

    async def main() -> list[dict[str, object]]:
        return await asyncio.gather(*(work(name) for name in "abc"))

    assert asyncio.run(main()) == [{"video_id": name} for name in "abc"]


def test_closing_a_generator_in_another_thread_harms_nobody(
    telemetry: InMemoryTelemetry,
) -> None:
    def open_forever() -> Iterator[int]:
        with log_context(video_id="a"):
            yield 1

    generator = open_forever()
    next(generator)
    thread = threading.Thread(target=generator.close)  # type: ignore[attr-defined]
    thread.start()
    thread.join()
    assert telemetry.events() == []


def test_an_async_generator_closed_by_the_loop_leaves_no_trace(
    telemetry: InMemoryTelemetry,
) -> None:
    async def numbers() -> AsyncIterator[int]:
        with log_context(video_id="a"):
            yield 1

    async def main() -> None:
        async for _ in numbers():
            break

    asyncio.run(main())
    assert telemetry.events() == []


def test_every_line_of_a_request_has_its_own_trace_id_and_none_anothers(
    telemetry: InMemoryTelemetry,
) -> None:
    """16 threads × 200 requests, each with an executor hop and a hop to the browser's loop."""
    log = get_logger("test")
    loop = asyncio.new_event_loop()
    looping = threading.Thread(target=loop.run_forever)
    looping.start()
    trace_ids: dict[str, str] = {}

    async def in_browser(request: str) -> None:
        log.info("browser.console", request=request)
        await asyncio.sleep(0)
        with span("browser.page", request=request):
            log.info("browser.console", request=request)

    def in_executor(request: str) -> None:
        with span("transcript.stage", request=request):
            log.info("transcript.stage.finished", request=request)

    def serve(request: str, pool: ThreadPoolExecutor) -> None:
        with span("transcript.fetch", request=request), log_context(video_id=request):
            trace_ids[request] = current_trace_id()
            future = pool.submit(in_executor, request)
            asyncio.run_coroutine_threadsafe(in_browser(request), loop).result(10)
            future.result(10)
            log.info("transcript.request.finished", request=request)

    def client(number: int, pool: ThreadPoolExecutor) -> None:
        for n in range(200):
            serve(f"{number}-{n}", pool)

    try:
        with ThreadPoolExecutor(8) as pool:
            threads = [threading.Thread(target=client, args=(n, pool)) for n in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        looping.join()
        loop.close()

    assert len(set(trace_ids.values())) == 16 * 200
    lines = telemetry.events()
    assert len(lines) == 16 * 200 * 4
    assert all(line["trace_id"] == trace_ids[line["request"]] for line in lines)
    assert all(line["video_id"] == line["request"] for line in lines)
    spans = telemetry.spans()
    assert len(spans) == 16 * 200 * 3
    assert all(
        telemetry.trace_id(item) == trace_ids[(item.attributes or {})["request"]]  # type: ignore[index]
        for item in spans
    )
