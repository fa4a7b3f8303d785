"""The transcript service. The names below are its calling conventions for other code.

They are looked up on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .alerts import AlertLogger as AlertLogger
    from .browser import get_optimized_browser_context as get_optimized_browser_context
    from .telemetry import PerformanceLogger as PerformanceLogger
    from .telemetry import emit_performance_metric as emit_performance_metric
    from .telemetry import log_context as log_context
    from .telemetry import log_performance as log_performance

__version__ = "0.1.0"

_HOMES = {
    "AlertLogger": "alerts",
    "PerformanceLogger": "telemetry",
    "emit_performance_metric": "telemetry",
    "get_optimized_browser_context": "browser",
    "log_context": "telemetry",
    "log_performance": "telemetry",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{home}", __name__), name)
