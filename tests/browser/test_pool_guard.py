"""What a hostile page cannot do: reach this machine, leave the sandbox, be root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.browser.conftest import MakePool, browser_processes, close_all
from tests.browser.site import Site, serve
from tests.browser_settings import THIS_MACHINE, pool_limits
from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.browser import (
    BrowserPool,
    BrowserUnavailable,
    find_chromium,
    process,
)
from transcript_service.browser.launch import BROWSER_UID

# Every way in which a page can make a browser ask another server for something.
ATTACK = """async engines => {
    for (const [number, engine] of engines.entries()) {
        const url = way => `${engine}/${way}-${number}`;
        const tries = [
            fetch(url('fetch'), {mode: 'no-cors'}),
            fetch(url('post'), {mode: 'no-cors', method: 'POST', body: '{}'}),
            new Promise(done => {
                const image = new Image();
                image.onload = image.onerror = done;
                image.src = url('image');
            }),
            new Promise(done => {
                const frame = document.createElement('iframe');
                frame.onload = done;
                frame.src = url('frame');
                document.body.append(frame);
            }),
            new Promise(done => {
                const socket = new WebSocket(url('socket').replace('http', 'ws'));
                socket.onopen = socket.onerror = done;
            }),
        ];
        navigator.sendBeacon(url('beacon'), 'x');
        await Promise.race([
            Promise.allSettled(tries), new Promise(done => setTimeout(done, 3000))
        ]);
    }
}"""
SUBMIT = """engine => {
    const form = document.createElement('form');
    form.method = 'POST';
    form.action = engine + '/form';
    document.body.append(form);
    form.submit();
}"""


@pytest.fixture
def engine() -> Iterator[Site]:
    with serve() as running:
        yield running


@pytest.fixture(scope="module")
def secluded(site: Site) -> Iterator[BrowserPool]:
    """For YouTube's names alone, and started where the environment names proxies."""
    pool = BrowserPool(
        *pool_limits(youtube_resolve_to=site.address, browser_private_hosts=(), wait_s=60.0)
    )
    with pytest.MonkeyPatch.context() as environment:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            environment.setenv(name, "http://127.0.0.1:1")
        with pool.lease():
            pass
    yield pool
    close_all([pool])


@pytest.mark.parametrize("reachable", [(), (*THIS_MACHINE, "[::1]")])
def test_a_hostile_page_reaches_no_engine_of_this_machine(
    secluded: BrowserPool,
    make_pool: MakePool,
    site: Site,
    engine: Site,
    reachable: tuple[str, ...],
) -> None:
    pool = secluded
    if reachable:
        pool = make_pool(browser_private_hosts=reachable, youtube_resolve_to=site.address)
    port = engine.address.split(":")[1]
    forms = [f"http://{host}:{port}" for host in ("127.0.0.1", "localhost", "0x7f.1", "[::1]")]
    with pool.lease() as context:
        page = context.new_page()
        page.goto("http://r1.googlevideo.com/watch")  # the stand-in still works
        assert page.title() == "watch"
        page.evaluate(ATTACK, forms)
        page.evaluate(SUBMIT, engine.url)
        page.wait_for_timeout(500)
    if not reachable:
        assert engine.hits == {}
    else:
        assert {"/fetch-0", "/post-0", "/image-0", "/frame-0", "/form"} <= set(engine.hits)


def test_a_proxy_on_this_machine_is_no_way_to_the_rest_of_it(
    make_pool: MakePool, site: Site, engine: Site
) -> None:
    pool = make_pool(browser_private_hosts=(site.address,))
    with pool.lease(proxy={"server": site.url}) as context:
        page = context.new_page()
        page.goto("http://anywhere.test/watch")  # the site answers in the proxy's place
        page.evaluate(ATTACK, [engine.url])
    assert engine.hits == {}
    assert "http://anywhere.test/watch" in site.hits


def test_direct_means_direct_whatever_the_environment_says(secluded: BrowserPool) -> None:
    with secluded.lease() as context:
        page = context.new_page()
        page.goto("http://r1.googlevideo.com/")
        assert page.title() == "home"


def seccomp(one: psutil.Process) -> bool:
    """Whether the kernel filters the system calls of a process."""
    return "Seccomp:\t2" in Path(f"/proc/{one.pid}/status").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a user to get rid of")
def test_roots_browser_is_another_users_and_in_a_sandbox(
    make_pool: MakePool, site: Site, telemetry: InMemoryTelemetry
) -> None:
    pool = make_pool()
    with pool.lease() as context:
        context.new_page().goto(site.url)
        renderers = browser_processes(pool, "renderer")
        assert renderers
        for one in (*browser_processes(pool, "browser"), *renderers):
            assert set(one.uids()) == {BROWSER_UID}
        if not telemetry.events("browser.unsandboxed"):  # the machine has no user namespaces
            assert all(seccomp(one) for one in renderers)
            assert "--no-sandbox" not in browser_processes(pool, "browser")[0].cmdline()


@pytest.fixture
def without_namespaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A Chromium as it is where the kernel gives it no user namespaces."""
    monkeypatch.setattr(process, "_refused", set())
    program = tmp_path / "chromium"
    program.write_text(
        f"""#!/bin/sh
case " $* " in
*" --no-sandbox "*) exec {find_chromium(os.environ.get("BROWSER_EXECUTABLE"))} "$@" ;;
*) echo "No usable sandbox!" >&2; exit 1 ;;
esac
"""
    )
    program.chmod(0o755)
    return str(program)


def test_without_a_sandbox_it_is_said_aloud(
    make_pool: MakePool, without_namespaces: str, telemetry: InMemoryTelemetry
) -> None:
    pool = make_pool(browser_executable=without_namespaces)
    with pool.lease() as context:
        assert context.new_page().evaluate("1") == 1
    (said,) = telemetry.events("browser.unsandboxed")
    assert said["reason"] == "it does not start with one"


def test_where_a_sandbox_is_demanded_there_is_no_browser_without(
    make_pool: MakePool, without_namespaces: str
) -> None:
    pool = make_pool(browser_executable=without_namespaces, browser_sandbox=True)
    with pytest.raises(BrowserUnavailable) as refused, pool.lease():
        pass
    assert refused.value.reason == "launch_failed"
