"""Ways out to YouTube: a list of proxies, one per job, watched and masked."""

from __future__ import annotations

import re
from functools import cache, partial
from typing import Final

from ..resilience.shared_redis import connect
from ..settings import Settings, SettingsError
from ..telemetry import register_secrets
from .enforce import YOUTUBE_DOMAINS, DirectConnectionRefused, refuse_direct_connections
from .pool import JobProxy, NoProxyAvailable, ProxyPool, RotationReason
from .preflight import Preflight, probe_youtube
from .proxy import Proxy, read_entries, tunnel_refusal

__all__ = [
    "YOUTUBE_DOMAINS",
    "DirectConnectionRefused",
    "JobProxy",
    "NoProxyAvailable",
    "Proxy",
    "ProxyPool",
    "RotationReason",
    "configured_proxies",
    "proxy_pool",
    "refuse_direct_connections",
    "tunnel_refusal",
]

_FIRST: Final = r"(?:[^{}:]|\{session\})*"
_SECOND: Final = r"(?:[^{}]|\{session\})*"
_TEMPLATE: Final = re.compile(
    rf"{_FIRST}\{{username\}}{_FIRST}(?::{_SECOND}\{{password\}}{_SECOND})?"
)


@cache
def proxy_pool(settings: Settings) -> ProxyPool:
    """The proxies of this process, as the settings say; the same object for the same settings.

    Reading them also registers their passwords with the redaction of telemetry.

    Raises:
        SettingsError: an entry, the template or the combination cannot work.
    """
    entries = configured_proxies(settings)
    if settings.enforce_proxy_all and not entries:
        raise SettingsError("ENFORCE_PROXY_ALL: needs proxies in PROXY_LIST or PROXY_FILE")
    template = settings.proxy_session_template
    if not _TEMPLATE.fullmatch(template) or template.count("{session}") > 1:
        raise SettingsError(
            "PROXY_SESSION_TEMPLATE: must be a user name with {username}, or that, a colon and "
            "a password with {password}; {session} may stand once in either"
        )
    register_secrets(*(entry.password for entry in entries if entry.password))
    refuse_direct_connections(settings.enforce_proxy_all)
    client = connect(settings)
    probe = partial(probe_youtube, ca_file=settings.youtube_ca_file)
    preflight = Preflight(settings, probe, client=client)
    return ProxyPool(
        entries,
        preflight=preflight if settings.proxy_preflight else None,
        session_template=template,
        enforce=settings.enforce_proxy_all,
        quarantine_s=settings.proxy_quarantine_s,
        client=client,
    )


def configured_proxies(settings: Settings) -> list[Proxy]:
    """The proxies of the operator's list and file.

    Raises:
        SettingsError: an entry cannot be used.
    """
    inline = settings.proxy_list.get_secret_value() if settings.proxy_list else None
    return read_entries(inline, settings.proxy_file)
