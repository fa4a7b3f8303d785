"""The event loop behind the dashboard: what stopping it leaves behind, and how long it takes."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from transcript_service.dashboard import upstream
from transcript_service.dashboard.upstream import LoopThread


async def _nothing() -> None:
    pass


async def _thread() -> threading.Thread:
    return threading.current_thread()


def test_stopping_waits_for_the_last_work_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "_STOP_S", 60.0)
    done: list[str] = []

    async def last() -> None:
        await asyncio.sleep(0.05)
        done.append("last")

    loop = LoopThread()
    loop.run(_nothing())
    started = time.monotonic()
    loop.stop(last())
    assert done == ["last"]
    assert time.monotonic() - started < 30  # far below the limit, far above a busy machine


def test_a_caller_whose_work_was_running_is_let_go() -> None:
    loop = LoopThread()
    begun = threading.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(loop.run, hang())
        assert begun.wait(10)
        loop.stop(_nothing())
        with pytest.raises(CancelledError):
            waiting.result(timeout=10)


def test_a_stopped_loop_ends_its_thread_and_starts_anew_when_it_is_needed() -> None:
    loop = LoopThread()
    first = loop.run(_thread())
    loop.stop(_nothing())
    first.join(10)
    assert not first.is_alive()
    second = loop.run(_thread())
    assert second is not first
    loop.stop(_nothing())
