"""The blocks of the dashboard API: which queries each one asks, and its shape.

A block is a pure function from answers to JSON, so its numbers can be tested without an
engine. Missing is `None` throughout.
"""

from __future__ import annotations

from .model import Block
from .performance import PERFORMANCE

BLOCKS: dict[str, Block] = {block.name: block for block in (PERFORMANCE,)}

__all__ = ["BLOCKS", "Block"]
