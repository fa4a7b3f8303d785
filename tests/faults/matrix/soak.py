"""Random faults for hours, a ledger every hour, and whether anything grows.

    python -m tests.faults.matrix.soak HOURS

What is measured goes to .stack/soak.jsonl as well, one line a minute and one an hour. Ends
with 1 where a ledger did not close or something grew.

VictoriaLogs is never killed and no disk is filled: what those cost is known (docs/reliability.md,
rows 7, 20), and here the ledger must close exactly.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress

import psutil
import requests

from stack.layout import CHECKOUT
from tests.faults.matrix.generating import Generating, generating
from tests.faults.matrix.hop import Mode
from tests.faults.matrix.ledger import Account
from tests.faults.matrix.rig import ENGINES, Rig, running_rig

RATE = 20
MEASURED = CHECKOUT / ".stack/soak.jsonl"
# Growth between the first and the last third of the run that counts as none.
_GROWTH = 1.3
_SLACK = {"rss_mb": 60.0, "files": 20.0, "threads": 10.0, "series": 1000.0}


def _killed(rig: Rig, dice: random.Random) -> str:
    name = dice.choice([name for name in ENGINES if name != "victorialogs"])
    rig.kill(name)
    time.sleep(dice.uniform(0, 5))
    rig.start(name)
    return f"{name} killed"


def _stopped(rig: Rig, dice: random.Random) -> str:
    name = dice.choice(ENGINES)
    rig.stop(name)
    time.sleep(dice.uniform(0, 10))
    rig.start(name)
    return f"{name} stopped"


def _frozen(rig: Rig, dice: random.Random) -> str:
    name = dice.choice(ENGINES)
    with rig.frozen(name):
        time.sleep(dice.uniform(2, 15))
    return f"{name} frozen"


def _cut(rig: Rig, dice: random.Random) -> str:
    name = dice.choice(sorted(rig.hops))
    modes: list[Mode] = ["refuse", "silent", "reset", "half"]
    mode = dice.choice(modes)
    rig.hops[name].mode = mode
    time.sleep(dice.uniform(2, 20))
    rig.hops[name].mode = "pass"
    return f"way to {name}: {mode}"


def _slow(rig: Rig, dice: random.Random) -> str:
    name = dice.choice(sorted(rig.hops))
    rig.hops[name].latency_s = dice.uniform(0.1, 1)
    time.sleep(dice.uniform(5, 20))
    rig.hops[name].latency_s = 0
    return f"way to {name}: slow"


FAULTS: tuple[Callable[[Rig, random.Random], str], ...] = (_killed, _stopped, _frozen, _cut, _slow)


def _sizes(rig: Rig, generator: Generating) -> dict[str, float]:
    """What could grow, of every process."""
    found = {}
    pids = {name: rig.pid(name) for name in ENGINES} | {"generator": generator.process.pid}
    for name, pid in pids.items():
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            found[f"{name} rss_mb"] = process.memory_info().rss / 2**20
            found[f"{name} files"] = float(process.num_fds())
            found[f"{name} threads"] = float(process.num_threads())
    with suppress(requests.RequestException):
        found["prometheus series"] = rig.metric("prometheus", "prometheus_tsdb_head_series")
    return found


def grown(samples: Mapping[str, list[float]]) -> list[str]:
    """What is larger in the last third of the samples than in the first, beyond noise."""
    found = []
    for name, values in samples.items():
        third = len(values) // 3
        if third < 2:
            continue
        first, last = statistics.median(values[:third]), statistics.median(values[-third:])
        if last > first * _GROWTH + _SLACK[name.split()[1]]:
            found.append(f"{name}: {first:.0f} → {last:.0f}")
    return found


def _note(**what: object) -> None:
    with MEASURED.open("a") as file:
        file.write(json.dumps({"at": round(time.time()), **what}) + "\n")


def main(hours: float) -> int:
    """Run it. Returns 0 where every ledger closed and nothing grew."""
    dice = random.Random(25)
    samples: dict[str, list[float]] = defaultdict(list)
    end = time.monotonic() + hours * 3600
    period_s = min(3600.0, hours * 1800)
    closed = True
    MEASURED.unlink(missing_ok=True)
    with running_rig("soak", shipped_rules=True) as rig:
        for number in range(1_000_000):
            if (left_s := end - time.monotonic()) < min(60.0, period_s / 2):
                break
            account = Account(rig, f"soak-{number}")
            account.collector_killed = True
            until = time.monotonic() + min(period_s, left_s)
            faults: list[str] = []
            with generating(rig, account.service) as generator:
                generator.tell("rate", RATE)
                measured = time.monotonic()
                while time.monotonic() < until:
                    time.sleep(dice.uniform(5, 25))
                    faults.append(dice.choice(FAULTS)(rig, dice))
                    if time.monotonic() - measured > 60:
                        measured = time.monotonic()
                        sizes = _sizes(rig, generator)
                        for name, value in sizes.items():
                            samples[name].append(value)
                        _note(sizes={name: round(value, 1) for name, value in sizes.items()})
            balance = account.settled(timeout_s=300)
            closed &= balance.complete
            _note(
                ledger=number,
                made=balance.made,
                lost=balance.missing,
                points=balance.points,
                duplicates=balance.duplicates,
                findings=balance.findings,
                faults=faults,
            )
            print(
                f"ledger {number}: {balance.made} made, {balance.lost} lost, {balance.duplicates} "
                f"twice, {len(faults)} faults: {'closed' if balance.complete else balance}",
                flush=True,
            )
    growth = grown(samples)
    _note(growth=growth)
    print("growth:", "; ".join(growth) or "none")
    return 0 if closed and not growth else 1


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
