"""One way out: the same proxy, user and password for requests, Playwright and yt-dlp.

YouTube ties tokens and cookies to an address, so a job that fetches the page through one
exit and the captions through another looks like a bot. Each client wants the credentials
in another form; they are made here and nowhere else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, urlsplit


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
