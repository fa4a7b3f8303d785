"""The measuring calls under the module name they were asked for; see docs/promised-names.md."""

from transcript_service import emit_performance_metric, get_optimized_browser_context

__all__ = ["emit_performance_metric", "get_optimized_browser_context"]
