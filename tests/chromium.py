"""Chromium for tests that need a real one."""

from __future__ import annotations

import os

import pytest

from transcript_service.browser import BrowserUnavailable, find_chromium


def require_chromium(executable: str | None) -> None:
    """Skip the test where there is no Chromium; in CI that is a failure."""
    try:
        find_chromium(executable)
    except BrowserUnavailable as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
