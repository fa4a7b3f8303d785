"""Every row of the fault matrix that can be run here, on one set of real engines.

`make test` has those whose fault no other of its tests makes.

Each run notes what it measured in .stack/reliability.json; `make reliability` runs all rows and
takes that into docs/reliability.md.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stack.layout import CHECKOUT
from tests.faults.matrix.acts import ACTS
from tests.faults.matrix.rig import Rig
from tests.faults.matrix.rows import ROWS, Row
from tests.faults.matrix.running import engines, run_row, runs

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    yield from engines("matrix")


@pytest.mark.parametrize(("row", "thorough"), runs(long=False))
def test_row(rig: Rig, row: Row, thorough: bool) -> None:
    run_row(rig, row, thorough)


def test_every_row_is_run_or_says_why_not() -> None:
    assert [int(row.number.rstrip("b")) for row in ROWS] == sorted(
        int(row.number.rstrip("b")) for row in ROWS
    )
    assert {row.number.rstrip("b") for row in ROWS} == {str(n) for n in range(1, 26)}
    run = {row.number for row in ROWS if row.run in ("quick", "both", "thorough")}
    assert run == ACTS.keys()
    for row in ROWS:
        assert bool(row.shown_by) == (row.number not in run), row
        assert row.edge or not row.allows, row
        if row.run == "elsewhere" and row.shown_by.endswith(".py"):
            assert (CHECKOUT / row.shown_by).is_file()
