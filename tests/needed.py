"""Programs of the machine that tests need, and who is at fault where one is missing."""

from __future__ import annotations

import os
import shutil

import pytest

from transcript_service.browser import BrowserUnavailable, find_chromium

# Where Debian has servers; not on everybody's path.
_PLACES = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"


def needed(program: str) -> str:
    """The path of a Debian program that stack/bootstrap.sh installs; see `_missing`."""
    return shutil.which(program, path=_PLACES) or _missing(f"{program} is not on PATH")


def require_chromium(executable: str | None) -> None:
    """See `_missing`."""
    try:
        find_chromium(executable)
    except BrowserUnavailable as error:
        _missing(str(error))


def _missing(sentence: str) -> str:
    """Skip the test; fail it in CI and where stack/bootstrap.sh could have installed the program.

    Else a whole room would go untested there, and nobody would notice.
    """
    if os.environ.get("CI") or (os.geteuid() == 0 and shutil.which("apt-get")):
        pytest.fail(f"{sentence}; `make setup` installs it")
    pytest.skip(sentence)
