"""The fault matrix as data: what happens, what is promised, where the promise ends.

docs/reliability.md is made of it (docs/generate.py) and of the last measured results
(docs/reliability.json).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Run = Literal["quick", "thorough", "both", "elsewhere", "not here"]


@dataclass(frozen=True)
class Row:
    """One fault and what follows from it."""

    number: str
    fault: str
    promise: str
    edge: str = ""
    """What may be lost, and how it is noticed; without one nothing may be lost uncounted."""
    allows: tuple[str, ...] = ()
    """Words of the ledger's findings that the edge explains; any other finding is a failure."""
    run: Run = "quick"
    """In `make test`, in `make test-all` only, in both (longer in the latter); by a test of
    its own (`shown_by`); or not on this machine (`shown_by` says why)."""
    shown_by: str = ""


ROWS = (
    Row(
        "1",
        "The Collector is down when the service starts, until the export queues overflow.",
        "No request waits. What the queues cannot hold is dropped, the oldest first, and "
        "counted (`queue_full`); everything else arrives, counters are right.",
    ),
    Row(
        "2",
        "The Collector takes connections and never answers.",
        "No request waits; nothing is lost.",
        run="thorough",
    ),
    Row(
        "3",
        "kill -9 of the Collector with full queues.",
        "Everything it acknowledged is delivered after its restart; duplicates are allowed.",
        run="thorough",
    ),
    Row(
        "4",
        "kill -9 of the Collector at random instants under load.",
        "It starts again each time; nothing is lost, duplicates are allowed.",
        run="thorough",
    ),
    Row(
        "4b",
        "The file of one of the Collector's queues is torn.",
        "Only that file's records are lost.",
        edge="They are, and the Collector counts nothing of it: `TelemetryLostOnTheWay` compares "
        "what was handed over with what is stored. Where bbolt notices while opening the file, it "
        "is kept aside (`*.backup`) and a new one begun; where it notices later, the Collector "
        "ends at each start (`recreate` does not catch it): `TargetDown` fires, its runbook says "
        "which file to move, and the service keeps and counts its records meanwhile.",
        allows=("Collector", "were counted as lost"),
        run="thorough",
    ),
    Row(
        "5",
        "The disk of the Collector's queues is full.",
        "It refuses; the service keeps its records while its queues have room, counts what they "
        "drop. What comes after space returns is stored.",
        edge="What the Collector had accepted and tries to send while it cannot write is lost, and "
        "said in its debug log only: its queue skips an item that it cannot mark as taken. "
        "`CollectorEnqueueFailed` tells that the disk is full, `TelemetryLostOnTheWay` later that "
        "something is missing. The disk needs room for three queues of 512 MiB.",
        allows=("into the Collector and not out", "were counted as lost", "acknowledged exports"),
        run="thorough",
    ),
    Row(
        "6",
        "kill -9 of Prometheus under load.",
        "No point that was acknowledged is lost; the Collector keeps what comes meanwhile.",
        run="thorough",
    ),
    Row(
        "7",
        "Prometheus' disk is full.",
        "`PrometheusStoresNothing` fires within two minutes. Counters are right with the first "
        "push after space returns.",
        edge="Prometheus 3.16 answers 200 to a push that it could not write: the points of that "
        "time are lost. No counter of its own can tell, since it cannot store that either; the "
        "alert looks for the absence of every sample. If it needs a new file of chunks meanwhile "
        "it ends, and cannot start: then nothing more is lost, as the Collector keeps what comes, "
        "but only the Watchdog's silence tells.",
        allows=("acknowledged exports",),
        run="both",
    ),
    Row(
        "8",
        "A byte of Prometheus' write-ahead log is flipped.",
        "It starts, loses what lies behind that place, and `PrometheusWalTrouble` fires. "
        "Counters are right with the next push.",
        edge="Points behind the broken place, of at most the last two hours, are lost.",
        allows=("acknowledged exports",),
        run="thorough",
    ),
    Row(
        "9",
        "A partition between the Collector and Prometheus, longer than common retry limits.",
        "Nothing is lost: retries never end, the queue on disk holds 512 MiB.",
        run="both",
    ),
    Row(
        "10",
        "A receiver answers 429 with Retry-After, 502, 503, half an answer, one byte at a time; "
        "400, 413, 500.",
        "The former are tried again, after the time asked for; the latter are counted as "
        "refused (service) or in `send_failed` (Collector).",
    ),
    Row(
        "11",
        "Metrics without points, twice the same time, out of order or NaN; one too old, one too "
        "far ahead, one of no kind.",
        "The former cost nothing. For one of the latter Prometheus rejects its whole request, "
        "which is counted (`send_failed`), and nobody else's.",
        run="thorough",
    ),
    Row(
        "12",
        "A worker's clock is an hour behind, or an hour ahead.",
        "Its spans and lines arrive. Its metrics are rejected and counted, `CollectorSendFailed` "
        "fires; other workers' are not touched.",
        run="thorough",
    ),
    Row(
        "13",
        "kill -9 of a worker.",
        "Its successor has an instance id of its own; counters stay what they were.",
        edge="What waited in its export queues (up to a second) and what it counted since its "
        "last export of metrics (up to 15 s) is lost with it, uncounted.",
    ),
    Row(
        "14",
        "Forks without exec while telemetry is sent.",
        "No count twice, no deadlock; what a child counts is its own and not sent.",
        run="thorough",
    ),
    Row("15", "SIGTERM under load.", "Everything is sent within the grace time."),
    Row(
        "16",
        "Sending raises, and logs while it does.",
        "No recursion, no deadlock; only the records concerned are dropped and counted.",
        run="thorough",
    ),
    Row(
        "17",
        "Alertmanager is killed; the webhook answers 500 for a while.",
        "Every alert is told at least once, silences survive.",
        edge="One Alertmanager runs here, so a partition between two is no case of this stack.",
        run="thorough",
    ),
    Row(
        "18",
        "Prometheus restarts while an alert is pending.",
        "The alert keeps its place: it fires at the latest one minute after it would have.",
        run="thorough",
    ),
    Row(
        "19",
        "The way of the Watchdog's notification is cut.",
        "Whoever listens outside hears nothing within two intervals, which is the alarm.",
        edge="The stack ships no such listener; prometheus/alertmanager.yml says where to name "
        "one.",
        run="thorough",
    ),
    Row(
        "20",
        "kill -9 of VictoriaLogs and of Jaeger under load.",
        "Jaeger loses nothing it acknowledged.",
        edge="VictoriaLogs acknowledges a line before it is on disk: kill -9 costs the lines of "
        "the last seconds (docs/decisions/victorialogs.md).",
        allows=("store took", "were counted as lost"),
        run="thorough",
    ),
    Row(
        "20b",
        "The disks of VictoriaLogs and of Jaeger are full.",
        "VictoriaLogs refuses, the Collector keeps the lines, `VictoriaLogsReadOnly` fires.",
        edge="VictoriaLogs looks at its disk about once a second. Lines that come between the "
        "disk's last byte and that look end the process, and what it had acknowledged in the last "
        "seconds is lost, as in row 20.",
        run="thorough",
    ),
    Row(
        "21",
        "Grafana is down, or its database is deleted.",
        "Data sources and boards come back from files.",
        run="not here",
        shown_by="Grafana's image is in no registry that this project's machines reach. Its boards "
        "and data sources are generated files (`python -m grafana.generate --check`).",
    ),
    Row(
        "22",
        "Prometheus is down, slow, or answers garbage to the dashboard.",
        "Older numbers with their age, or a problem document within five seconds.",
        run="elsewhere",
        shown_by="tests/contract/test_dashboard_upstream.py",
    ),
    Row(
        "23",
        "The code that masks secrets raises.",
        "The record is replaced and counted, `RedactionFailing` fires, nothing leaves unmasked.",
        run="thorough",
    ),
    Row(
        "24",
        "Thousands of different values in a span's name and an instrument's attribute.",
        "Unknown values become `other`; Prometheus' series stay bounded.",
        run="thorough",
    ),
    Row(
        "25",
        "Random faults for hours.",
        "Every hour's ledger closes; memory, files, threads and series do not grow.",
        run="elsewhere",
        shown_by="`make soak HOURS=n`. Two hours beside other work: 313 faults, 138,907 items, "
        "none lost, 872 spans or lines twice; both hours' ledgers closed, nothing grew.",
    ),
)
