"""Finding Chromium and starting it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from transcript_service.browser import BrowserPool, launch
from transcript_service.browser.errors import BrowserUnavailable
from transcript_service.browser.identity import Identity
from transcript_service.browser.launch import (
    Way,
    find_chromium,
    launch_options,
    resolver_rules,
    ways,
)
from transcript_service.browser.pool import ContextPool
from transcript_service.settings import Settings


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an empty folder on PATH and nothing anywhere else."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(launch, "_PLACES", ())
    return tmp_path


def executable(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def test_without_chromium_the_error_says_how_to_get_one(machine: Path) -> None:
    with pytest.raises(BrowserUnavailable, match=r"apt-get install chromium.*BROWSER_EXECUTABLE"):
        find_chromium()


def test_what_the_operator_names_comes_first(machine: Path) -> None:
    executable(machine / "chromium")
    named = executable(machine / "elsewhere" / "my-chrome")
    assert find_chromium(named) == named


def test_a_named_executable_that_is_none_is_an_error_not_a_reason_to_search(machine: Path) -> None:
    executable(machine / "chromium")
    with pytest.raises(BrowserUnavailable, match="is not an executable file"):
        find_chromium(str(machine / "missing"))


def test_playwrights_own_build_is_preferred_to_the_systems(machine: Path) -> None:
    executable(machine / "chromium")
    own = executable(machine / "ms-playwright" / "chrome")
    assert find_chromium(None, own) == own
    assert find_chromium(None, str(machine / "not-installed")) == str(machine / "chromium")


@pytest.mark.parametrize("name", ["chromium", "chromium-browser", "google-chrome"])
def test_the_systems_browser_is_found_by_its_usual_names(machine: Path, name: str) -> None:
    path = executable(machine / name)
    assert find_chromium() == path


def test_every_switch_has_its_reason_and_is_given_once() -> None:
    names = [switch.split("=", 1)[0] for switch in launch.SWITCHES]
    assert len(set(names)) == len(names)
    assert all(len(reason) > 20 for reason in launch.SWITCHES.values())
    # Playwright passes its own; a second one would replace it. (`--disable-features` has all of
    # Playwright's: tests/browser/test_pool_life.py.)
    assert not {"--enable-features", "--blink-settings"} & set(names)


def test_names_of_youtube_lead_to_the_given_address_and_all_others_nowhere() -> None:
    rules = resolver_rules(Settings(_env_file=None, youtube_resolve_to="127.0.0.1:8443"))
    assert "MAP *.youtube.com 127.0.0.1:8443" in rules
    assert "MAP *.googlevideo.com 127.0.0.1:8443" in rules
    # Chromium takes the first rule that matches.
    assert rules.index("MAP * ~NOTFOUND") > rules.index("MAP youtube.com 127.0.0.1:8443")


def test_no_public_name_is_mapped_unless_asked_for() -> None:
    rules = resolver_rules(Settings(_env_file=None))
    assert rules
    assert all(rule.endswith(" ~NOTFOUND") for rule in rules)
    assert not any("youtube" in rule or "MAP * " in rule for rule in rules)


@pytest.mark.parametrize("resolve_to", [None, "127.0.0.1:8443"])
def test_private_addresses_lead_nowhere_but_where_the_operator_says(resolve_to: str | None) -> None:
    settings = Settings(
        _env_file=None, browser_private_hosts=("10.0.0.5:3128",), youtube_resolve_to=resolve_to
    )
    rules = resolver_rules(settings)
    assert not any(rule.startswith("EXCLUDE") for rule in rules)
    for host in ("localhost", "127.*", "10.*", "172.31.*", "192.168.*", "169.254.*", "[*"):
        assert rules.index(f"MAP {host} ~NOTFOUND") > rules.index("MAP 10.0.0.5:3128 10.0.0.5:3128")


@pytest.mark.parametrize(
    ("uid", "sandbox", "expected"),
    [
        (1000, None, [(True, False), (False, False)]),
        (1000, True, [(True, False)]),
        (1000, False, [(False, False)]),
        # Root's own browser cannot have a sandbox: another user's first.
        (0, None, [(True, True), (False, True), (False, False)]),
        (0, True, [(True, True)]),
        (0, False, [(False, True), (False, False)]),
    ],
)
def test_the_sandbox_is_on_wherever_it_works(
    monkeypatch: pytest.MonkeyPatch,
    uid: int,
    sandbox: bool | None,
    expected: list[tuple[bool, bool]],
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: uid)
    assert ways(sandbox) == expected


def test_the_environments_proxies_stay_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTP_PROXY", "all_proxy", "no_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    given = launch_options(Settings(_env_file=None), "chromium", Way(True, False))["env"]
    assert not [name for name in given if "proxy" in name.lower()]
    assert "PATH" in given


def test_signals_are_left_to_the_worker() -> None:
    options = launch_options(Settings(_env_file=None), "chromium", Way(True, False))
    assert {options[f"handle_{name}"] for name in ("sigint", "sigterm", "sighup")} == {False}


def test_proxies_of_the_list_are_reachable_wherever_they_are() -> None:
    settings = Settings(
        _env_file=None,
        proxy_list=SecretStr("u:p@10.0.0.5:3128 [::1]:3128"),
        browser_private_hosts=("127.0.0.1:8080",),
    )
    reachable = ("127.0.0.1:8080", "10.0.0.5:3128", "[::1]:3128")
    assert resolver_rules(settings)[:3] == [f"MAP {host} {host}" for host in reachable]


def test_the_environment_sets_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER_MAX_CONTEXTS", "3")
    monkeypatch.setenv("YOUTUBE_RESOLVE_TO", "127.0.0.1:8443")
    settings = BrowserPool(Settings(_env_file=None)).settings
    assert settings.browser_max_contexts == 3
    assert "MAP youtube.com 127.0.0.1:8443" in resolver_rules(settings)


def test_only_with_a_ca_of_the_operators_pages_may_have_any_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Identity] = []

    async def refuse(_: ContextPool, identity: Identity, **__: object) -> None:
        asked.append(identity)
        raise BrowserUnavailable("memory", "none")

    monkeypatch.setattr(ContextPool, "acquire", refuse)
    for ca_file in (None, tmp_path / "ca.pem"):
        pool = BrowserPool(Settings(_env_file=None, youtube_ca_file=ca_file))
        with pytest.raises(BrowserUnavailable), pool.lease():
            pass
        pool.close()
        assert asked.pop().ignore_https_errors == (ca_file is not None)
