"""A real Chromium for tests that look at pages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from transcript_service.browser.launch import SWITCHES, find_chromium


@contextmanager
def running_chromium(*switches: str) -> Iterator[Browser]:
    """One with the pool's switches and these; it ends with the block."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(os.environ.get("BROWSER_EXECUTABLE")),
            args=["--no-sandbox", *SWITCHES, *switches],  # CI and containers run as root
        )
        yield browser
        browser.close()
