"""Cookies of a YouTube login, from Netscape files as browsers' extensions export them.

They open what needs a login, and they are as good as a password: read here, sent to
YouTube's hosts only, and never logged.
"""

from __future__ import annotations

import re
from functools import cache
from http.cookiejar import Cookie, MozillaCookieJar
from pathlib import Path
from typing import Final

from requests.cookies import create_cookie

from ..browser.identity import Cookie as BrowserCookie
from ..settings import Settings, SettingsError
from ..telemetry import get_logger, register_secrets
from ..telemetry.vocabulary import Profile

log = get_logger(__name__)

_DOMAINS: Final = (".youtube.com", ".google.com")
# Shorter values are settings (`PREF`, `CONSENT`), and masking "1" everywhere helps nobody.
_SECRET_LENGTH: Final = 12
# Of a file that is something else altogether, this many lines are named.
_MOST_NAMED: Final = 20
_HTTP_ONLY: Final = "#HttpOnly_"
_SENDABLE: Final = re.compile(r"[ -:<-~]*")
_NUMBER: Final = re.compile(r"(?:-?[0-9]{1,20}(?:\.[0-9]{0,9})?)?")
_LATEST: Final = 253_402_300_799  # the end of the year 9999


def jar_for(settings: Settings, profile: Profile) -> MozillaCookieJar | None:
    """The cookies of a profile for requests, `None` where there are none.

    A line that is no cookie is skipped, and its number and what it lacks are logged.

    Raises:
        SettingsError: no line of the file is a cookie.
    """
    own = settings.cookies_file_mobile if profile == "mobile" else settings.cookies_file_desktop
    path = own or settings.cookies_file
    return _read(path) if path else None


def for_browser(settings: Settings, profile: Profile) -> list[BrowserCookie] | None:
    """The same cookies in Playwright's form."""
    jar = jar_for(settings, profile)
    if jar is None:
        return None
    return [
        {
            "name": cookie.name,
            "value": cookie.value or "",
            "domain": cookie.domain,
            "path": cookie.path,
            "expires": float(cookie.expires) if cookie.expires else -1,
            "httpOnly": cookie.has_nonstandard_attr("HTTPOnly"),
            "secure": cookie.secure,
        }
        for cookie in jar
        if not cookie.is_expired()  # Chromium refuses those, and all others with them
    ]


def save_for_yt_dlp(settings: Settings, profile: Profile, path: Path) -> bool:
    """Write the same cookies to a file; whether there are any.

    A copy, because yt-dlp writes the file that it is given and refuses one that starts with a
    byte order mark.
    """
    jar = jar_for(settings, profile)
    if jar is not None:
        jar.save(str(path), ignore_discard=True, ignore_expires=True)
    return jar is not None


@cache
def _read(path: Path) -> MozillaCookieJar:
    try:
        raw = path.read_bytes()
    except OSError:
        raise SettingsError("COOKIES_FILE: not readable") from None
    # Windows' own editors save with a byte order mark, in either encoding. Bytes of no
    # encoding end up in the one line that they spoil.
    wide = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = raw.decode("utf-16" if wide else "utf-8-sig", errors="replace")
    jar = MozillaCookieJar()
    cookies = 0
    skipped: list[str] = []
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        try:
            cookie = _cookie(line)
        except ValueError as problem:  # says nothing of the line's content
            skipped.append(f"line {number} {problem}")
            if len(skipped) <= _MOST_NAMED:
                log.warning("transcript.cookies.line_skipped", line=number, reason=str(problem))
            continue
        if cookie is None:
            continue
        cookies += 1
        if f".{cookie.domain.lstrip('.')}".endswith(_DOMAINS):
            jar.set_cookie(cookie)
            if cookie.value and len(cookie.value) >= _SECRET_LENGTH:
                register_secrets(cookie.value)
    if not cookies and not (text.startswith("# ") and not skipped):
        raise SettingsError(
            "COOKIES_FILE: holds no cookie in Netscape's format (seven fields between tabs)"
            + "".join(f"; {problem}" for problem in skipped[:3])
        )
    return jar


def _cookie(line: str) -> Cookie | None:
    """The cookie of a line, `None` for a comment or an empty line; read as browsers and yt-dlp do.

    Raises:
        ValueError: what is wrong with the line, without anything that stands in it.
    """
    # The login's own cookies stand in such lines.
    is_http_only = line.startswith(_HTTP_ONLY)
    line = line.removeprefix(_HTTP_ONLY)
    if not line.strip() or line.startswith("#"):
        return None
    fields = line.split("\t")
    if len(fields) == 6:
        fields.append("")  # an empty value, and an editor that cuts tabs off
    if len(fields) != 7:
        raise ValueError(f"has {len(fields)} fields between tabs instead of 7")
    domain, _, path, secure, expires, name, value = fields
    if not domain.strip(".") or not (name or value):
        raise ValueError("lacks a domain or a name")
    if not _SENDABLE.fullmatch("".join(fields)):
        raise ValueError("holds characters that no header can carry")
    if not _NUMBER.fullmatch(expires):
        raise ValueError("has an expiry that is no number")
    # 0 and -1 are cookies of a session, not of 1970.
    ends = min(int(float(expires or 0)), _LATEST)
    made: Cookie = create_cookie(  # type: ignore[no-untyped-call]
        name or value,
        value if name else None,
        domain=domain,
        path=path or "/",
        secure=secure.upper() == "TRUE",
        expires=ends if ends > 0 else None,
        discard=ends <= 0,
        rest={"HTTPOnly": ""} if is_http_only else {},
    )
    return made
