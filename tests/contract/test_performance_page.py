"""docs/performance.md gives a reason where a goal is missed or a second run differs, only there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.reasons import REASONS, change, needs_reason
from tests.contract.series import CHECKOUT

ROWS: dict[str, Any] = json.loads((CHECKOUT / "docs/performance.json").read_text())["rows"]


def test_every_row_that_needs_a_reason_has_one_and_no_other() -> None:
    assert {name for name, row in ROWS.items() if needs_reason(row)} == set(REASONS)


@pytest.mark.parametrize(
    ("row", "changed", "needed"),
    [
        # The value of a row with a peer depends on the machine's speed; its ratio does not.
        ({"value": 9, "ratio": 1.1, "value_before": 3, "ratio_before": 1.0}, 0.1, False),
        ({"value": 9, "ratio": 1.3, "value_before": 9, "ratio_before": 1.0}, 0.3, True),
        ({"value": 8, "ratio": None, "value_before": 10, "ratio_before": None}, -0.2, True),
        ({"value": 8, "ratio": None}, None, False),
        ({"value": 8, "ratio": 1.0, "met": False}, None, True),
    ],
)
def test_a_row_needs_a_reason_where_it_misses_its_goal_or_differs(
    row: dict[str, Any], changed: float | None, needed: bool
) -> None:
    row = {"met": None, **row}
    assert change(row) == (None if changed is None else pytest.approx(changed))
    assert needs_reason(row) is needed
