"""The one way to Redis: where it is, who may ask, how long to wait, and what if it is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..settings import Settings, SettingsError
from ..telemetry import get_logger

log = get_logger(__name__)

T = TypeVar("T")

PREFIX: Final = "transcript-service:"
"""Of every key; what follows says whose it is, such as `breaker:`."""
_TIMEOUT_S: Final = 0.5
# How long Redis is not asked again after a failure.
_ALONE_S: Final = 5.0


def connection_options(settings: Settings) -> dict[str, Any]:
    """What a client of Redis is made with, besides the URL.

    Raises:
        SettingsError: the file with the password cannot be read.
    """
    file = settings.redis_password_file
    try:
        password = file.read_text().strip() if file else None
    except (OSError, UnicodeDecodeError):
        raise SettingsError("REDIS_PASSWORD_FILE: cannot be read") from None
    # What the URL says goes first.
    return {"password": password} if password else {}


def connect(settings: Settings, timeout_s: float = _TIMEOUT_S) -> redis.Redis | None:
    """A client, connected at its first use; `None` where no Redis is configured.

    Each call waits `timeout_s` to connect and for an answer, and is not made twice: to go on
    without what others know is better than to wait.
    """
    if settings.redis_url is None:
        return None
    client: redis.Redis = redis.Redis.from_url(
        settings.redis_url.get_secret_value(),
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        **connection_options(settings),
    )
    return client


class Shared:
    """What all workers know of one kind, in Redis. Thread-safe; no failure of Redis is raised.

    While Redis is away it is asked every five seconds, the other calls do without at once. One that
    answers and refuses (it is full, a replica, or forbids the command) is not away: what it still
    does is worth having.

    Args:
        client: of `connect`; `None` without Redis.
        kind: what is kept, the second part of its keys.
        clock: monotonic seconds.
    """

    def __init__(
        self, client: redis.Redis | None, kind: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._kind = kind
        self._clock = clock
        self._lock = threading.Lock()
        self._away = client is None
        self._refusals: set[str] = set()
        self._ask_at = float("inf") if client is None else 0.0

    def key(self, name: str) -> str:
        """The whole key of a name."""
        return f"{PREFIX}{self._kind}:{name}"

    def ask(self, work: Callable[[redis.Redis], T], otherwise: T) -> T:
        """What `work` makes of Redis; `otherwise` while it is away."""
        if self._client is None or not self._may_ask():
            return otherwise
        try:
            result = work(self._client)
        except redis.ResponseError as error:
            self._say_refused(type(error).__name__)
            return otherwise
        except redis.RedisError as error:
            with self._lock:
                self._refusals.clear()
                first, self._away = not self._away, True
                self._ask_at = self._clock() + _ALONE_S
            if first:
                log.warning("shared_state.lost", kind=self._kind, error_type=type(error).__name__)
            return otherwise
        if self._away:
            with self._lock:
                back, self._away = self._away, False
            if back:
                log.info("shared_state.restored", kind=self._kind)
        return result

    def _say_refused(self, error_type: str) -> None:
        """Once for each kind of refusal, until Redis was away."""
        with self._lock:
            if error_type in self._refusals:
                return
            self._refusals.add(error_type)
        log.warning("shared_state.refused", kind=self._kind, error_type=error_type)

    def _may_ask(self) -> bool:
        """While Redis is away, one caller in five seconds: it may hang, and each would wait."""
        with self._lock:
            now = self._clock()
            if self._away and now < self._ask_at:
                return False
            if self._away:
                self._ask_at = now + _ALONE_S
            return True
