"""Writes the dashboards: `python -m grafana.generate`; with `--check` only says what is stale."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from grafana.boards import BOARDS
from grafana.render import render
from stack.generated import write_or_check

FOLDER = Path(__file__).parent / "dashboards"


def generated() -> dict[Path, str]:
    """What every file of the folder should hold."""
    return {
        FOLDER / board.file: json.dumps(render(board), indent=2, sort_keys=True, ensure_ascii=False)
        + "\n"
        for board in BOARDS
    }


def main(check: bool) -> int:
    """See `write_or_check`."""
    return write_or_check(generated(), check, FOLDER.glob("*.json"))


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
