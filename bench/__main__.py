"""Run the benchmarks: `python -m bench [NAME ...]`, a table and .stack/bench.json.

Every row is a ratio within one run against a named peer, because machines differ and are
noisy; `goal` says what the ratio or value should be, `met` whether it was. A benchmark is
a module `bench_NAME` with `run() -> list[Row]`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.rows import Row

HERE = Path(__file__).parent
RESULT = HERE.parent / ".stack" / "bench.json"
COLUMNS = ("name", "value", "unit", "peer", "peer_value", "ratio", "goal", "met")


def main(arguments: Sequence[str]) -> int:
    """Run the named benchmarks, or all.

    Returns:
        0; 1 where one could not run; 2 for a name that is none. A missed goal is a
        finding, not a failure.
    """
    known = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    if unknown := [name for name in arguments if name not in known]:
        print(f"bench: no {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    failed = False
    for name in arguments or known:
        began = time.monotonic()
        print(f"bench: {name} …", file=sys.stderr, flush=True)
        try:
            rows += import_module(f"bench.bench_{name}").run()
        except Exception as error:
            failed = True
            print(f"bench: {name} failed: {type(error).__name__}: {error}", file=sys.stderr)
        else:
            print(f"bench: {name} took {time.monotonic() - began:.0f} s", file=sys.stderr)
    _print(rows)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(rows, indent=2) + "\n")
    return 1 if failed else 0


def _print(rows: list[Row]) -> None:
    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*(_text(row.get(column)) for column in COLUMNS))
    # Wide enough not to fold where the output goes to a file.
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "–" if value is None else str(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
