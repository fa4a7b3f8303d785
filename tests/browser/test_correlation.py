"""What belongs to a request says so, also on the browser's side of it: real pages, one trace."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.browser.conftest import idle, wait_until
from tests.browser.site import Site
from tests.canaries import FORMS, build
from tests.canary_app import leaks
from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.browser import BrowserPool, LeasedContext, LeasedPage
from transcript_service.telemetry import current_trace_id, get_logger, log_context, span

THREADS, PAGES = 16, 4


def test_what_a_page_writes_to_its_console_is_a_line_of_the_request_that_opened_it(
    pool: BrowserPool, site: Site, telemetry: InMemoryTelemetry
) -> None:
    ids = []
    for video in ("first", "second"):  # the second gets the first one's context, cleaned
        with log_context(video_id=video), span("transcript.fetch"), pool.lease() as context:
            ids.append(current_trace_id())
            page = context.new_page()
            page.goto(site.url)
            page.evaluate(f"console.error('{video} failed'); console.log('{video} went on')")
            wait_until(lambda: len(telemetry.events("browser.console")) >= 2 * len(ids))
    lines = telemetry.events("browser.console")
    assert [
        (line["trace_id"], line["video_id"], line["level"], line["console_level"], line["text"])
        for line in lines
    ] == [
        (trace_id, video, level, console_level, text)
        for trace_id, video in zip(ids, ("first", "second"), strict=True)
        for level, console_level, text in (
            ("info", "error", f"{video} failed"),
            ("debug", "log", f"{video} went on"),
        )
    ]


def test_no_secret_that_a_page_writes_to_its_console_gets_into_the_log(
    pool: BrowserPool, site: Site, telemetry: InMemoryTelemetry
) -> None:
    said = [form.format(c=build(number)) for number, form in enumerate(FORMS)]
    with pool.lease() as context:
        page = context.new_page()
        page.goto(site.url)
        page.evaluate("said => said.forEach(text => console.error(text))", said)
        page.evaluate("console.error('the control')")
        wait_until(lambda: "the control" in telemetry.log_text())
    assert len(telemetry.events("browser.console")) == len(said) + 1
    assert leaks(telemetry.log_text()) == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("requests", [50, pytest.param(200, marks=pytest.mark.slow)])
def test_every_span_and_line_of_many_requests_has_its_own_trace_also_after_the_browser(
    pool: BrowserPool, telemetry: InMemoryTelemetry, requests: int
) -> None:
    """Of 16 threads, each request with an executor hop and a hop to a page of Chromium.

    A context for each request would take an hour, so four pages serve them all.
    """
    log = get_logger("tests")
    pages: list[LeasedPage] = []
    loops: list[asyncio.AbstractEventLoop] = []
    done = asyncio.Event()  # of the pool's loop
    trace_ids: dict[str, str] = {}
    answered: Counter[bool] = Counter()

    async def keep(context: LeasedContext) -> None:
        page = await context.new_page()
        loops.append(asyncio.get_running_loop())
        pages.append(page)
        await done.wait()

    async def in_browser(page: LeasedPage, request: str) -> str:
        log.info("browser.context.leased", request=request)
        with span("browser.page", request=request):
            answer: str = await page.evaluate("async id => await Promise.resolve(id)", request)
            log.info("browser.context.returned", request=request)
        return answer

    def in_executor(request: str) -> None:
        with span("transcript.stage", request=request):
            log.info("transcript.stage.finished", request=request)

    def serve(request: str, number: int, executor: ThreadPoolExecutor) -> None:
        with span("transcript.fetch", request=request), log_context(video_id=request):
            trace_ids[request] = current_trace_id()
            executed = executor.submit(in_executor, request)
            browsed = asyncio.run_coroutine_threadsafe(
                in_browser(pages[number % PAGES], request), loops[0]
            )
            answered[browsed.result(60) == request] += 1
            executed.result(60)
            log.info("transcript.request.finished", request=request)

    def client(number: int, executor: ThreadPoolExecutor) -> None:
        for n in range(requests):
            serve(f"{number}-{n}", number, executor)

    with ThreadPoolExecutor(PAGES) as holders, ThreadPoolExecutor(8) as executor:
        held = [holders.submit(pool.run, keep, timeout_s=550) for _ in range(PAGES)]
        try:
            wait_until(lambda: len(pages) == PAGES)
            telemetry.clear()
            threads = [threading.Thread(target=client, args=(n, executor)) for n in range(THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            lines = [line for line in telemetry.events() if "request" in line]
            spans = [item for item in telemetry.spans() if "request" in (item.attributes or {})]
        finally:
            loops[0].call_soon_threadsafe(done.set)
        for future in held:
            future.result(60)
    wait_until(lambda: idle(pool))  # a pool that is closed while it cleans waits for a time limit

    count = THREADS * requests
    assert answered == {True: count}
    assert len(set(trace_ids.values())) == count
    assert len(lines) == 4 * count
    assert len(spans) == 3 * count
    assert all(line["trace_id"] == trace_ids[line["request"]] for line in lines)
    assert all(line["video_id"] == line["request"] for line in lines)
    own = {
        (item.name, (item.attributes or {})["request"]): telemetry.trace_id(item) for item in spans
    }
    assert own == {
        (name, request): trace_id
        for request, trace_id in trace_ids.items()
        for name in ("transcript.fetch", "transcript.stage", "browser.page")
    }
