"""Browser contexts on loan: reused, bounded, clean, and never dead.

    from transcript_service.browser import get_browser_pool

    with get_browser_pool().lease("desktop") as context:
        page = context.new_page()

See `BrowserPool` for the ways to use it and `docs/browser-pool.md` for its rules.
"""

from .errors import OVERLOAD, BrowserError, BrowserUnavailable, LeaseLost
from .facade import BrowserPool, get_browser_pool, get_optimized_browser_context
from .launch import LaunchOptions, find_chromium
from .lease import LeasedContext, LeasedPage

__all__ = [
    "OVERLOAD",
    "BrowserError",
    "BrowserPool",
    "BrowserUnavailable",
    "LaunchOptions",
    "LeaseLost",
    "LeasedContext",
    "LeasedPage",
    "find_chromium",
    "get_browser_pool",
    "get_optimized_browser_context",
]
