"""The breakers of this process: one per stage, as the settings say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from functools import cache
from typing import Annotated, Final, TypeVar

from pydantic import Field, TypeAdapter

from ..settings import Settings, SettingsError
from ..telemetry import get_logger
from ..telemetry.vocabulary import STAGES, Stage
from .breaker_state import CircuitBreakerConfig
from .breaker_store import LocalStore, RedisStore
from .circuit_breaker import CircuitBreaker, ForcedState
from .shared_redis import connect

log = get_logger(__name__)

T = TypeVar("T")
_FORCED: Final = TypeAdapter[ForcedState](ForcedState)
_SECONDS: Final = TypeAdapter[float](Annotated[float, Field(gt=0, allow_inf_nan=False)])


@cache
def breakers(settings: Settings) -> dict[Stage, CircuitBreaker]:
    """One breaker per stage that is switched on; the same objects for the same settings.

    One that is never called would always be closed, and then "all are open" never true.

    Call it after fork. State is shared through `redis_url` where that is set; otherwise
    every worker has its own, and that is logged once.

    Raises:
        SettingsError: a stage or a state that does not exist.
    """
    slow_call_s = _by_stage(
        "CIRCUIT_BREAKER_SLOW_CALL_S", settings.circuit_breaker_slow_call_s, _SECONDS
    )
    forced = _by_stage("CIRCUIT_BREAKER_FORCED", settings.circuit_breaker_forced, _FORCED)
    client = connect(settings)
    store = LocalStore() if client is None else RedisStore(client)
    log.info("circuit_breaker.store_chosen", shared=client is not None)
    return {
        stage: CircuitBreaker(
            stage,
            _config(settings, slow_call_s.get(stage, CircuitBreakerConfig.slow_call_s)),
            store=store,
            forced=forced.get(stage),
        )
        for stage in STAGES
        if getattr(settings, f"enable_{stage}")
    }


def _config(settings: Settings, slow_call_s: float) -> CircuitBreakerConfig:
    names = [each.name for each in fields(CircuitBreakerConfig)]
    values = {name: getattr(settings, f"circuit_breaker_{name}") for name in names}
    try:
        return CircuitBreakerConfig(**{**values, "slow_call_s": slow_call_s})
    except ValueError as error:
        raise SettingsError(f"CIRCUIT_BREAKER_*: {error}") from None


def _by_stage(variable: str, pairs: Iterable[str], kind: TypeAdapter[T]) -> dict[Stage, T]:
    """The `stage=value` pairs of a variable."""
    found: dict[Stage, T] = {}
    for pair in pairs:
        stage, _, value = (part.strip() for part in pair.partition("="))
        if stage not in STAGES:
            raise SettingsError(f"{variable}: {stage!r} is no stage ({', '.join(STAGES)})")
        try:
            found[stage] = kind.validate_python(value)
        except ValueError:
            raise SettingsError(f"{variable}: {value!r} cannot be used for {stage}") from None
    return found
