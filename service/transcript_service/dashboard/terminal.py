"""What the terminal views share: where they print, and how."""

from __future__ import annotations

import json
from typing import Any, Final

from rich.console import Console

# Wider than any line, so that nothing is cut or wrapped where a program reads.
_UNBOUNDED: Final = 100_000


def create_console() -> Console:
    """Standard output. What is printed is text: brackets in an alert are no colour."""
    out = Console(markup=False, emoji=False, highlight=False)
    if not out.is_terminal:
        out.width = _UNBOUNDED
    return out


def print_json(document: Any) -> None:
    """For programs: indented, in ASCII, so that nothing in it can steer a terminal."""
    print(json.dumps(document, indent=2, ensure_ascii=True))


def seconds(value: float | None) -> str:
    """`1.24 s`, `85 ms`, or a dash where there is no number."""
    if value is None:
        return "–"
    if abs(value) < 1:
        return f"{value * 1000:.0f} ms"
    return f"{value:.2f} s" if abs(value) < 100 else f"{value:.0f} s"
