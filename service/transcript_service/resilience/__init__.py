"""What keeps one failing source from taking the service with it."""

from .breaker_state import CircuitBreakerConfig
from .breakers import breakers
from .circuit_breaker import CallNotPermitted, CircuitBreaker, Permit
from .deadline import Deadline, DeadlineExceeded
from .retries import parse_retry_after
from .single_flight import Flown, SingleFlight

__all__ = [
    "CallNotPermitted",
    "CircuitBreaker",
    "CircuitBreakerConfig",
    "Deadline",
    "DeadlineExceeded",
    "Flown",
    "Permit",
    "SingleFlight",
    "breakers",
    "parse_retry_after",
]
