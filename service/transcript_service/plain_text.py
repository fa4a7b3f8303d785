"""Foreign text for terminals: what would steer one is written out instead of sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

# C0, DEL and C1 except for line feed and tab. ESC begins colours, titles and clipboard writes;
# C1 has the same commands in one byte; a carriage return overwrites the line before it.
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def visible(text: str) -> str:
    """`text` with control characters as Python writes them, such as `\\x1b`."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def all_visible(value: Any) -> Any:
    """A JSON value with every text in it `visible`, keys included."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {visible(str(key)): all_visible(item) for key, item in value.items()}
    if isinstance(value, list):
        return [all_visible(item) for item in value]
    return value
