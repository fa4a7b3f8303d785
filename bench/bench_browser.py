"""What the browser pool saves and costs, beside a browser per request and crawlee.

Run alone with `python -m bench.bench_browser`; takes some minutes, at most about twenty-five.
"Pooled" is measured as callers meet it: a context is idle, and what is done to it after a
lease (cleaning, opening the next page) happens while nobody waits. "Back to back" includes
that work: the next lease of the same single context begins the moment it is clean.

The thousand leases run with four threads and stop after fifteen minutes on a slow machine; the
row says how many there were.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.async_api import Browser, async_playwright

from bench.rows import Row, row
from tests.pool_stats import stats
from transcript_service.browser import BrowserPool, find_chromium
from transcript_service.browser.launch import Way, launch_options
from transcript_service.browser.memory import usage_bytes
from transcript_service.settings import Settings
from transcript_service.telemetry import configure_logging

_row = partial(row, "browser")
_draw = random.Random(7)
ROUNDS = 60
_SETTINGS = Settings(
    _env_file=None,
    browser_acquire_timeout_s=120,
    browser_context_max_uses=10_000,
    browser_private_hosts=("127.0.0.1",),  # the pages are of this machine
)
_BARE = Way(sandbox=False, other_user=False)
LEASES = 1000
LEASES_MOST_S = 900.0
MIB = 2**20
CRAWLEE = "crawlee[playwright]==1.11.0"
INSTALL_MOST_S = 240

# A page with a script of 300 kB that may be cached, as watch pages have several of.
PAGE = b"<title>watch</title><script src='/player.js'></script>"
SCRIPT = b"window.ready = true;\n" + b"/* player code */\n" * 17_000


@contextmanager
def site() -> Iterator[str]:
    """A page with a cacheable script on the loopback interface."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            script = self.path.endswith(".js")
            body = SCRIPT if script else PAGE
            self.send_response(200)
            self.send_header("Content-Type", "text/javascript" if script else "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "max-age=3600" if script else "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A page that is closed breaks its connections."""

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def run() -> list[Row]:
    """The rows of this benchmark; times in milliseconds, memory in MiB."""
    configure_logging(Settings(_env_file=None, log_level="ERROR"))  # a line per lease otherwise
    with site() as url:
        times, crawlee = _times(url)
        pool = BrowserPool(_SETTINGS)
        try:
            memory = _memory(pool, url)
        finally:
            pool.close(5)
    return [*_rows(times, crawlee), *memory]


def _times(url: str) -> tuple[dict[str, list[float]], str]:
    """Milliseconds by what was done, in turns in an order drawn anew; and why crawlee is missing.

    All browsers run all the time: what else the machine does meanwhile meets all alike.
    """
    found: dict[str, list[float]] = {}

    def note(**times: float) -> None:
        for name, took in times.items():
            found.setdefault(name, []).append(took)

    with ExitStack() as stack:
        pool = BrowserPool(_SETTINGS)
        stack.callback(pool.close, 5)
        others = stack.enter_context(_Others())
        turns: list[Callable[[], dict[str, float]]] = [
            lambda: _pooled(pool, url),
            others.launched,
            lambda: others.fresh(url),
        ]
        why_not = ""
        try:
            turns.append(stack.enter_context(_crawlee(url)))
        except (subprocess.SubprocessError, OSError, ValueError) as error:
            why_not = f"did not run ({type(error).__name__})"
        for turn in turns:  # the first one starts a browser
            turn()
        for _ in range(ROUNDS):
            _draw.shuffle(turns)
            for turn in turns:
                note(**turn())
    return found, why_not


def _rows(times: dict[str, list[float]], why_not: str) -> list[Row]:
    rows = []
    for name, part in (("P50", 50), ("P95", 95)):
        rows += [
            _row(
                f"acquire a page, {name}",
                _percentile(times["acquired"], part),
                "ms",
                "a browser per request",
                _percentile(times["launched"], part),
                0.05,
            ),
            _row(
                f"acquire and load a page, {name}",
                _percentile(times["loaded"], part),
                "ms",
                "a fresh context in the same browser",
                _percentile(times["fresh"], part),
                1.0,
            ),
        ]
    for name, ours, theirs in (
        ("acquire and load a page, beside crawlee, P50", "loaded", "crawlee_loaded"),
        # Ours has cleaned the context and opened the next page by then, crawlee has not.
        ("back to back, beside crawlee, P50", "cycle", "crawlee_cycle"),
    ):
        peer = times.get(theirs)
        rows.append(
            _row(
                name,
                _percentile(times[ours], 50),
                "ms",
                CRAWLEE if peer else f"{CRAWLEE}: {why_not}",
                _percentile(peer, 50) if peer else None,
                None,
            )
        )
    return rows


def _percentile(values: list[float], part: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[part - 1]


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000


class _Others:
    """Playwright itself: its driver, and one Chromium that stays."""

    def __enter__(self) -> _Others:
        self._loop = asyncio.Runner()
        self._driver = self._loop.run(async_playwright().start())
        program = find_chromium(None, self._driver.chromium.executable_path)
        self._options = launch_options(_SETTINGS, program, _BARE)
        self._browser: Browser = self._loop.run(self._driver.chromium.launch(**self._options))
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run(self._browser.close())
        self._loop.run(self._driver.stop())
        self._loop.close()

    def launched(self) -> dict[str, float]:
        """The baseline: with a running driver, launch Chromium and open a page, per request."""

        async def launch() -> float:
            started = time.perf_counter()
            browser = await self._driver.chromium.launch(**self._options)
            await (await browser.new_context()).new_page()
            took = _ms_since(started)
            await browser.close()
            return took

        return {"launched": self._loop.run(launch())}

    def fresh(self, url: str) -> dict[str, float]:
        """Context, page and navigation, in a browser that runs already."""

        async def load() -> float:
            started = time.perf_counter()
            context = await self._browser.new_context()
            await (await context.new_page()).goto(url)
            took = _ms_since(started)
            await context.close()
            return took

        return {"fresh": self._loop.run(load())}


def _pooled(pool: BrowserPool, url: str) -> dict[str, float]:
    """Until there is a page, until it has loaded, and until the context is clean again."""
    started = time.perf_counter()
    with pool.lease() as context:
        page = context.new_page()
        acquired = _ms_since(started)
        page.goto(url)
        loaded = _ms_since(started)
    _wait(lambda: stats(pool).leased == 0)
    return {"acquired": acquired, "loaded": loaded, "cycle": _ms_since(started)}


def _memory(pool: BrowserPool, url: str) -> list[Row]:
    """What contexts take, and whether a thousand leases make them grow."""
    threads = pool.settings.browser_max_contexts
    done = [0]

    def lease_until(count: int, started: float) -> None:
        while done[0] < count and time.monotonic() - started < LEASES_MOST_S:
            done[0] += 1
            with pool.lease() as context:
                context.new_page().goto(url)

    def many(count: int) -> int:
        done[0] = 0
        with ThreadPoolExecutor(threads) as executor:
            for future in [
                executor.submit(lease_until, count, time.monotonic()) for _ in range(threads)
            ]:
                future.result()
        _wait(lambda: stats(pool).leased == 0)
        return done[0]

    together = threading.Barrier(threads)

    def hold(open_page: bool) -> int:
        with pool.lease() as context:
            if open_page:
                context.new_page().goto(url)
            together.wait(120)
            measured = _settled(pool)
            together.wait(120)
        return measured

    def all_at_once(open_page: bool) -> int:
        with ThreadPoolExecutor(threads) as executor:
            return max(executor.map(hold, [open_page] * threads))

    loaded = all_at_once(open_page=True)
    _wait(lambda: stats(pool).leased == 0)
    many(40)
    before = _settled(pool)
    count = many(LEASES)
    after = _settled(pool)
    now = stats(pool)
    baseline = now.memory_baseline_bytes or 0
    idle_each = (before - baseline) / max(1, now.idle) / MIB
    return [
        _row("memory of an idle context", idle_each, "MiB"),
        _row(
            "memory of a context with a loaded page",
            (loaded - baseline) / threads / MIB,
            "MiB",
            "an idle context",
            idle_each,
            None,
        ),
        _row(
            f"memory after {count} leases",
            after / MIB,
            "MiB",
            "after 40 leases",
            before / MIB,
            1.25,
        ),
    ]


def _settled(pool: BrowserPool) -> int:
    """Bytes of the browser's tree once two measurements agree."""
    pid = stats(pool).browser_pid or 0
    seen = [usage_bytes(pid) or 0]

    def level() -> bool:
        seen.append(usage_bytes(pid) or 0)
        return abs(seen[-1] - seen[-2]) < 0.02 * seen[-1]

    _wait(level)
    return seen[-1]


def _wait(condition: Callable[[], bool], most_s: float = 120.0) -> None:
    started = time.monotonic()
    pause = threading.Event()
    while not condition():
        if time.monotonic() - started > most_s:
            raise TimeoutError("the pool did not come to rest")
        pause.wait(0.002)


# Crawlee's pool opens pages in one context that it never cleans: cookies and storage of
# one use are there in the next. It gets the same Chromium, switches and page, and for each line
# that it reads it does the work once.
_CRAWLEE_SCRIPT = """
import asyncio, json, sys, time
from crawlee.browsers import BrowserPool, PlaywrightBrowserPlugin

async def main(url, executable, switches):
    plugin = PlaywrightBrowserPlugin(
        browser_launch_options={"executable_path": executable, "args": switches,
                                "chromium_sandbox": False})
    async with BrowserPool([plugin]) as pool:
        while await asyncio.to_thread(sys.stdin.readline):
            started = time.perf_counter()
            page = (await pool.new_page()).page
            await page.goto(url)
            loaded = time.perf_counter()
            await page.close()
            closed = time.perf_counter()
            print(json.dumps({"crawlee_loaded": (loaded - started) * 1000,
                              "crawlee_cycle": (closed - started) * 1000}), flush=True)

asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
"""


@contextmanager
def _crawlee(url: str) -> Iterator[Callable[[], dict[str, float]]]:
    """The same work through crawlee, in an environment that is thrown away.

    Raises:
        OSError: it could not be run.
        subprocess.SubprocessError: it could not be installed.
    """
    with tempfile.TemporaryDirectory(prefix="bench-crawlee-") as folder:
        python = str(Path(folder) / "bin" / "python")
        for command in (
            [sys.executable, "-m", "venv", folder],
            [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", CRAWLEE],
        ):
            subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_MOST_S)
        program = find_chromium()
        switches = json.dumps(launch_options(_SETTINGS, program, _BARE)["args"])
        with subprocess.Popen(
            [python, "-c", _CRAWLEE_SCRIPT, url, program, switches],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            asked, answers = process.stdin, process.stdout
            assert asked
            assert answers

            def turn() -> dict[str, float]:
                print(file=asked, flush=True)
                times: dict[str, float] = json.loads(answers.readline())
                return times

            turn()
            yield turn
            asked.close()


if __name__ == "__main__":
    from bench.__main__ import main

    sys.exit(main(["browser"]))
