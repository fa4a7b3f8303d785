"""Traces, metrics and logs: what the rest of the service may use.

Everything else in this package is free to change.
"""

from __future__ import annotations

from . import environment as environment
from . import instruments as instruments
from . import vocabulary as vocabulary
from .context import current_fields as current_fields
from .context import current_trace_id as current_trace_id
from .context import log_context as log_context
from .context import record_error as record_error
from .context import set_attributes as set_attributes
from .context import span as span
from .http_server import instrument_app as instrument_app
from .http_server import refused as refused
from .logs import configure_logging as configure_logging
from .logs import get_logger as get_logger
from .performance import PerformanceLogger as PerformanceLogger
from .performance import emit_performance_metric as emit_performance_metric
from .performance import log_performance as log_performance
from .providers import Telemetry as Telemetry
from .providers import service_identity as service_identity
from .providers import start as start
from .redaction import MASK as MASK
from .redaction import register_secrets as register_secrets
