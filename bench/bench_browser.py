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
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
ROUNDS = 15
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
        per_request = asyncio.run(_browser_per_request())
        fresh = asyncio.run(_fresh_context(url))
        pool = BrowserPool(_SETTINGS)
        try:
            acquire, load = _pooled(pool, url)
            cycle = _back_to_back(pool, url)
            memory = _memory(pool, url)
        finally:
            pool.close(5)
        crawlee = _crawlee(url)
    rows = []
    for name, part in (("P50", 50), ("P95", 95)):
        rows += [
            _row(
                f"acquire a page, {name}",
                _percentile(acquire, part),
                "ms",
                "a browser per request",
                _percentile(per_request, part),
                0.05,
            ),
            _row(
                f"acquire and load a page, {name}",
                _percentile(load, part),
                "ms",
                "a fresh context in the same browser",
                _percentile(fresh, part),
                1.0,
            ),
        ]
    for name, ours, theirs in (
        ("acquire and load a page, beside crawlee, P50", load, "pooled"),
        # Ours has cleaned the context and opened the next page by then, crawlee has not.
        ("back to back, beside crawlee, P50", cycle, "cycle"),
    ):
        peer = crawlee.get(theirs) if isinstance(crawlee, dict) else None
        rows.append(
            _row(
                name,
                _percentile(ours, 50),
                "ms",
                CRAWLEE if peer else f"{CRAWLEE}: {crawlee}",
                _percentile(peer, 50) if peer else None,
                None,
            )
        )
    return rows + memory


def _percentile(values: list[float], part: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[part - 1]


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000


async def _browser_per_request() -> list[float]:
    """The baseline: with a running driver, launch Chromium and open a page, per request."""
    times = []
    async with async_playwright() as driver:
        program = find_chromium(None, driver.chromium.executable_path)
        options = launch_options(_SETTINGS, program, _BARE)
        for _ in range(ROUNDS):
            started = time.perf_counter()
            browser = await driver.chromium.launch(**options)
            await (await browser.new_context()).new_page()
            times.append(_ms_since(started))
            await browser.close()
    return times


async def _fresh_context(url: str) -> list[float]:
    """Context, page and navigation, in a browser that runs already."""
    times = []
    async with async_playwright() as driver:
        program = find_chromium(None, driver.chromium.executable_path)
        options = launch_options(_SETTINGS, program, _BARE)
        browser: Browser = await driver.chromium.launch(**options)
        for _ in range(ROUNDS):
            started = time.perf_counter()
            context = await browser.new_context()
            await (await context.new_page()).goto(url)
            times.append(_ms_since(started))
            await context.close()
        await browser.close()
    return times


def _pooled(pool: BrowserPool, url: str) -> tuple[list[float], list[float]]:
    """Milliseconds until there is a page, and until it has loaded."""
    acquire, load = [], []
    for number in range(ROUNDS + 1):
        started = time.perf_counter()
        with pool.lease() as context:
            page = context.new_page()
            acquired = _ms_since(started)
            page.goto(url)
            loaded = _ms_since(started)
        if number:  # the first one starts the browser
            acquire.append(acquired)
            load.append(loaded)
        _wait(lambda: stats(pool).leased == 0)
    return acquire, load


def _back_to_back(pool: BrowserPool, url: str) -> list[float]:
    """Milliseconds from one lease's begin to the next one's, cleaning included."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        with pool.lease() as context:
            context.new_page().goto(url)
        _wait(lambda: stats(pool).leased == 0)
        times.append(_ms_since(started))
    return times


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
# one use are there in the next. It gets the same Chromium, switches and page.
_CRAWLEE_SCRIPT = """
import asyncio, json, sys, time
from crawlee.browsers import BrowserPool, PlaywrightBrowserPlugin

async def main(url, executable, switches, rounds):
    plugin = PlaywrightBrowserPlugin(
        browser_launch_options={"executable_path": executable, "args": switches,
                                "chromium_sandbox": False})
    pooled, cycle = [], []
    async with BrowserPool([plugin]) as pool:
        for number in range(rounds + 1):
            started = time.perf_counter()
            page = (await pool.new_page()).page
            await page.goto(url)
            loaded = time.perf_counter()
            await page.close()
            if number:
                pooled.append((loaded - started) * 1000)
                cycle.append((time.perf_counter() - started) * 1000)
    print(json.dumps({"pooled": pooled, "cycle": cycle}))

asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])))
"""


def _crawlee(url: str) -> dict[str, list[float]] | str:
    """The same work through crawlee in a throw-away environment, or why not."""
    with tempfile.TemporaryDirectory(prefix="bench-crawlee-") as folder:
        python = str(Path(folder) / "bin" / "python")
        try:
            for command in (
                [sys.executable, "-m", "venv", folder],
                [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", CRAWLEE],
            ):
                subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_MOST_S)
        except (subprocess.SubprocessError, OSError) as error:
            return f"not installed ({type(error).__name__})"
        program = find_chromium()
        try:
            done = subprocess.run(
                [
                    python,
                    "-c",
                    _CRAWLEE_SCRIPT,
                    url,
                    program,
                    json.dumps(launch_options(_SETTINGS, program, _BARE)["args"]),
                    str(ROUNDS),
                ],
                check=True,
                capture_output=True,
                text=True,
                timeout=INSTALL_MOST_S,
            )
        except (subprocess.SubprocessError, OSError) as error:
            return f"did not run ({type(error).__name__})"
        answer: dict[str, list[float]] = json.loads(done.stdout.strip().splitlines()[-1])
        return answer


if __name__ == "__main__":
    from bench.__main__ import main

    sys.exit(main(["browser"]))
