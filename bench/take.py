"""Take what the last `make bench` measured into docs/performance.json: `python -m bench.take`.

A benchmark that was not run keeps what an earlier run measured, and where. One that was run again
on the same machine, with the same versions, keeps the earlier ratio of each row beside the new
one, and where there is no peer the earlier value: does it repeat? bench/reasons.py says why where
it does not.
"""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

import psutil

from bench.__main__ import RESULT

COMMITTED = Path(__file__).parent.parent / "docs/performance.json"
_PEERS = (
    "flask",
    "gunicorn",
    "opentelemetry-sdk",
    "opentelemetry-instrumentation-flask",
    "orjson",
    "playwright",
    "requests",
    "structlog",
    "youtube-transcript-api",
)


def main() -> None:
    """Merge it."""
    here = {"machine": _machine(), "versions": {name: version(name) for name in _PEERS}}
    kept = json.loads(COMMITTED.read_text()) if COMMITTED.exists() else {"taken": {}, "rows": {}}
    taken, rows = kept["taken"], kept["rows"]
    measured = json.loads(RESULT.read_text())
    for benchmark in {benchmark_of(row["name"]) for row in measured}:
        if taken.get(benchmark) != here:
            taken[benchmark] = here
            rows = {name: row for name, row in rows.items() if benchmark_of(name) != benchmark}
    for row in measured:
        before = rows.get(row["name"])
        kept_back = (
            {f"{what}_before": before[what] for what in ("value", "ratio")} if before else {}
        )
        rows[row["name"]] = row | kept_back
    document = {"taken": dict(sorted(taken.items())), "rows": dict(sorted(rows.items()))}
    COMMITTED.write_text(json.dumps(document, indent=1) + "\n")


def benchmark_of(row: str) -> str:
    """Rows are named `benchmark: what`."""
    return row.partition(":")[0]


def _machine() -> str:
    info = Path("/proc/cpuinfo").read_text()
    models = [line.partition(":")[2].strip() for line in info.splitlines() if "model name" in line]
    memory_gb = psutil.virtual_memory().total / 1e9
    return (
        f"{os.cpu_count()} × {models[0] if models else platform.machine()}, "
        f"{memory_gb:.0f} GB, Linux {platform.release().partition('-')[0]}, "
        f"Python {platform.python_version()}"
    )


if __name__ == "__main__":
    main()
