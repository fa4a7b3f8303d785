"""Who may use the dashboard API. Everything that is not clearly allowed is refused.

* `Authorization: Bearer <token>` whose scopes open the route.
* Without: a process on the same machine, where DASHBOARD_OPEN_ON_LOOPBACK says so and no token
  was ever made. Everybody behind a reverse proxy has its address, so an address alone proves
  nothing. A forwarding header means that the real caller is somewhere else.

And under which names the service answers at all. A web page can let its own host name lead to
127.0.0.1 (DNS rebinding). To the browser of whoever sits at the machine it is then of the service's
own origin and may read everything that is open there. Its requests still carry its name, so a name
that is not ours gets no answer.
"""

from __future__ import annotations

import ipaddress
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Final

from flask import Flask, g, request

from ..problem import Problem
from ..settings import Settings
from ..telemetry import get_logger
from ..telemetry.instruments import DASHBOARD_AUTH_FAILURES, REQUESTS_REJECTED
from ..tokens import SCOPES, Refused, TokenStore, TokensUnreadable

log = get_logger(__name__)

LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")
_PORT: Final = re.compile(r":\d*$")
_MISDIRECTED: Final = "This service does not answer under that name; SERVICE_HOSTS lists its names."
# Asked by probes and by Alertmanager under a name of the inside, whatever the public one is. They
# tell nothing private, and the webhook does nothing without its own token.
_UNDER_ANY_NAME: Final = ("health.live", "health.ready", "alerts.webhook")
# Headers that proxies write, such as X-Forwarded-For, X-Real-IP, CF-Connecting-IP.
_FORWARDED: Final = re.compile("HTTP_(VIA|.*FORWARDED.*|.*_IP|.*_EXTERNAL_ADDRESS)")
# A request without a token is a page that has not asked for it yet.
_NO_GUESS: Final = ("missing", "not_loopback", "scope")
_NO_TOKENS: Final = (
    "There is no token yet; an operator creates one with 'transcript-service token create' (with"
    " this service's STATE_DIR, or in the checkout that 'make up' was run in)."
)
_MINUTE_S: Final = 60.0
_PEERS: Final = 4096


class PerMinute:
    """Counts what clients do in fixed minutes. Bounded: the oldest client is forgotten first."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._peers: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def record(self, peer: str) -> int | None:
        """Count one; the seconds to wait once there are too many, else `None`."""
        now = self._clock()
        with self._lock:
            started, count = self._peers.pop(peer, (now, 0))
            if now - started >= _MINUTE_S:
                started, count = now, 0
            self._peers[peer] = (started, count + 1)
            while len(self._peers) > _PEERS:
                self._peers.popitem(last=False)
        return int(started + _MINUTE_S - now) + 1 if count >= self._limit else None


class Authorizer:
    """Decides about the current request; call it with the scope that a route needs."""

    def __init__(self, settings: Settings) -> None:
        self._store = TokenStore(settings.tokens_path)
        self._failures = PerMinute(settings.dashboard_auth_failures_per_minute)
        self._open_on_loopback = settings.dashboard_open_on_loopback

    def __call__(self, scope: str) -> Collection[str]:
        """All scopes of the caller.

        Raises:
            Problem: 401, 403, 429, or 503 when the token file is damaged.
        """
        try:
            return self._allowed(scope)
        except TokensUnreadable as error:
            log.exception("dashboard.auth.refused", reason="tokens_unreadable")
            detail = "The service cannot read its tokens."
            raise Problem(503, "tokens_unreadable", detail, retry_after_s=30) from error
        except Refused as refused:
            raise self._refusal(refused.reason, scope) from refused

    def _allowed(self, scope: str) -> Collection[str]:
        if self._open_on_loopback and not self._store.in_use() and _asked_on_this_machine():
            return SCOPES
        if not self._store.tokens():
            raise Refused("not_loopback")
        token = self._store.check(_presented())
        if scope not in token.scopes:
            raise Refused("scope")
        g.client = token.id
        return token.scopes

    def _refusal(self, reason: str, scope: str) -> Problem:
        wait_s = None
        if reason not in _NO_GUESS:
            wait_s = self._failures.record(request.remote_addr or "")
        told = "throttled" if wait_s is not None else reason
        DASHBOARD_AUTH_FAILURES.add(1, reason=told)
        log.warning("dashboard.auth.refused", reason=told)
        if told == "throttled":
            detail = "Too many wrong tokens from this address."
            return Problem(429, "too_many_failures", detail, retry_after_s=wait_s)
        if told == "scope":
            return Problem(403, "scope_missing", f"The token does not hold the scope {scope}.")
        if told == "not_loopback":
            return Problem(403, "tokens_not_configured", _NO_TOKENS)
        challenge = 'Bearer realm="dashboard"'
        # One answer for unknown, expired and revoked: a guesser learns nothing.
        code, detail = "token_invalid", "The token is not valid."
        if told == "missing":
            code, detail = "token_missing", "This needs 'Authorization: Bearer <token>'."
        else:
            challenge += ', error="invalid_token"'
        return Problem(401, code, detail, headers={"WWW-Authenticate": challenge})


def _presented() -> str:
    given = request.authorization
    if given is None:
        raise Refused("missing")
    return (given.token if given.type == "bearer" else None) or ""  # is malformed


def _asked_on_this_machine() -> bool:
    return (
        is_loopback(request.remote_addr)
        and host_name() in LOOPBACK_NAMES
        and not any(map(_FORWARDED.fullmatch, request.environ))
    )


def create_transcript_guard(settings: Settings) -> Callable[[], None]:
    """What every request for a transcript or a job passes first: token and limit, if set."""
    authorize = Authorizer(settings)
    requests = PerMinute(settings.transcripts_per_minute)

    def guard() -> None:
        """Raises `Problem`: see `Authorizer`, or 429 when the client asks too often."""
        if settings.transcripts_require_token:
            authorize("transcripts:read")
        if not settings.transcripts_per_minute:
            return
        wait_s = requests.record(g.get("client") or request.remote_addr or "")
        if wait_s is not None:
            REQUESTS_REJECTED.add(1, reason="rate")
            raise Problem(
                429,
                "too_many_requests",
                f"A client may ask {settings.transcripts_per_minute} times a minute.",
                retry_after_s=wait_s,
            )

    return guard


def answer_to_own_names(app: Flask, settings: Settings) -> None:
    """Answer requests under other names with 421 (RFC 9110, 15.5.20)."""
    names: Collection[str] = [name.lower() for name in settings.service_hosts]
    address = settings.service_bind.rpartition(":")[0].strip("[]")
    if not names and (address == "localhost" or is_loopback(address)):
        # Only who is on this machine gets there, or a proxy on it.
        names = LOOPBACK_NAMES
    if not names:
        return

    @app.before_request
    def _is_meant() -> None:
        if request.endpoint not in _UNDER_ANY_NAME and host_name() not in names:
            raise Problem(421, "misdirected_request", _MISDIRECTED)


def host_name() -> str:
    """The name in the request's `Host`, without its port."""
    return _PORT.sub("", request.host).lower()


def is_loopback(address: str | None) -> bool:
    """Whether a peer address is this machine; a Unix socket has none and counts as foreign."""
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback
