"""One way out: the same proxy, user and password for requests, Playwright and yt-dlp.

YouTube ties tokens and cookies to an address, so a job that fetches the page through one
exit and the captions through another looks like a bot. Each client wants the credentials
in another form; they are made here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import quote

from .entries import ProxyEntry


@dataclass(frozen=True)
class ProxyIdentity:
    """Where a job goes out. Prints as its masked id."""

    id: str
    """The masked id, such as `p-17`: all that logs, metrics and spans may hold."""
    server: str = field(repr=False)
    username: str | None = field(default=None, repr=False)
    """As the proxy expects it, session part included; never percent-encoded."""
    password: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, entry: ProxyEntry, template: str, session: str) -> ProxyIdentity:
        """The identity of `entry` in one sticky session.

        Providers read the session from the user name; `template` says how it is written,
        such as `{username}-sessid-{session}`.
        """
        username = entry.username
        if username is not None:
            username = template.replace("{username}", username).replace("{session}", session)
        return cls(entry.id, entry.server, username, entry.password)

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
