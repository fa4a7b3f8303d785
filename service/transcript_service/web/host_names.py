"""Under which names the service answers.

A web page can let its own host name lead to 127.0.0.1 (DNS rebinding). To the browser of whoever
sits at the machine it is then of the service's own origin and may read everything that is open
there. Its requests still carry its name, so a name that is not ours gets no answer.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from functools import lru_cache
from typing import Final

from flask import Flask, request

from ..problem import Problem
from ..settings import Settings

LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")
_PORT: Final = re.compile(r":\d*$")
_MISDIRECTED: Final = "This service does not answer under that name; SERVICE_HOSTS lists its names."
# Asked by probes and by Alertmanager under a name of the inside, whatever the public one is. They
# tell nothing private, and the webhook does nothing without its own token.
_UNDER_ANY_NAME: Final = ("health.live", "health.ready", "alerts.webhook")


def register(app: Flask, settings: Settings) -> None:
    """Answer requests under other names with 421 (RFC 9110, 15.5.20)."""
    names = _names(settings)
    if not names:
        return

    @app.before_request
    def _is_meant() -> None:
        if request.endpoint not in _UNDER_ANY_NAME and host_name() not in names:
            raise Problem(421, "misdirected_request", _MISDIRECTED)


def host_name() -> str:
    """The name in the request's `Host`, without its port."""
    return _PORT.sub("", request.host).lower()


@lru_cache(maxsize=256)
def is_loopback(address: str | None) -> bool:
    """Whether a peer address is this machine; a Unix socket has none and counts as foreign."""
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


def _names(settings: Settings) -> Collection[str]:
    """The names to answer under; none means all."""
    if settings.service_hosts:
        return frozenset(name.lower() for name in settings.service_hosts)
    # Only who is on this machine gets there, or a proxy on it.
    address = settings.service_bind.rpartition(":")[0].strip("[]")
    return LOOPBACK_NAMES if address == "localhost" or is_loopback(address) else ()
