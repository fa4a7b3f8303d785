"""One browser: Playwright's driver and the Chromium it started, living and dying together.

A driver of its own per browser makes a replacement complete: the driver keeps objects for
every page it ever saw, and when it dies `is_connected()` of its browser stays true.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import psutil
from playwright.async_api import Browser, BrowserContext, CDPSession, Playwright, async_playwright
from playwright.async_api import Error as PlaywrightError
from playwright.async_api import TimeoutError as PlaywrightTimeout

from ..settings import Settings
from ..telemetry import get_logger, span
from . import memory
from .identity import Identity
from .launch import BROWSER_UID, Way, find_chromium, launch_options, ways

log = get_logger(__name__)

# Beyond this the driver is not waited for; its processes are killed.
_CLOSE_S = 5.0
# What Playwright calls the folders; and how long after making one the browser has started.
_PROFILES: Final = "playwright_chromiumdev_profile-*"
_STARTS_S: Final = 10.0


class Tasks(set[asyncio.Task[Any]]):
    """The tasks under way. A failure is written to the log: nobody else would see it."""

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("browser.janitor.failed", exc_info=error)

    async def finish(self, timeout_s: float) -> None:
        """Wait for all of them, or `timeout_s` seconds."""
        if self:
            await asyncio.wait(tuple(self), timeout=timeout_s)


class ChromiumProcess:
    """A running Chromium. Make one with `launch`."""

    def __init__(self, driver: Playwright, browser: Browser, control: CDPSession, pid: int) -> None:
        self._driver = driver
        self._browser = browser
        self._control = control
        self.pid = pid
        self.version = browser.version
        self.started_at = time.monotonic()
        self.baseline_bytes = 0
        # Heartbeats in a row that went unanswered.
        self.missed = 0
        # Dead, or told to go.
        self.ended = False
        self._late = Tasks()
        self._tree = memory.process_tree(pid)
        self._profile = profile_of(pid)

    @classmethod
    async def launch(cls, settings: Settings) -> ChromiumProcess:
        """Start driver and Chromium and measure what they take when idle.

        Raises:
            BrowserUnavailable: there is no Chromium.
            PlaywrightError: it did not start, or not in time.
        """
        started = time.monotonic()
        with span("browser.launch"):
            # The driver's reader task lives as long as the driver: with an empty context, or
            # every event of the browser would carry the first caller's trace.
            driver = await asyncio.create_task(
                async_playwright().start(), context=contextvars.Context()
            )
            try:
                executable = find_chromium(
                    settings.browser_executable, driver.chromium.executable_path
                )
                await asyncio.to_thread(sweep_profiles)
                browser = await _started(driver, executable, settings)
                control = await browser.new_browser_cdp_session()
                process = cls(driver, browser, control, await _pid_of(control))
                process.baseline_bytes = await process.usage_bytes() or 0
            except BaseException:
                # Stopping the driver ends whatever it had started.
                with suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(driver.stop()), _CLOSE_S)
                raise
        log.info(
            "browser.launched",
            browser_version=process.version,
            duration_s=round(time.monotonic() - started, 3),
            baseline_bytes=process.baseline_bytes,
        )
        return process

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call back when the browser process ends."""
        self._browser.on("disconnected", lambda _: callback())

    async def new_context(self, identity: Identity) -> BrowserContext:
        """A fresh context with the identity's options; none is left where the wait is given up."""
        options = identity.options(self.version)
        making = asyncio.ensure_future(self._browser.new_context(**options))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            self._late.spawn(_close_late(making))
            raise

    async def heartbeat(self) -> None:
        """One round trip through driver and browser; raises when either is dead."""
        await self._control.send("Browser.getVersion")

    async def usage_bytes(self) -> int | None:
        """PSS of driver and browser, measured in a thread; `None` where they are gone."""
        return await asyncio.to_thread(self._measure)

    def _measure(self) -> int | None:
        # What is gone cannot be asked for its children, so the last answer is kept.
        self._tree = memory.process_tree(self.pid) or self._tree
        return memory.usage_bytes(self.pid)

    async def destroy(self) -> None:
        """End browser and driver, politely for some seconds, then by force.

        Never raises and leaves no process behind: what the polite way leaves is killed.
        """
        self._tree = memory.process_tree(self.pid) or self._tree
        for step in (self._browser.close, self._driver.stop):
            with suppress(Exception):
                await asyncio.wait_for(step(), _CLOSE_S)
        try:
            await asyncio.to_thread(memory.kill_tree, self._tree)
        except RuntimeError:  # the interpreter is shutting down: no more threads
            memory.kill_tree(self._tree)
        if self._profile is not None:  # there still where the driver was killed
            shutil.rmtree(self._profile, ignore_errors=True)


async def _close_late(making: asyncio.Future[BrowserContext]) -> None:
    with suppress(Exception):
        await (await making).close()


async def _started(driver: Playwright, executable: str, settings: Settings) -> Browser:
    """Start Chromium in the best way that works, and say it where that has no sandbox."""
    refusal: PlaywrightError | None = None
    possible = ways(settings.browser_sandbox)
    for way in possible:
        if way in _refused:
            continue
        try:
            browser = await driver.chromium.launch(**launch_options(settings, executable, way))
        except PlaywrightTimeout:
            raise  # slow is no reason to do without
        except PlaywrightError as error:
            refusal = refusal or error
            continue
        if refusal is not None:
            # Known from now on to be the machine's fault and not a moment's.
            _refused.update(possible[: possible.index(way)])
        if not way.sandbox:
            chosen = settings.browser_sandbox is False
            reason = "as configured" if chosen else "it does not start with one"
            log.warning("browser.unsandboxed", reason=reason, other_user=way.other_user)
        return browser
    raise refusal or AssertionError("no way to start a browser is left")


# Ways in which Chromium did not start on this machine while another one worked.
_refused: set[Way] = set()


async def _pid_of(control: CDPSession) -> int:
    answer = await control.send("SystemInfo.getProcessInfo")
    return next(int(item["id"]) for item in answer["processInfo"] if item["type"] == "browser")


def profile_of(browser_pid: int) -> Path | None:
    """The folder that a browser keeps its profile in, where that can be known."""
    prefix = "--user-data-dir="
    try:
        command = psutil.Process(browser_pid).cmdline()
    except psutil.Error:
        return None
    found = next((word for word in command if word.startswith(prefix)), None)
    folder = Path(found.removeprefix(prefix)) if found else None
    return folder if folder and folder.match(_PROFILES) else None


def sweep_profiles() -> None:
    """Remove the profiles of browsers that were killed.

    A killed worker takes its driver along, which would have removed them. A folder is left
    alone while a process names it, and for a moment before that.
    """
    found = {path for path in Path(tempfile.gettempdir()).glob(_PROFILES) if _is_left(path)}
    found -= set(map(profile_of, psutil.pids()))
    for path in found:
        shutil.rmtree(path, ignore_errors=True)


def _is_left(profile: Path) -> bool:
    try:
        status = profile.lstat()
    except OSError:
        return False
    ours = status.st_uid in (os.geteuid(), BROWSER_UID)
    return ours and stat.S_ISDIR(status.st_mode) and time.time() - status.st_mtime > _STARTS_S
