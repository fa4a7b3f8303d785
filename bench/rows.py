"""What every benchmark reports: one line of `.stack/bench.json`."""

from __future__ import annotations

from typing import TypedDict


class Row(TypedDict):
    """A value beside a named peer's; `ratio` is `value / peer_value`."""

    name: str
    value: float
    unit: str
    peer: str
    peer_value: float | None
    ratio: float | None
    goal: str
    met: bool | None


def row(
    area: str,
    name: str,
    value: float,
    unit: str,
    peer: str = "",
    peer_value: float | None = None,
    most_ratio: float | None = None,
    *,
    goal: str = "",
    met: bool | None = None,
) -> Row:
    """A row.

    Args:
        area: the benchmark it belongs to.
        name: what was measured.
        value: our own result.
        unit: of both values, UCUM where it has a word for it.
        peer: who else did the same.
        peer_value: the peer's result.
        most_ratio: the goal, where it is a ratio.
        goal: the goal in words, where it is another.
        met: whether that one was met.
    """
    ratio = value / peer_value if peer_value else None
    if most_ratio is not None:
        goal = f"ratio <= {most_ratio}"
        met = ratio <= most_ratio if ratio is not None else None
    return Row(
        name=f"{area}: {name}",
        value=round(value, 4),
        unit=unit,
        peer=peer,
        peer_value=None if peer_value is None else round(peer_value, 4),
        ratio=None if ratio is None else round(ratio, 4),
        goal=goal,
        met=met,
    )
