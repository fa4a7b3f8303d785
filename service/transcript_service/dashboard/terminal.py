"""What the terminal views share: where they print, and how numbers are written."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console
from rich.text import Text

# Wider than any line, so that nothing is cut or wrapped where a program reads.
_UNBOUNDED: Final = 100_000
_LEVEL_COLOUR: Final = {"error": "red", "warning": "yellow"}


def create_console() -> Console:
    """Standard output. What is printed is text: brackets in an alert are no colour."""
    out = Console(markup=False, emoji=False, highlight=False)
    if not out.is_terminal:
        out.width = _UNBOUNDED
    return out


def print_json(document: Any) -> None:
    """For programs: indented, in ASCII, so that nothing in it can steer a terminal."""
    print(json.dumps(document, indent=2, ensure_ascii=True))


def log_line(line: Mapping[str, Any], when: str) -> Text:
    """A line of the log, after when it was written."""
    text = Text(f"{when} ", "bright_black")
    text.append(f"{line['level']:<7} ", _LEVEL_COLOUR.get(line["level"], ""))
    text.append(line["text"])
    for name, value in line["attributes"].items():
        text.append(f" {name}=", "bright_black")
        text.append(str(value))
    return text


def seconds(value: float | None) -> str:
    """`1.24 s`, `85 ms`, or a dash where there is no number."""
    if value is None:
        return "–"
    if abs(value) < 1:
        return f"{value * 1000:.0f} ms"
    return f"{value:.2f} s" if abs(value) < 100 else f"{value:.0f} s"


def percent(value: float | None) -> str:
    """`98.2 %`, never rounded up to 100 %, or a dash."""
    return "–" if value is None else f"{math.floor(value * 1000) / 10:g} %"


def count(value: float | None) -> str:
    """A whole number, or a dash."""
    return "–" if value is None else f"{value:,.0f}"


def tally(counts: dict[str, Any] | None) -> str:
    """`blocked 4, timeout 2`, most frequent first, or a dash."""
    shown = [f"{word} {value:,.0f}" for word, value in (counts or {}).items() if value >= 0.5]
    return ", ".join(shown) or "–"
