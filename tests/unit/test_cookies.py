"""Cookie files as people have them: what browsers and yt-dlp take, the stages take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from yt_dlp.cookies import YoutubeDLCookieJar  # type: ignore[import-untyped]

from tests.telemetry_memory import InMemoryTelemetry
from transcript_service.settings import Settings, SettingsError
from transcript_service.transcripts.cookies import for_browser, jar_for, save_for_yt_dlp

HEAD = "# Netscape HTTP Cookie File\n"
LATER = 4_102_444_800
GOOD = f".youtube.com\tTRUE\t/\tTRUE\t{LATER}\tSAPISID\tvalue-good-12345\n"

Write = Callable[[str | bytes], Settings]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def settings_with(content: str | bytes) -> Settings:
        path = tmp_path / "cookies.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return Settings(cookies_file=path)

    return settings_with


def sent(settings: Settings, url: str = "https://www.youtube.com/watch") -> str | None:
    """The Cookie header of an HTTP stage's request."""
    session = requests.Session()
    for cookie in jar_for(settings, "desktop") or ():
        session.cookies.set_cookie(cookie)
    return session.prepare_request(requests.Request("GET", url)).headers.get("Cookie")


@pytest.mark.parametrize(
    "content",
    [
        HEAD + GOOD,
        GOOD,
        (HEAD + GOOD).replace("\n", "\r\n"),
        (HEAD + GOOD).replace("\n", "\r"),
        "\ufeff" + HEAD + GOOD,
        (HEAD + GOOD).encode("utf-16"),
        HEAD + "\n# a remark\n \n" + GOOD.rstrip(),
        HEAD + GOOD.replace("TRUE\t41", "true\t41"),
        HEAD + GOOD.replace(str(LATER), f"{LATER}.5"),
        HEAD + GOOD.replace(str(LATER), "0"),  # a session's cookie, not one of 1970
        HEAD + GOOD.replace(str(LATER), "-1"),
        HEAD + GOOD.replace(str(LATER), ""),
        HEAD + GOOD.replace(str(LATER), "99999999999999999"),  # microseconds since 1601
        HEAD + "#HttpOnly_" + GOOD,
    ],
)
def test_a_cookie_goes_out_however_its_file_was_written(write: Write, content: str) -> None:
    settings = write(content)
    assert sent(settings) == "SAPISID=value-good-12345"
    (cookie,) = for_browser(settings, "desktop") or [{}]
    assert (cookie["name"], cookie["value"]) == ("SAPISID", "value-good-12345")
    assert cookie["expires"] == -1 or LATER <= cookie["expires"] < 10**12
    assert cookie["httpOnly"] is ("HttpOnly" in str(content))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (".youtube.com TRUE / FALSE 4102444800 PREF hidden-value-1", "has 1 fields"),
        (".youtube.com\tTRUE\t/\tTRUE\tsoon\tPREF\thidden-value-1", "has an expiry"),
        (".youtube.com\tTRUE\t/\tTRUE\tnan\tPREF\thidden-value-1", "has an expiry"),
        (f"\tTRUE\t/\tTRUE\t{LATER}\tPREF\thidden-value-1", "lacks a domain"),
        (f".youtube.com\tTRUE\t/\tTRUE\t{LATER}\t\t", "lacks a domain or a name"),
        (f".youtube.com\tTRUE\t/\tTRUE\t{LATER}\tPREF\thidden-välue-1", "holds characters"),
        (f".youtube.com\tTRUE\t/\tTRUE\t{LATER}\tPREF\thidden-value-1; x=y", "holds characters"),
        (f".youtube.com\tTRUE\t/\tTRUE\t{LATER}\tPREF\thidden-value-1\tmore", "has 8 fields"),
        (b"\xff\xfe hidden-value-1".decode("latin-1"), "has 1 fields"),
    ],
)
def test_a_line_that_is_no_cookie_is_named_without_what_stands_in_it(
    write: Write, telemetry: InMemoryTelemetry, line: str, reason: str
) -> None:
    settings = write(f"{HEAD}{line}\n{GOOD}".encode("latin-1"))
    assert sent(settings) == "SAPISID=value-good-12345"
    (skipped,) = telemetry.events("transcript.cookies.line_skipped")
    assert skipped["line"] == 2
    assert str(skipped["reason"]).startswith(reason)
    assert "hidden" not in str(skipped)


@pytest.mark.parametrize(
    "content", ["", '[{"domain": ".youtube.com", "value": "hidden"}]', "hidden\thidden\n", b"\0hid"]
)
def test_a_file_without_any_cookie_is_refused(write: Write, content: str | bytes) -> None:
    with pytest.raises(SettingsError, match="COOKIES_FILE: holds no cookie") as refusal:
        jar_for(write(content), "desktop")
    assert "hidden" not in str(refusal.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="COOKIES_FILE: not readable"):
        jar_for(Settings(cookies_file=tmp_path / "absent.txt"), "desktop")


def test_cookies_of_other_sites_and_of_the_past_go_nowhere(write: Write) -> None:
    settings = write(
        HEAD + GOOD.replace(".youtube.com", ".example.com") + GOOD.replace(str(LATER), "1000")
    )
    assert sent(settings) is None
    assert sent(settings, "https://www.example.com/") is None
    assert for_browser(settings, "desktop") == []


def test_yt_dlp_is_given_a_file_that_it_reads_as_we_do(write: Write, tmp_path: Path) -> None:
    settings = write("\ufeff" + HEAD + GOOD + "bad line\n#HttpOnly_" + GOOD.replace("SAPI", "LS"))
    copy = tmp_path / "copy.txt"
    assert save_for_yt_dlp(settings, "desktop", copy)
    theirs = YoutubeDLCookieJar(str(copy))
    theirs.load()
    ours = jar_for(settings, "desktop")
    assert ours is not None
    assert {(c.domain, c.path, c.name, c.value, c.expires, c.secure) for c in theirs} == {
        (c.domain, c.path, c.name, c.value, c.expires, c.secure) for c in ours
    }
    assert len(ours) == 2
