"""What the page says when there is nothing, not all, or no answer: the real page and API.

The engines behind the API are one small server that answers as each state needs it.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from werkzeug.serving import BaseWSGIServer, make_server

from tests import dashboard_fakes as fakes
from tests.browser.pages import picture, serious_violations, settled
from tests.dashboard_fakes import FakeEngine, service
from tests.live import wait_for
from transcript_service.tokens import TokenStore


@dataclass
class Place:
    """A served dashboard.

    Attributes:
        engine: all engines behind it.
        tokens: its token file.
    """

    url: str
    engine: FakeEngine
    tokens: TokenStore
    server: BaseWSGIServer
    serving: threading.Thread

    def close(self) -> None:
        """Stop answering; connections are refused from then on."""
        self.server.shutdown()
        # The listening socket is closed by the thread that serves, after `shutdown` returned.
        self.serving.join()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    engine = FakeEngine()
    app = service(
        tmp_path,
        engine.url,
        dashboard_cache_ttl_s=0.001,
        dashboard_stale_s=0,
        # The engine answers at once, but the machine may be busy.
        dashboard_query_timeout_s=15,
        dashboard_deadline_s=30,
    )
    server = make_server("127.0.0.1", 0, app, threaded=True)
    serving = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    serving.start()
    url = f"http://127.0.0.1:{server.server_port}/dashboard"
    running = Place(url, engine, TokenStore(tmp_path / "tokens.json"), server, serving)
    yield running
    running.close()
    engine.close()


def refreshed(page: Page) -> None:
    """Ask again by the page's own button."""
    page.locator("#pause").click()
    page.locator("#pause").click()
    settled(page)


def shown(page: Page, name: str) -> None:
    """Every state is readable for everybody, and worth a picture."""
    assert serious_violations(page) == []
    picture(page, f"state-{name}")


def recovers(page: Page, place: Place) -> None:
    """Once the engine answers the page shows it; the API remembers a failure for 3 seconds."""
    place.engine.behave = fakes.valued("4.5")

    def whole() -> bool:
        refreshed(page)
        return page.locator("#banners .banner").count() == 0

    # Each look draws the whole page anew.
    wait_for("an answer without a gap", whole, every_s=2)
    expect(page.locator("#tiles .value").nth(2)).to_have_text("4.50 s")


def failing(word: str, status: int) -> fakes.Behaviour:
    """Values for every query but those that contain `word`."""
    good, bad = fakes.valued("4.5"), fakes.fixed(status, b"{}")

    def behave(handler: fakes.Handler, parameters: dict[str, str]) -> None:
        (bad if word in parameters.get("query", "") else good)(handler, parameters)

    return behave


ROW = '<tr><td><span role="img" tabindex="0" aria-label="Line">dark</span></td></tr>'


def found_in(page: Page, content: str) -> list[str]:
    """What is found in a page of this content."""
    page.set_content(f"<html lang=en><title>-</title><main><h1>-</h1>{content}</main>")
    return serious_violations(page)


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ("color-contrast", "<td>", '<td style="color: #bbb">'),
        ("tabindex", 'tabindex="0"', 'tabindex="5"'),
        ("aria-roles", 'role="img"', 'role="imag"'),
        ("role-img-alt", 'aria-label="Line"', 'aria-label=""'),
    ],
)
def test_a_row_unlike_the_others_is_looked_at_however_far_down(
    page: Page, rule: str, good: str, bad: str
) -> None:
    assert found_in(page, f"<table>{ROW * 10}</table>") == []
    assert good in ROW
    (violation,) = found_in(page, f"<table>{ROW * 9}{ROW.replace(good, bad)}</table>")
    assert violation.startswith(f"{rule}:")
    assert page.locator("tr[data-alike]").count() == 7


@pytest.mark.parametrize(
    "before",
    [
        f"<details><summary>-</summary><table>{ROW * 4}</table></details><table>",
        f"<table>{ROW * 4}</table><table>",
        f"<table><tbody hidden>{ROW * 4}</tbody>",
    ],
    ids=["closed", "another", "hidden"],
)
def test_like_rows_of_another_table_or_out_of_sight_do_not_count(page: Page, before: str) -> None:
    """They may stand on another background, and what is hidden has no contrast."""
    pale = f'<tbody style="color: #bbb">{ROW * 4}</tbody></table>'
    violations = found_in(page, before + pale)
    assert [violation.partition(":")[0] for violation in violations] == ["color-contrast"] * 2


def test_a_page_that_waits_shows_where_its_numbers_will_be_and_stands_still(
    page: Page, place: Place
) -> None:
    """Anything that moves there takes half a core for as long as the store is slow."""
    page.route("**/api/dashboard/**", lambda _: None)  # never answered
    page.goto(place.url)
    expect(page.locator("#verdict")).to_have_text("loading")
    expect(page.locator("#stages .body")).to_have_css("min-height", "60px")
    expect(page.locator("#stages .body")).to_be_visible()
    assert page.evaluate("document.getAnimations().length") == 0
    picture(page, "state-waiting")


def test_nothing_measured_is_said_in_every_card_and_is_no_zero(page: Page, place: Place) -> None:
    page.goto(place.url)
    settled(page)
    for card in ("stages", "rate", "latency", "breakers", "browsers", "proxies"):
        expect(page.locator(f"#{card} .note")).to_have_text(re.compile("[Nn]othing|[Nn]o "))
    tiles = page.locator("#tiles .value").all_inner_texts()
    assert tiles[:4] == ["–"] * 4
    assert page.locator("#banners .banner").count() == 0
    shown(page, "no-data")


@pytest.mark.parametrize(
    ("errors", "red", "grey"),
    [
        (["video_private", "ip_blocked"], ["ip_blocked 4"], []),
        (["video_private", "invalid_video_id"], [], ["video_private 4", "invalid_video_id 4"]),
    ],
)
def test_of_a_stages_reasons_only_failures_are_red_and_answers_stand_where_nothing_failed(
    page: Page, place: Place, errors: list[str], red: list[str], grey: list[str]
) -> None:
    def behave(handler: fakes.Handler, parameters: dict[str, str]) -> None:
        if "stage_duration" not in parameters.get("query", "") or "range" in parameters["path"]:
            return fakes.empty(handler, parameters)
        result = [
            {"metric": {"stage": "asr", "outcome": "-", "error_type": error}, "value": [1, "4"]}
            for error in errors
        ]
        return handler.answer(fakes.success({"resultType": "vector", "result": result}))

    place.engine.behave = behave
    page.goto(place.url)
    settled(page)
    why = page.locator("#stages td.why").first
    assert why.locator(".chip.bad").all_inner_texts() == red
    assert why.locator(".chip:not(.bad)").all_inner_texts() == grey
    assert (why.get_by_text("+1 more").count() == 1) is bool(red)


def test_a_refresh_leaves_the_keyboard_where_it_was(page: Page, place: Place) -> None:
    place.engine.behave = fakes.valued("4.5")
    page.goto(place.url)
    settled(page)
    link = page.locator("#stages a").first
    link.focus()
    link.evaluate("link => { link.dataset.before = 'yes'; }")
    page.evaluate("[1, 2].forEach(() => document.querySelector('#pause').click())")
    expect(page.locator("[data-before]")).to_have_count(0)
    expect(link).to_be_focused()


def test_what_could_not_be_had_is_named_and_the_rest_is_there(page: Page, place: Place) -> None:
    place.engine.behave = failing("circuit_breaker", 500)
    page.goto(place.url)
    settled(page)
    expect(page.locator("#banners .banner.warn")).to_contain_text("Partial")
    expect(page.locator("#banners .banner.warn")).to_contain_text("circuit breaker")
    expect(page.locator("#breakers .note.fail")).to_have_text(
        "The metrics store cannot be reached."
    )
    expect(page.locator("#tiles .value").nth(2)).to_have_text("4.50 s")
    shown(page, "partial")
    recovers(page, place)


def test_a_token_without_the_scope_is_told_so(page: Page, place: Place) -> None:
    _, text = place.tokens.create("page", ["proxy:read"], timedelta(hours=1))
    page.expected_complaints = ("status of 401", "status of 403")  # type: ignore[attr-defined]
    page.goto(place.url)
    page.get_by_label("Token", exact=True).fill(text)
    page.get_by_label("Token", exact=True).press("Enter")
    expect(page.locator("#verdict")).to_have_text("refused")
    expect(page.locator("#banners .banner.fail")).to_contain_text(
        "The token does not hold the scope metrics:read."
    )
    expect(page.locator("#stages .note")).to_have_text("No numbers yet.")
    expect(page.get_by_text("Forget token")).to_be_visible()
    shown(page, "refused")


@pytest.mark.parametrize(
    ("status", "answer", "text"),
    [(500, 502, "cannot be reached"), (503, 503, "overloaded"), (400, 500, "defective|rejected")],
)
def test_no_answer_of_the_store_is_said_with_the_trace_id_and_passes(
    page: Page, place: Place, status: int, answer: int, text: str
) -> None:
    page.expected_complaints = (f"status of {answer}",)  # type: ignore[attr-defined]
    place.engine.behave = fakes.fixed(status, b"{}")
    page.goto(place.url)
    settled(page)
    banner = page.locator("#banners .banner.fail")
    expect(banner).to_contain_text(re.compile(text))
    expect(banner).to_contain_text("Trying again every 30 s.")
    expect(page.locator("#verdict")).to_have_text("unreachable")
    shown(page, f"error-{answer}")
    recovers(page, place)


def test_numbers_stay_with_their_time_when_the_service_goes(page: Page, place: Place) -> None:
    page.expected_complaints = ("ERR_CONNECTION_REFUSED",)  # type: ignore[attr-defined]
    place.engine.behave = fakes.valued("4.5")
    page.goto(place.url)
    settled(page)
    place.close()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", place.server.server_port)) != 0
    refreshed(page)
    banner = page.locator("#banners .banner.fail")
    expect(banner).to_contain_text("The service does not answer. The numbers below are from")
    expect(page.locator("#tiles .value").nth(2)).to_have_text("4.50 s")
    shown(page, "gone")


@pytest.mark.parametrize("name", ["traces", "logs"])
def test_a_store_that_does_not_answer_is_said_on_its_page_and_passes(
    page: Page, place: Place, name: str
) -> None:
    page.expected_complaints = ("status of 502",)  # type: ignore[attr-defined]
    place.engine.behave = fakes.fixed(500, b"{}")
    page.goto(f"{place.url}/{name}")
    settled(page)
    expect(page.locator("#banners .banner.fail")).to_contain_text("cannot be reached")
    expect(page.locator("#verdict")).to_have_text("no answer")
    shown(page, f"{name}-error")
    place.engine.behave = fakes.empty
    if name == "traces":
        page.get_by_role("button", name="Search").click()
    expect(page.locator("#banners .banner")).to_have_count(0)
    expect(page.locator(".card .note").first).to_contain_text(re.compile("^No "))


def over_time(handler: fakes.Handler, parameters: dict[str, str]) -> None:
    """Values of 0.37 in every window, however long ago, and 3.1 of rates."""
    if parameters["path"] != "/api/v1/query_range":
        fakes.valued("4.5")(handler, parameters)
        return
    start, end, step = (float(parameters[name]) for name in ("start", "end", "step"))
    value = "0.37" if "quantile" in parameters["query"] else "3.1"
    values = [[start + step * at, value] for at in range(int((end - start) / step) + 1)]
    labelled: list[dict[str, str]] = [{}, {"stage": "timedtext"}]
    result: list[Any] = [
        {"metric": {"outcome": "success", "quantile": word, **labels}, "values": values}
        for labels in labelled
        for word in ("p50", "p95")
    ]
    handler.answer(fakes.success({"resultType": "matrix", "result": result}))


def test_a_chart_says_values_with_their_units_and_draws_a_day_before_as_a_faint_line(
    page: Page, place: Place
) -> None:
    place.engine.behave = over_time
    faint = page.locator("#latency .scatterlayer .trace[style*='0.45']")
    page.goto(place.url)
    settled(page)
    expect(faint).to_have_count(0)
    for chart, said in (("rate", "3.1 requests/s"), ("latency", "370 ms")):
        page.locator(f"#{chart} .plot").scroll_into_view_if_needed()
        page.locator(f"#{chart} .nsewdrag").first.hover()
        expect(page.locator(f"#{chart} .hoverlayer")).to_contain_text(said)
        assert "a day before" not in page.locator(f"#{chart}").inner_text()
    page.locator("select[name=compare]").select_option("24")
    settled(page)
    for chart, line in (("rate", "all, a day before"), ("latency", "timedtext, a day before")):
        page.locator(f"#{chart} .nsewdrag").first.hover()
        expect(page.locator(f"#{chart} .hoverlayer")).to_contain_text(line)
    expect(faint.first).to_be_attached()
    assert "compare=24" in page.url
    shown(page, "compared")
