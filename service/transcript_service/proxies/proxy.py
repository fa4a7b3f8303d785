"""One way out: the same proxy, user and password for requests, Playwright and yt-dlp.

YouTube ties tokens and cookies to an address, so a job that fetches the page through one
exit and the captions through another looks like a bot. Each client wants the credentials
in another form; they are made here and nowhere else.

An operator writes one as `[http://|https://][user:password@]host:port`, the password as the
provider shows it. Everything before the last `@` is credentials and everything after their
first `:` is the password, so `@`, `:` and `/` in a password need no escaping. That is read
strictly, better no start than a 407 at night: refused is what people get wrong, a password that
was URL-encoded beforehand (Chromium and most proxies would take `p%40ss` literally) or a scheme
pasted in front of another one, and what clients would not send alike.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from ..settings import SettingsError

_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_HOST_AND_PORT: Final = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})/?")
_ENCODED: Final = re.compile(r"%[0-9A-Fa-f]{2}")


def tunnel_refusal(error: Exception) -> int | None:
    """The status with which a proxy refused to connect, where an error tells one.

    http.client has no exception of its own for that; it writes "Tunnel connection failed: 407
    Proxy Authentication Required".
    """
    found = re.search(r"Tunnel connection failed: (\d{3})", str(error))
    return int(found[1]) if found else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Proxy:
    """A proxy. Prints as its masked id, never as an address or a secret.

    Credentials are raw, never percent-encoded: Chromium sends them as they are, and an
    encoded password is answered with 407.

    Raises:
        ValueError: credentials inside the server's address.
    """

    server: str = field(repr=False)
    """`http://host:port`, without credentials."""
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    id: str = "proxy"
    """What logs, metrics and spans call it: `p-17` is the 17th of the operator's list."""
    listed: Proxy | None = field(default=None, repr=False, compare=False)
    """The entry of the list that this is a session of."""

    def __post_init__(self) -> None:
        if "@" in urlsplit(self.server).netloc:
            # The text is not repeated: it holds the password.
            raise ValueError("proxy server must not carry credentials; use username and password")

    @classmethod
    def of(cls, value: Proxy | Mapping[str, Any]) -> Proxy:
        """From what a caller passes: one of these, or a mapping in Playwright's form."""
        if isinstance(value, Proxy):
            return value
        return cls(value["server"], value.get("username"), value.get("password"))

    @property
    def shared_name(self) -> str:
        """The same wherever the list is the same, in every session; tells no address.

        It changes with the credentials. Of these it holds too little to try passwords on.
        """
        entry = self.listed or self
        account = "\0".join((entry.server, entry.username or "", entry.password or ""))
        return f"{self.id}:{_digest(entry.server)[:12]}{_digest(account)[:4]}"

    def in_session(self, template: str, session: str) -> Proxy:
        """This proxy in one sticky session.

        Providers read the session from the user name or the password; `template` says how
        it is written, such as `{username}-sessid-{session}` or
        `{username}:{password}_session-{session}`.
        """
        if self.username is None:
            return self
        user, _, password = template.partition(":")
        values = {"username": self.username, "password": self.password or "", "session": session}
        return replace(
            self,
            listed=self.listed or self,
            username=user.format_map(values),
            password=password.format_map(values) if password else self.password,
        )

    def as_url(self) -> str:
        """For yt-dlp and others that take a URL, where credentials are percent-encoded."""
        if self.username is None:
            return self.server
        scheme, _, address = self.server.partition("://")
        user, password = quote(self.username, safe=""), quote(self.password or "", safe="")
        return f"{scheme}://{user}:{password}@{address}"

    def as_requests(self) -> dict[str, str]:
        """For requests' `proxies`; set `trust_env = False` too, or the environment's win."""
        return {"http": self.as_url(), "https": self.as_url()}

    def as_playwright(self) -> dict[str, str]:
        """For Playwright's `proxy`. Raw: Chromium sends an encoded password as it stands."""
        given = {"server": self.server, "username": self.username, "password": self.password}
        return {key: value for key, value in given.items() if value is not None}

    def __str__(self) -> str:
        return self.id


def read_entries(inline: str | None, file: Path | None) -> list[Proxy]:
    """The proxies of `PROXY_LIST` (separated by white space) and `PROXY_FILE` (one a line).

    Empty lines of the file and those that start with `#` are skipped.

    Raises:
        SettingsError: names the entry or line and what is wrong, never its text.
    """
    entries: list[Proxy] = []
    places: dict[Proxy, str] = {}
    for place, text in _texts(inline, file):
        try:
            entry = parse_entry(text, len(entries) + 1)
        except ValueError as error:
            raise SettingsError(f"{place}: {error}") from None
        # Sessions may be written into the password: then only all of it tells two apart.
        first = places.setdefault(replace(entry, id=""), place)
        if first != place:
            raise SettingsError(f"{place}: the same proxy as {first}")
        entries.append(entry)
    return entries


def _texts(inline: str | None, file: Path | None) -> Iterator[tuple[str, str]]:
    for number, text in enumerate((inline or "").split(), 1):
        yield f"PROXY_LIST entry {number}", text
    if file is None:
        return
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"PROXY_FILE: cannot be read ({type(error).__name__})") from None
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield f"PROXY_FILE line {number}", line.strip()


def parse_entry(text: str, number: int) -> Proxy:
    """One proxy from its text.

    Raises:
        ValueError: what is wrong with it, without quoting it.
    """
    scheme = "http"
    if match := _SCHEME.match(text):
        scheme = match.group(1).lower()
        text = text[match.end() :]
    if scheme not in ("http", "https"):
        raise ValueError(
            "only http and https proxies can be used (Chromium takes no SOCKS passwords)"
        )
    credentials, at, address = text.rpartition("@")
    if _SCHEME.match(credentials) or "://" in address:
        raise ValueError("it has a scheme twice; write http://user:password@host:port")
    found = _HOST_AND_PORT.fullmatch(address)
    if not found:
        raise ValueError("it does not end in host:port")
    if not 1 <= int(found.group(2)) <= 65535:
        raise ValueError("the port must be between 1 and 65535")
    server = f"{scheme}://{found.group(1).lower()}:{found.group(2)}"
    if not at:
        return Proxy(server, id=f"p-{number}")
    username, colon, password = credentials.partition(":")
    if not username or not colon:
        raise ValueError("credentials must be user:password (a password may be empty)")
    for name, value in (("user name", username), ("password", password)):
        if not (value.isascii() and value.isprintable()):
            # Basic authentication leaves their encoding open (RFC 7617, section 2.1):
            # requests sends Latin-1 and fails beyond it, Chromium sends UTF-8.
            raise ValueError(
                f"the {name} has characters beyond ASCII, which clients send differently"
            )
        if _ENCODED.search(value):
            raise ValueError(
                f"the {name} looks URL-encoded (a % and two hex digits); write it as it is"
            )
    return Proxy(server, username, password, id=f"p-{number}")
