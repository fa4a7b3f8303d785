"""The one way to Redis: where it is, who may ask, how long to wait."""

from __future__ import annotations

from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..settings import Settings, SettingsError

PREFIX: Final = "transcript-service:"
"""Of every key; what follows says whose it is, such as `breaker:` or `proxy:`."""
_TIMEOUT_S: Final = 0.5


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
