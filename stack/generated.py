"""Files that are made from others, by `make generate`; `make check` compares them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from stack.layout import CHECKOUT


def write_or_check(wanted: Mapping[Path, str], check: bool, there: Iterable[Path] = ()) -> int:
    """Write what is not current and remove what nothing makes any more.

    Args:
        wanted: file → what it should hold.
        check: only name them.
        there: what is in a folder that holds nothing else.

    Returns:
        The exit code: 1 where `check` found a file that is not current.
    """
    stale = {file for file, text in wanted.items() if _differs(file, text)}
    left_over = set(there) - set(wanted)
    for file in sorted(stale | left_over):
        done = "is not current: run `make generate`" if check else "brought up to date"
        print(f"{file.relative_to(CHECKOUT)} {done}", file=sys.stderr)
    if check:
        return 1 if stale or left_over else 0
    for file in stale:
        file.parent.mkdir(exist_ok=True)
        file.write_text(wanted[file])
    for file in left_over:
        file.unlink()
    return 0


def _differs(file: Path, text: str) -> bool:
    return not file.is_file() or file.read_text() != text
