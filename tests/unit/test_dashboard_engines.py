"""Where the password for the engines comes from, and what is said when it cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Never

import pytest
from click.testing import CliRunner
from pydantic import HttpUrl

from transcript_service import cli
from transcript_service.dashboard import engines
from transcript_service.dashboard.engines import Engines
from transcript_service.settings import Settings, SettingsError, get_settings

HERE, THERE = HttpUrl("http://127.0.0.1:9090"), HttpUrl("http://prometheus:9090")
WITH_ITS_OWN = HttpUrl("http://me:mine@127.0.0.1:9090")


@pytest.fixture
def launchers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The launcher's file in the current folder."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / ".stack/secrets/engine_password"
    file.parent.mkdir(parents=True)
    return file


def test_the_launchers_password_is_for_this_machine_and_the_configured_one_for_all(
    launchers: Path, tmp_path: Path
) -> None:
    launchers.write_text("abc\n")
    configured = tmp_path / "password"
    configured.write_text("def\n")
    assert engines._with_password(HERE, None) == "http://stack:abc@127.0.0.1:9090/"
    assert engines._with_password(THERE, None) == "http://prometheus:9090/"
    assert engines._with_password(THERE, configured) == "http://stack:def@prometheus:9090/"
    assert engines._with_password(WITH_ITS_OWN, configured) == str(WITH_ITS_OWN)


def test_a_launchers_file_that_cannot_be_read_is_as_good_as_none(
    launchers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launchers.mkdir()
    assert engines._with_password(HERE, None) == str(HERE)

    class AnotherUsers:
        """`chmod` would keep nothing from root, which tests may run as."""

        def exists(self) -> Never:
            raise PermissionError

        def read_text(self) -> Never:
            raise PermissionError

    monkeypatch.setattr(engines, "_LAUNCHERS", AnotherUsers())
    assert engines._with_password(HERE, None) == str(HERE)


@pytest.mark.parametrize("what", ["nothing", "a folder", "no text"])
def test_a_configured_file_that_cannot_be_read_is_a_wrong_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    file = tmp_path / "password"
    if what == "a folder":
        file.mkdir()
    elif what == "no text":
        file.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(SettingsError, match="ENGINE_PASSWORD_FILE: cannot be read"):
        Engines(Settings(_env_file=None, engine_password_file=file))
    monkeypatch.setenv("ENGINE_PASSWORD_FILE", str(file))
    get_settings.cache_clear()
    try:
        said = CliRunner().invoke(cli.main, ["status"])
    finally:
        get_settings.cache_clear()
    assert (said.exit_code, said.stderr) == (
        2,
        "transcript-service: ENGINE_PASSWORD_FILE: cannot be read\n",
    )
