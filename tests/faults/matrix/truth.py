"""What a generator writes down about what it makes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Truth:
    """What generators wrote down about themselves, of one service and all its lives."""

    items: dict[int, str] = field(default_factory=dict)
    """number → trace id"""
    collections: dict[int, float] = field(default_factory=dict)
    """number of an export of metrics → when"""
    taken: set[int] = field(default_factory=set)
    """The exports of metrics that were acknowledged."""
    lives: int = 0
    ends: list[dict[str, Any]] = field(default_factory=list)
    """The export queues' own accounts at each orderly end, by signal."""

    @property
    def queues(self) -> dict[str, dict[str, Any]]:
        """Those accounts added up; empty where a life ended without one (kill -9)."""
        if len(self.ends) < self.lives:
            return {}
        return {
            signal: {
                "dropped": dict(
                    sum((Counter(end[signal]["dropped"]) for end in self.ends), Counter())
                ),
                **{
                    word: sum(end[signal][word] for end in self.ends)
                    for word in ("accepted", "delivered", "waiting")
                },
            }
            for signal in self.ends[0]
        }

    @classmethod
    def read(cls, path: Path) -> Truth:
        """Read a truth file; half a line at the end is what kill -9 left of an item not made."""
        truth = cls()
        for line in path.read_text().splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            match entry:
                case {"item": number, "trace": trace}:
                    truth.items[number] = trace
                case {"collection": number, "at": at}:
                    truth.collections[number] = at
                case {"exported": number, "taken": True}:
                    truth.taken.add(number)
                case {"life": _}:
                    truth.lives += 1
                case {"ledger": queues}:
                    truth.ends.append(queues)
        return truth
