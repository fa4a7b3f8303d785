"""Shows what the launcher is doing: live lines on a terminal, else a plain line now and then."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

_PLAIN_EVERY_S = 10.0


@dataclass
class _Line:
    doing: str
    since: float = field(default_factory=time.monotonic)
    shown: float = field(default_factory=time.monotonic)


class Progress:
    """One line per program that is being worked on; finished ones become permanent lines."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._console = Console(highlight=False, soft_wrap=True)
        self._live: Live | None = None
        if self._console.is_terminal:
            self._live = Live(
                console=self._console, get_renderable=self._render, refresh_per_second=5
            )

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lines.clear()
        if self._live:
            self._live.stop()

    def doing(self, name: str, what: str) -> None:
        """Says what is going on for `name`; the seconds count from its first call."""
        now = time.monotonic()
        line = self._lines.get(name)
        if line is None:
            self._lines[name] = _Line(what)
            if not self._live:
                self._print(name, what)
            return
        line.doing = what
        if not self._live and now - line.shown >= _PLAIN_EVERY_S:
            line.shown = now
            self._print(name, f"{what} ({now - line.since:.0f} s)")

    def done(self, name: str, what: str) -> None:
        """Ends the line of `name` with what came out, and how long it took."""
        line = self._lines.pop(name, None)
        took = f" ({time.monotonic() - line.since:.1f} s)" if line else ""
        self._print(name, what + took)

    def say(self, what: str) -> None:
        """A permanent line of its own."""
        self._console.print(Text(what))

    def _print(self, name: str, what: str) -> None:
        self._console.print(Text(f"{name:<19}{what}"))
        sys.stdout.flush()

    def _render(self) -> Text:
        now = time.monotonic()
        width = self._console.width
        lines = [
            f"{name:<19}{now - line.since:>4.0f} s  {line.doing}"[: width - 1]
            for name, line in self._lines.items()
        ]
        return Text("\n".join(lines), no_wrap=True)
