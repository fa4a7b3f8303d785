"""The blocks of the dashboard API: which queries each one asks, and its shape.

A block is a pure function from answers to JSON, so its numbers can be tested without an
engine. Missing is `None` throughout.
"""

from __future__ import annotations

from typing import Final

from .. import queries, shapes
from ..answers import Block
from ..log_search import describe, explain
from . import browser_contexts, circuit_breaker, health, performance, proxy

# In the order in which `/metrics` shows them.
_BLOCKS: Final = (
    Block(
        "health",
        "metrics:read",
        "Is it healthy, and what does that rest on",
        shapes.Health,
        queries.HEALTH,
        health.build,
    ),
    Block(
        "performance",
        "metrics:read",
        "Requests, stages, P50 and P95, errors, slow and failed requests",
        shapes.Performance,
        queries.PERFORMANCE,
        performance.build,
        ("request_details", describe),
    ),
    Block(
        "circuit_breaker",
        "metrics:read",
        "State, calls, transitions and recovery of every breaker",
        shapes.CircuitBreaker,
        queries.CIRCUIT_BREAKER,
        circuit_breaker.build,
        ("openings", explain),
    ),
    Block(
        "browser_contexts",
        "metrics:read",
        "The browser pool: contexts, memory, waiting",
        shapes.BrowserContexts,
        queries.BROWSER_CONTEXTS,
        browser_contexts.build,
    ),
    Block(
        "proxy",
        "proxy:read",
        "The proxy pool by masked id",
        shapes.Proxy,
        queries.PROXY,
        proxy.build,
    ),
)
BLOCKS: Final[dict[str, Block]] = {block.name: block for block in _BLOCKS}
