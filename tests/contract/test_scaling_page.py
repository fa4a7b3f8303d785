"""docs/scaling.md: its table of machines follows from its own formulas."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from tests.contract.series import CHECKOUT

PAGE = (CHECKOUT / "docs/scaling.md").read_text()
# Requests a second, then the other cells.
ROWS = re.findall(
    r"^\| ([\d,]+) \| (.+?) \| (.+?) \| (.+?) \| ([\d,]+) \| .+ \|$", PAGE, re.MULTILINE
)
DAY_S = 86_400


def number(text: str) -> float:
    """The first in a text, in the unit of MB where it is one of bytes."""
    digits, unit = re.search(r"([\d.,]*\d) ?((?:[GT](?=B))?)", text).groups()  # type: ignore[union-attr]
    return float(digits.replace(",", "")) * {"": 1, "G": 1e3, "T": 1e6}[unit]


def formula(pattern: str) -> float:
    """A number of the table of what was measured."""
    (found,) = re.findall(pattern, PAGE)
    return number(found)


def test_the_table_has_all_its_rows() -> None:
    assert [number(rate) for rate, *_ in ROWS] == [1, 10, 100, 1_000, 10_000]


def rounded(value: float) -> Any:
    """As people round for reading."""
    return pytest.approx(value, rel=0.08)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_follows_from_the_formulas(row: tuple[str, ...]) -> None:
    rate = number(row[0])
    workers, cores, memory_gib = map(number, row[1].split(", "))
    spans, lines = map(number, row[2].split(", "))
    traces, logs = map(number, row[3].split(";")[0].split(", "))
    each = formula(r"\*w\* = \*r\* / (\d+),")
    assert workers == math.ceil(rate / each)
    assert cores == rounded(formula(r"to ([\d.]+) \*r\* cores") * rate)
    assert memory_gib == rounded(formula(r"to ([\d.]+) \*w\* GiB") * workers)
    assert spans == rounded(formula(r"\| ([\d.]+) \*r\* a second \|\n\| log lines") * rate)
    assert lines == rounded(formula(r"\| ([\d.]+) \*r\* a second \|\n\| log bytes") * rate)
    a_day = rate * DAY_S / 1e6
    assert traces == rounded(formula(r"\| ([\d.]+) kB × \*r\*") * 1e3 * a_day)
    assert logs == rounded(formula(r"\| ([\d.]+) \*r\* bytes a second") * a_day)
    series = formula(r"([\d,]+) \+ 250 \*w\*") + formula(r"\+ ([\d.]+) \*w\*, twice") * workers
    assert number(row[4]) == rounded(series)
