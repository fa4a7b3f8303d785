"""Proxies as an operator writes them down, read strictly: better no start than a 407 at night.

One proxy is `[http://|https://][user:password@]host:port`, the password as the provider
shows it. Everything before the last `@` is credentials and everything after their first
`:` is the password, so `@`, `:` and `/` in a password need no escaping. What is refused
is what people get wrong: a password that was URL-encoded beforehand (Chromium and most
proxies would take `p%40ss` literally), a scheme pasted in front of another one, and what
clients would not send alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from ..settings import SettingsError
from .proxy import Proxy

_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_HOST_AND_PORT: Final = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})/?")
_ENCODED: Final = re.compile(r"%[0-9A-Fa-f]{2}")


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
