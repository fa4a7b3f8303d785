"""Starting, stopping, forking, and machines without Chromium."""

from __future__ import annotations

import atexit
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest
import trustme
from playwright.sync_api import Error as PlaywrightError

from tests.browser.conftest import MakePool, browser_processes, wait_until
from tests.browser.site import Site, serve
from tests.browser_settings import alive
from tests.pool_stats import stats
from transcript_service.browser import (
    BrowserPool,
    BrowserUnavailable,
    LeaseLost,
    get_browser_pool,
)
from transcript_service.browser.launch import Way, launch_options
from transcript_service.browser.memory import process_tree
from transcript_service.browser.process import profile_of
from transcript_service.settings import Settings


def test_nothing_runs_before_the_first_lease(make_pool: MakePool) -> None:
    pool = make_pool()
    assert stats(pool).browser_pid is None
    assert "browser-pool" not in {thread.name for thread in threading.enumerate()}


def test_without_chromium_the_caller_learns_why_at_once(tmp_path: Path) -> None:
    pool = BrowserPool(Settings(browser_executable=str(tmp_path / "none")))
    for _ in range(2):  # the second time without another look
        with pytest.raises(BrowserUnavailable) as caught, pool.lease():
            pass
        assert caught.value.reason == "not_installed"
        assert "BROWSER_EXECUTABLE" in str(caught.value)
    assert "BROWSER_EXECUTABLE" in (stats(pool).problem or "")
    pool.close()


def test_a_program_that_is_no_browser_is_a_failed_launch(tmp_path: Path) -> None:
    program = tmp_path / "chromium"
    program.write_text("#!/bin/sh\nexit 7\n")
    program.chmod(0o755)
    pool = BrowserPool(Settings(browser_executable=str(program), browser_acquire_timeout_s=60))
    with pytest.raises(BrowserUnavailable, match="did not start") as caught, pool.lease():
        pass
    assert caught.value.reason == "launch_failed"
    assert caught.value.retry_after_s
    pool.close()
    assert not [c for c in psutil.Process().children() if "node" in c.name() and alive(c)]


def test_the_running_browser_knows_every_switch_it_is_given(pool: BrowserPool) -> None:
    with pool.lease():
        [browser] = browser_processes(pool, "browser")
        given = browser.cmdline()
        binary = Path(browser.exe())
    # Chromium ignores what it does not know without a word. A switch it knows stands in
    # the binary as a string of its own.
    with binary.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as code:

        def known(switch: str) -> bool:
            name = switch.removeprefix("--").split("=", 1)[0]
            return code.find(b"\0" + name.encode() + b"\0") >= 0

        switches = launch_options(pool.settings, "chromium", Way(True, False))["args"]
        assert {*switches} <= {*given}
        for switch in switches:
            assert known(switch), switch
        assert not known("--memory-pressure-off")


def test_contexts_have_no_processes_for_windows_that_nobody_sees(
    pool: BrowserPool, site: Site
) -> None:
    with pool.lease() as first, pool.lease() as second:
        for context in (first, second):
            context.new_page().goto(site.url)
        [browser] = browser_processes(pool, "browser")
        renderers = [renderer.cmdline() for renderer in browser_processes(pool, "renderer")]
    assert renderers
    assert not [given for given in renderers if "--top-chrome-webui" in given]
    # Of these the last counts alone: it has all of Playwright's.
    switch = "--disable-features="
    playwrights, ours = (
        set(given.removeprefix(switch).split(","))
        for given in browser.cmdline()
        if given.startswith(switch)
    )
    assert playwrights < ours


def test_youtubes_names_lead_where_they_are_told_and_others_nowhere(
    make_pool: MakePool, site: Site
) -> None:
    with serve(trustme.CA().issue_cert("*.youtube.com", "*.googlevideo.com")) as stand_in:
        trusting = make_pool(youtube_resolve_to=stand_in.address, ignore_https_errors=True)
        with trusting.lease() as context:
            page = context.new_page()
            for host in ("www.youtube.com", "m.youtube.com", "rr1---sn-x.googlevideo.com"):
                page.goto(f"https://{host}/")
                assert page.title() == "home"
            page.goto(site.other_url)
            assert page.title() == "home"
            with pytest.raises(PlaywrightError, match="ERR_NAME_NOT_RESOLVED"):
                page.goto("http://www.example.com/")
        # Without the operator's CA a stranger's certificate is refused as ever.
        strict = make_pool(browser_private_hosts=(), youtube_resolve_to=stand_in.address)
        with strict.lease() as context, pytest.raises(PlaywrightError, match="ERR_CERT_AUTH"):
            context.new_page().goto("https://www.youtube.com/")


def test_closing_lets_leaseholders_finish_and_takes_what_they_keep(
    make_pool: MakePool, site: Site
) -> None:
    pool = make_pool()
    leased, may_go = threading.Event(), threading.Event()
    seen: list[object] = []

    def polite() -> None:
        with pool.lease() as context:
            page = context.new_page()
            leased.set()
            may_go.wait(60)
            page.goto(site.url)
            seen.append(page.title())

    holder = threading.Thread(target=polite)
    holder.start()
    assert leased.wait(60)
    closing = threading.Thread(target=pool.close, args=(60,))
    closing.start()
    wait_until(lambda: _refuses(pool))
    may_go.set()
    closing.join(60)
    holder.join(60)
    assert seen == ["home"]
    assert stats(pool).closed == {"shutdown": 1}

    stubborn = make_pool()
    with stubborn.lease() as context:
        page = context.new_page()
        stubborn.close(grace_s=0.1)
        with pytest.raises(LeaseLost) as caught:
            page.goto(site.url)
    assert caught.value.reason == "shutdown"


def _refuses(pool: BrowserPool) -> bool:
    try:
        with pool.lease(timeout_s=0):
            return False
    except BrowserUnavailable as error:
        return error.reason == "shutting_down"


def test_a_script_that_just_ends_leaves_no_browser(site: Site) -> None:
    script = f"""
        import os
        from tests.pool_stats import stats
        os.environ["BROWSER_PRIVATE_HOSTS"] = "{site.address}"
        from transcript_service.browser import get_browser_pool
        with get_browser_pool().lease(timeout_s=60) as context:
            page = context.new_page()
            page.goto("{site.url}")
            print(page.title(), stats(get_browser_pool()).browser_pid)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    title, pid = done.stdout.split()
    assert title == "home"
    wait_until(lambda: not psutil.pid_exists(int(pid)) or not alive(psutil.Process(int(pid))))


def test_a_worker_that_is_killed_leaves_no_browser(site: Site) -> None:
    script = f"""
        import os
        from tests.pool_stats import stats
        os.environ["BROWSER_PRIVATE_HOSTS"] = "{site.address}"
        from transcript_service.browser import get_browser_pool
        with get_browser_pool().lease(timeout_s=60) as context:
            context.new_page().goto("{site.url}")
            print(stats(get_browser_pool()).browser_pid, flush=True)
            input()
    """
    worker = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    tree = process_tree(int(worker.stdout.readline()))
    assert len(tree) > 3
    worker.kill()
    worker.wait()
    wait_until(lambda: not any(alive(process) for process in tree))


def test_a_forked_worker_gets_a_pool_of_its_own() -> None:
    parents = get_browser_pool()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"other" if get_browser_pool() is not parents else b"same")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 10) == b"other"
    assert get_browser_pool() is parents
    parents.close(grace_s=1)  # made of this test's environment
    os.close(reader)
    os.close(writer)


def test_a_forked_child_ends_at_once_and_leaves_the_parents_browser_alone(
    pool: BrowserPool,
) -> None:
    with pool.lease():
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            atexit._run_exitfuncs()  # what every interpreter does at its end
            os._exit(0)
        os.waitpid(child, 0)
        assert time.monotonic() - began < 5
    with pool.lease() as context:
        assert context.new_page().evaluate("1 + 1") == 2


def test_the_profile_of_a_killed_browser_goes_at_once_and_a_killed_workers_at_the_next_start(
    make_pool: MakePool,
) -> None:
    left = Path(tempfile.mkdtemp(prefix="playwright_chromiumdev_profile-"))
    (left / "Default").mkdir()
    os.utime(left, (time.time() - 60, time.time() - 60))
    young = Path(tempfile.mkdtemp(prefix="playwright_chromiumdev_profile-"))
    pool = make_pool(heartbeat_s=1.0)
    with pool.lease() as context:
        context.new_page()
        assert not left.exists()
        assert young.exists()  # its browser may be about to start
        pid = stats(pool).browser_pid
        assert pid is not None
        own = profile_of(pid)
        assert own is not None
        assert own.is_dir()
        for process in (*browser_processes(pool, "driver"), *browser_processes(pool, "browser")):
            process.kill()
        wait_until(lambda: not own.exists())
    shutil.rmtree(young, ignore_errors=True)  # on a busy machine it may be old by now
