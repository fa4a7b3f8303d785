"""Take what the last run of the matrix measured into docs/reliability.json.

python -m tests.faults.matrix.take
"""

from __future__ import annotations

import json

from stack.layout import CHECKOUT

MEASURED = CHECKOUT / ".stack/reliability.json"
COMMITTED = CHECKOUT / "docs/reliability.json"


def main() -> None:
    """Merge it: rows that were not run keep what an earlier run measured."""
    kept = json.loads(COMMITTED.read_text())
    found = json.loads(MEASURED.read_text())
    kept["requests"] = found.pop("requests", kept["requests"])
    kept["rows"] |= found
    COMMITTED.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
