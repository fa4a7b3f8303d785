"""Writes the dashboards: `python -m grafana.generate`; with `--check` only says what is stale."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from grafana.boards import BOARDS
from grafana.render import render

FOLDER = Path(__file__).parent / "dashboards"


def generated() -> dict[Path, str]:
    """What every file of the folder should hold."""
    return {
        FOLDER / board.file: json.dumps(render(board), indent=2, sort_keys=True, ensure_ascii=False)
        + "\n"
        for board in BOARDS
    }


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 when `--check` found a file that is missing, stale or left over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args(arguments).check
    wanted = generated()
    stale = [file for file, text in wanted.items() if not file.exists() or file.read_text() != text]
    left_over = sorted(set(FOLDER.glob("*.json")) - set(wanted))
    if check:
        for file in (*stale, *left_over):
            print(f"{file.relative_to(FOLDER.parent.parent)} is stale: run `make generate`")
        return 1 if stale or left_over else 0
    FOLDER.mkdir(exist_ok=True)
    for file in stale:
        file.write_text(wanted[file])
    for file in left_over:
        file.unlink()
    print(f"{len(wanted)} dashboards, {len(stale)} rewritten, {len(left_over)} removed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
