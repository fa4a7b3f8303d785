"""yt-dlp behind a fence: YouTube's hosts over https only, and bounds on memory and files.

yt-dlp goes where a player answer or a redirect sends it, and its own size limit believes
`Content-Length`. This is a program of its own, run in yt-dlp's process with yt-dlp's
arguments, and imports nothing of the service. What is allowed stands in `YT_DLP_FENCE`, as
JSON: `domains` and `hosts`; `proxy` (`host:port`), which then looks names up itself;
`connect_to` (`host:port`), where all https connections go instead, like `curl
--connect-to`; `file_bytes` and `memory_bytes`.
"""

from __future__ import annotations

import http.client
import json
import os
import resource
import runpy
import socket
import sys
from typing import Any

_HTTPS = 443
_NO_BRACKETS = str.maketrans("", "", "[]")  # of an IPv6 address


class Fence:
    """Which connections may be opened."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._domains = tuple(f".{domain}" for domain in told["domains"])
        self._hosts = frozenset(told["hosts"])
        self._proxy = told.get("proxy")
        self._connect_to = told.get("connect_to")
        self._known: set[tuple[Any, ...]] = set()
        self._look_up = socket.getaddrinfo

    def check(self, host: object, port: object) -> None:
        """Refuse what is none of YouTube's.

        Raises:
            OSError: it is not.
        """
        name = host.decode() if isinstance(host, bytes) else str(host)
        ours = name in self._hosts or f".{name}".endswith(self._domains)
        if not ours or str(port) != str(_HTTPS):
            raise OSError("an answer leads away from YouTube")

    def getaddrinfo(self, name: Any, service: Any, *more: Any, **options: Any) -> Any:
        """The addresses of a host that may be asked."""
        if self._proxy:
            if f"{name}:{service}" != self._proxy.translate(_NO_BRACKETS):
                raise OSError("only the proxy may be asked")
        else:
            self.check(name, service)
            if self._connect_to:
                # Certificates are still checked against the name that was asked for.
                host, _, port = self._connect_to.rpartition(":")
                name, service = host, int(port)
        found = self._look_up(name, service, *more, **options)
        self._known.update(tuple(entry[4][:2]) for entry in found)
        return found

    def audit(self, event: str, given: tuple[Any, ...]) -> None:
        """Refuse a connection to an address that was not looked up here."""
        if event == "socket.connect" and tuple(given[1][:2]) not in self._known:
            raise OSError("an address that nobody may ask")

    def set_up(self) -> None:
        """Stand between this process and the network, for good."""
        socket.getaddrinfo = self.getaddrinfo  # type: ignore[assignment]
        sys.addaudithook(self.audit)
        tunnel, put = http.client.HTTPConnection.set_tunnel, http.client.HTTPConnection.putrequest

        def set_tunnel(
            here: Any, host: str, port: int | None = None, *more: Any, **options: Any
        ) -> None:
            self.check(host, port or _HTTPS)
            tunnel(here, host, port, *more, **options)

        def putrequest(here: Any, method: str, url: str, *more: Any, **options: Any) -> None:
            if "://" in url:  # asked of a proxy without a tunnel: plain http
                raise OSError("plain http")
            put(here, method, url, *more, **options)

        http.client.HTTPConnection.set_tunnel = set_tunnel  # type: ignore[assignment]
        http.client.HTTPConnection.putrequest = putrequest  # type: ignore[assignment]


def main() -> None:
    """Run yt-dlp within the fence."""
    told = json.loads(os.environ.pop("YT_DLP_FENCE"))
    for limit, most in (
        (resource.RLIMIT_FSIZE, told["file_bytes"]),
        (resource.RLIMIT_DATA, told["memory_bytes"]),
    ):
        resource.setrlimit(limit, (most, most))
    Fence(told).set_up()
    runpy.run_module("yt_dlp", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
