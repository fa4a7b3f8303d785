"""Browser contexts on loan: reused, bounded, clean, and never dead; see docs/browser-pool.md."""

from .errors import OVERLOAD, BrowserUnavailable, LeaseLost
from .facade import BrowserPool, get_browser_pool, get_optimized_browser_context
from .launch import find_chromium
from .lease import LeasedContext, LeasedPage

__all__ = [
    "OVERLOAD",
    "BrowserPool",
    "BrowserUnavailable",
    "LeaseLost",
    "LeasedContext",
    "LeasedPage",
    "find_chromium",
    "get_browser_pool",
    "get_optimized_browser_context",
]
