"""The one way to Redis: where it is, who may ask, how long to wait, and what if it is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..settings import Settings, SettingsError
from ..telemetry import get_logger

log = get_logger(__name__)

T = TypeVar("T")

# Of every key; what follows says whose it is, such as `breaker:`.
_PREFIX: Final = "transcript-service:"
_TIMEOUT_S: Final = 0.5
_MOST_CONNECT_S: Final = 2.0
# How long Redis is not asked again after a failure.
_ALONE_S: Final = 5.0
# How long a mark is taken for the truth: that long a proxy may be used that others have left.
_TRUE_S: Final = 1.0


def connect(settings: Settings, timeout_s: float = _TIMEOUT_S) -> redis.Redis | None:
    """A client, connected at its first use; `None` where no Redis is configured.

    Each call waits `timeout_s` for an answer and as long, two seconds at most, to connect. It is
    not made twice: to go on without what others know is better than to wait.

    Raises:
        SettingsError: the file with the password cannot be read.
    """
    if settings.redis_url is None:
        return None
    file = settings.redis_password_file
    try:
        password = file.read_text().strip() if file else None
    except (OSError, UnicodeDecodeError):
        raise SettingsError("REDIS_PASSWORD_FILE: cannot be read") from None
    client: redis.Redis = redis.Redis.from_url(
        settings.redis_url.get_secret_value(),
        password=password,  # what the URL says goes first
        socket_timeout=timeout_s,
        socket_connect_timeout=min(timeout_s, _MOST_CONNECT_S),
        retry=Retry(NoBackoff(), 0),
    )
    return client


class Shared:
    """What all workers know of one kind, in Redis. Thread-safe; no failure of Redis is raised.

    While Redis is away it is asked every five seconds, the other calls do without at once. One that
    answers and refuses (it is full, a replica, or forbids the command) is not away: what it still
    does is worth having. `kind` says what is kept, and is the second part of its keys.
    """

    def __init__(
        self, client: redis.Redis | None, kind: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._kind = kind
        self._clock = clock
        self._lock = threading.Lock()
        self._away = False
        self._refusals: set[str] = set()
        self._ask_at = 0.0

    def key(self, name: str) -> str:
        """The whole key of a name."""
        return f"{_PREFIX}{self._kind}:{name}"

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


class SharedMarks:
    """Names that are marked for some seconds. Thread-safe; no method raises.

    While Redis is away this process goes on with the marks that it knows, its own included. Those
    that it makes then are its own alone.
    """

    def __init__(
        self, client: redis.Redis | None, kind: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._shared = Shared(client, kind, clock)
        self._clock = clock
        self._lock = threading.Lock()
        self._until: dict[str, float] = {}
        self._learned_at: dict[str, float] = {}

    def set(self, name: str, seconds: float) -> None:
        """Mark `name` for so long, from now."""
        with self._lock:
            self._until[name] = self._clock() + seconds
        left_ms = max(1, int(seconds * 1000))
        self._shared.ask(lambda client: client.set(self._shared.key(name), b"", px=left_ms), None)

    def left(self, names: Iterable[str]) -> dict[str, float]:
        """Those of `names` that are marked, and the seconds for which they still are.

        What others have marked is known within a second.
        """
        names = tuple(names)
        self._learn(names)
        with self._lock:
            now = self._clock()
            self._until = {name: until for name, until in self._until.items() if until > now}
            return {name: self._until[name] - now for name in names if name in self._until}

    def _learn(self, names: Iterable[str]) -> None:
        now = self._clock()
        old = [name for name in names if self._learned_at.get(name, -_TRUE_S) + _TRUE_S <= now]
        if not old:
            return

        def ask(client: redis.Redis) -> list[int]:
            pipeline = client.pipeline(transaction=False)
            for name in old:
                pipeline.pttl(self._shared.key(name))
            return list(pipeline.execute())

        answers: list[int] = self._shared.ask(ask, [])
        with self._lock:
            for name, left_ms in zip(old, answers, strict=False):
                self._learned_at[name] = now
                if left_ms > 0:
                    self._until[name] = max(self._until.get(name, 0.0), now + left_ms / 1000)
