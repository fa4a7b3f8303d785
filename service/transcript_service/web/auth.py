"""Who may use the dashboard API. Everything that is not clearly allowed is refused.

* `Authorization: Bearer <token>` whose scopes open the route.
* Without: a process on the same machine, where DASHBOARD_OPEN_ON_LOOPBACK says so and no token
  was ever made. Everybody behind a reverse proxy has its address, so an address alone proves
  nothing. The host name is checked because a web page can point its own at 127.0.0.1 (DNS
  rebinding), and a forwarding header means that the real caller is somewhere else.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Final

from flask import g, request

from ..problem import Problem
from ..settings import Settings
from ..telemetry import get_logger
from ..telemetry.instruments import DASHBOARD_AUTH_FAILURES, REQUESTS_REJECTED
from .host_names import LOOPBACK_NAMES, host_name, is_loopback
from .tokens import SCOPES, Refused, TokenStore, TokensUnreadable

log = get_logger(__name__)

# Headers of proxies; all that begin with X-Forwarded are meant too.
_FORWARDED: Final = frozenset(
    {
        "HTTP_FORWARDED",
        "HTTP_VIA",
        "HTTP_X_REAL_IP",
        "HTTP_X_CLIENT_IP",
        "HTTP_X_CLUSTER_CLIENT_IP",
        "HTTP_X_ENVOY_EXTERNAL_ADDRESS",
        "HTTP_X_ORIGINAL_FORWARDED_FOR",
        "HTTP_CLIENT_IP",
        "HTTP_CF_CONNECTING_IP",
        "HTTP_FASTLY_CLIENT_IP",
        "HTTP_TRUE_CLIENT_IP",
    }
)
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
    """Decides about the current request; call it with the scope that a route needs.

    Args:
        store: where the tokens are.
        throttle: tells when a peer has presented too many wrong ones.
        open_on_loopback: serve this machine without a token, until the first is made.
    """

    def __init__(
        self, store: TokenStore, throttle: PerMinute, *, open_on_loopback: bool = False
    ) -> None:
        self._store = store
        self._throttle = throttle
        self._open_on_loopback = open_on_loopback

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
            wait_s = self._throttle.record(request.remote_addr or "")
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
    header = request.headers.get("Authorization")
    if header is None:
        raise Refused("missing")
    kind, _, text = header.partition(" ")
    if kind.lower() != "bearer":
        raise Refused("malformed")
    return text.strip()


def _asked_on_this_machine() -> bool:
    return (
        is_loopback(request.remote_addr)
        and host_name() in LOOPBACK_NAMES
        and not any(
            name in _FORWARDED or name.startswith("HTTP_X_FORWARDED") for name in request.environ
        )
    )


def create_authorizer(settings: Settings) -> Authorizer:
    """The authorizer over the configured token file."""
    return Authorizer(
        TokenStore(settings.tokens_path),
        PerMinute(settings.dashboard_auth_failures_per_minute),
        open_on_loopback=settings.dashboard_open_on_loopback,
    )


def create_transcript_guard(settings: Settings) -> Callable[[], None]:
    """What every request for a transcript or a job passes first: token and limit, if set."""
    authorize = create_authorizer(settings)
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
