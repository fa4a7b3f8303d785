"""yt-dlp with its https connections led to another address, like `curl --connect-to`.

yt-dlp has no such option. This is a program of its own, run in yt-dlp's process with
yt-dlp's arguments, and imports nothing of the service.
"""

from __future__ import annotations

import os
import runpy
import socket
from typing import Any

_HTTPS = 443


def main() -> None:
    """Run yt-dlp; `YT_DLP_CONNECT_TO` is the `host:port` that all its https connections get."""
    host, _, port = os.environ["YT_DLP_CONNECT_TO"].rpartition(":")
    look_up = socket.getaddrinfo

    def elsewhere(name: Any, service: Any, *more: Any, **options: Any) -> Any:
        # Certificates are still checked against the name that was asked for.
        if str(service) == str(_HTTPS):
            name, service = host, int(port)
        return look_up(name, service, *more, **options)

    socket.getaddrinfo = elsewhere  # type: ignore[assignment] # narrower than this hands on
    runpy.run_module("yt_dlp", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
