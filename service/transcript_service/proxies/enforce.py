"""The last net under ENFORCE_PROXY_ALL: this process cannot even look YouTube up.

A proxied request never resolves YouTube's names itself, the proxy does. So whoever asks
for such a name here is about to connect directly: a library with a session of its own, a
forgotten parameter. Python's audit hooks (PEP 578) see every look-up of the interpreter;
they cannot be removed, therefore this one has a switch. Other processes (Chromium, a
yt-dlp child) are bound by the proxy they are started with.
"""

from __future__ import annotations

import sys
from typing import Any, Final

# What belongs to YouTube, and where its pages load from.
YOUTUBE_DOMAINS: Final = (
    "youtube.com", "youtu.be", "youtube-nocookie.com", "googlevideo.com", "ytimg.com",
    "youtubei.googleapis.com", "ggpht.com",
)  # fmt: skip
_NAMES: Final = tuple(
    f".{name}" for name in (*YOUTUBE_DOMAINS, "video.google.com", "consent.google.com")
)
_EVENTS: Final = frozenset({"socket.getaddrinfo", "socket.gethostbyname"})

_installed = False
_refusing = False


class DirectConnectionRefused(OSError):
    """Something was about to connect to YouTube without the proxy."""


def refuse_direct_connections(on: bool = True) -> None:
    """From now on, let no code of this process resolve a name of YouTube's (or let it again)."""
    global _installed, _refusing  # noqa: PLW0603 - a hook is for the whole process
    _refusing = on
    if on and not _installed:
        sys.addaudithook(_hook)
        _installed = True


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _refusing or event not in _EVENTS:
        return
    host = arguments[0]
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    name = name.rstrip(".").lower()
    if f".{name}".endswith(_NAMES):
        raise DirectConnectionRefused("a direct connection to YouTube, refused: proxies only")
