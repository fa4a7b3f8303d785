"""The blocks of the dashboard API: which queries each one asks, and its shape.

A block is a pure function from answers to JSON, so its numbers can be tested without an
engine. Missing is `None` throughout.
"""

from __future__ import annotations

from typing import Final

from ..answers import Block
from .browser_contexts import BROWSER_CONTEXTS
from .circuit_breaker import CIRCUIT_BREAKER
from .health import HEALTH
from .performance import PERFORMANCE
from .proxy import PROXY

# In the order in which `/metrics` shows them.
BLOCKS: Final[dict[str, Block]] = {
    block.name: block for block in (HEALTH, PERFORMANCE, CIRCUIT_BREAKER, BROWSER_CONTEXTS, PROXY)
}

__all__ = ["BLOCKS", "Block"]
