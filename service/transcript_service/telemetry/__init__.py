"""Traces, metrics and logs: what the rest of the service may use.

Everything else in this package is free to change.
"""

from __future__ import annotations

from . import instruments, vocabulary
from .context import current_fields, current_trace_id, log_context
from .environment import apply_defaults
from .http_server import instrument_app, refused
from .logs import configure_logging, get_logger
from .performance import (
    AlertLogger,
    Measurement,
    PerformanceLogger,
    emit_performance_metric,
    log_performance,
)
from .providers import Telemetry, service_identity, start
from .redaction import MASK, redact_text, redact_value, register_secrets
from .spans import record_error, set_attributes, span

__all__ = [
    "MASK",
    "AlertLogger",
    "Measurement",
    "PerformanceLogger",
    "Telemetry",
    "apply_defaults",
    "configure_logging",
    "current_fields",
    "current_trace_id",
    "emit_performance_metric",
    "get_logger",
    "instrument_app",
    "instruments",
    "log_context",
    "log_performance",
    "record_error",
    "redact_text",
    "redact_value",
    "refused",
    "register_secrets",
    "service_identity",
    "set_attributes",
    "span",
    "start",
    "vocabulary",
]
