"""The logging calls under the module name they were asked for; see docs/promised-names.md."""

from transcript_service import log_context, log_performance

__all__ = ["log_context", "log_performance"]
