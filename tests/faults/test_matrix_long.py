"""The rows of the fault matrix that wait for minutes, on engines of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.matrix.rig import Rig
from tests.faults.matrix.rows import Row
from tests.faults.matrix.running import engines, run_row, runs

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    yield from engines("matrix-long")


@pytest.mark.parametrize(("row", "thorough"), runs(long=True))
def test_row(rig: Rig, row: Row, thorough: bool) -> None:
    run_row(rig, row, thorough)
