"""What the tests of the built-in pages share: patience, pictures, accessibility."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Page, expect

from tests.live import LiveStack, wait_for

PATIENT_MS = 90_000  # a busy machine builds, tests and draws at the same time
expect.set_options(timeout=PATIENT_MS)


def picture(page: Page, name: str) -> None:
    """A screenshot of the whole page, where `SCREENSHOTS_DIR` asks for pictures."""
    if folder := os.environ.get("SCREENSHOTS_DIR"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


# Marks each visible row that has two like it above it in its own table: the same elements with the
# same attributes. Of attributes that hold data only whether they are empty counts.
MARK_ALIKE = """() => {
  const data = ["aria-label", "datetime", "href", "title"];
  const told = ({ name, value }) => [name, data.includes(name) ? !value.trim() : value];
  const tables = [...document.querySelectorAll("table")];
  const rows = [...document.querySelectorAll("tbody tr")];
  const seen = {};
  rows.forEach((row) => row.removeAttribute("data-alike"));
  for (const row of rows.filter((row) => row.checkVisibility())) {
    const parts = [row, ...row.querySelectorAll("*")].map((part) => [
      part.tagName, !part.textContent.trim(), [...part.attributes].map(told),
    ]);
    const shape = JSON.stringify([tables.indexOf(row.closest("table")), parts]);
    seen[shape] = (seen[shape] ?? 0) + 1;
    row.toggleAttribute("data-alike", seen[shape] > 2);
  }
}"""


def serious_violations(page: Page) -> list[str]:
    """What axe-core objects to, seriously or critically.

    A long table has many rows that differ in their data only. Of such rows it looks at the first
    two that are visible, in each table. All of two hundred log lines would take five seconds of
    CPU.
    """
    page.evaluate(MARK_ALIKE)
    found = Axe().run(page, {"exclude": [["tr[data-alike]"]]}).response["violations"]
    return [
        f"{violation['id']}: {node['target']} {node.get('failureSummary', '')}"
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


def opened(page: Page, stack: LiveStack, path: str = "/dashboard?hours=0.25") -> Page:
    """A page of the service, once it shows something."""
    page.goto(stack.layout.url("service", path))
    settled(page)
    return page


def settled(page: Page) -> None:
    """Wait until the page has its answers."""
    expect(page.locator("main")).to_have_attribute("aria-busy", "false")


def refresh_until(page: Page, seen: Callable[[], bool], what: str, timeout_s: float = 150) -> None:
    """Refresh the page by its own button until something is to be seen."""

    def look() -> bool:
        page.locator("#pause").click()
        page.locator("#pause").click()
        settled(page)
        return seen()

    wait_for(what, look, timeout_s=timeout_s, every_s=2)


def fits(page: Page) -> None:
    """Nobody is kept out, and nothing is wider than the screen."""
    assert serious_violations(page) == []
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) <= 0


def bottom(page: Page, selector: str) -> float:
    """Where the first such element ends, in pixels from the top of the screen."""
    # In one go: between two questions a refresh may draw it anew.
    where = "(of) => document.querySelector(of)?.getBoundingClientRect().bottom"
    return float(wait_for(f"{selector} on the page", lambda: page.evaluate(where, selector)))


def drag(page: Page, selector: str, start: float, end: float) -> None:
    """Drag over a chart, from one share of its width to another."""
    area = page.locator(f"{selector} .nsewdrag")
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * start, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * end, middle, steps=8)
    page.mouse.up()


def click_point(page: Page, selector: str) -> None:
    """Click the last point of a chart's last trace until it leads elsewhere.

    Plotly takes a click only on what it shows as pointed at, and a refresh draws the chart anew.
    """
    address = page.url
    point = page.locator(f"{selector} .scatterlayer .trace").last.locator(".point").last

    def led_elsewhere() -> bool:
        point.scroll_into_view_if_needed()
        box = point.bounding_box()
        if box is not None:
            x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
            page.mouse.move(x, y)
            page.wait_for_timeout(200)
            page.mouse.click(x, y)
            page.wait_for_timeout(500)
        return page.url != address

    wait_for("a click on a point", led_elsewhere, 90)
