"""Cookies of a YouTube login, from Netscape files as browsers' extensions export them.

They open what needs a login, and they are as good as a password: read here, sent to
YouTube's hosts only, and never logged.
"""

from __future__ import annotations

from functools import cache
from http.cookiejar import CookieJar, LoadError, MozillaCookieJar
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..settings import Settings, SettingsError
from ..telemetry import register_secrets
from ..telemetry.vocabulary import Profile

if TYPE_CHECKING:
    from ..browser.identity import Cookie

_DOMAINS: Final = (".youtube.com", ".google.com")
# Shorter values are settings (`PREF`, `CONSENT`), and masking "1" everywhere helps nobody.
_SECRET_LENGTH: Final = 12


def jar_for(settings: Settings, profile: Profile) -> CookieJar | None:
    """The cookies of a profile for requests and yt-dlp, `None` where there are none.

    Raises:
        SettingsError: the file cannot be read as a Netscape cookie file.
    """
    path = file_for(settings, profile)
    return _read(path) if path else None


def file_for(settings: Settings, profile: Profile) -> Path | None:
    """The cookie file of a profile: its own, or the one for all."""
    own = settings.cookies_file_mobile if profile == "mobile" else settings.cookies_file_desktop
    return own or settings.cookies_file


def for_browser(settings: Settings, profile: Profile) -> list[Cookie] | None:
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
    ]


@cache
def _read(path: Path) -> CookieJar:
    everything = MozillaCookieJar(path)
    try:
        # Understands `#HttpOnly_` lines, which hold exactly the cookies of the login.
        everything.load(ignore_discard=True, ignore_expires=True)
    except (LoadError, OSError, UnicodeDecodeError):
        # The cause would quote a line of the file.
        raise SettingsError(
            "COOKIES_FILE: not readable as a Netscape cookie file (its first line is "
            "'# Netscape HTTP Cookie File')"
        ) from None
    jar = CookieJar()
    for cookie in everything:
        if f".{cookie.domain.lstrip('.')}".endswith(_DOMAINS):
            jar.set_cookie(cookie)
            if cookie.value and len(cookie.value) >= _SECRET_LENGTH:
                register_secrets(cookie.value)
    return jar
