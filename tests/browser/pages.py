"""What the tests of the built-in pages share: patience, pictures, accessibility."""

from __future__ import annotations

import os
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Page, expect

PATIENT_MS = 90_000  # a busy machine builds, tests and draws at the same time
expect.set_options(timeout=PATIENT_MS)


def picture(page: Page, name: str) -> None:
    """A screenshot of the whole page, where `SCREENSHOTS_DIR` asks for pictures."""
    if folder := os.environ.get("SCREENSHOTS_DIR"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def serious_violations(page: Page) -> list[str]:
    """What axe-core objects to, seriously or critically."""
    found = Axe().run(page).response["violations"]
    return [
        f"{violation['id']}: {node['target']} {node.get('failureSummary', '')}"
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
