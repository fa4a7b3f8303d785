"""What keeps one failing source from taking the service with it."""

from .breaker_state import CircuitBreakerConfig
from .breakers import breakers
from .circuit_breaker import CallNotPermitted, CircuitBreaker, Permit
from .deadline import Deadline, DeadlineExceeded
from .single_flight import SingleFlight

__all__ = [
    "CallNotPermitted",
    "CircuitBreaker",
    "CircuitBreakerConfig",
    "Deadline",
    "DeadlineExceeded",
    "Permit",
    "SingleFlight",
    "breakers",
]
