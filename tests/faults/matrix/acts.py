"""Which function does what a row says."""

from __future__ import annotations

from collections.abc import Mapping

from tests.faults.matrix import acts_others, acts_pipeline, acts_process, acts_prometheus
from tests.faults.matrix.scene import Act

ACTS: Mapping[str, Act] = {
    "1": acts_pipeline.collector_away,
    "2": acts_pipeline.collector_hangs,
    "3": acts_pipeline.killed_with_full_queue,
    "4": acts_pipeline.killed_while_writing,
    "4b": acts_pipeline.queue_file_broken,
    "5": acts_pipeline.queue_disk_full,
    "6": acts_prometheus.killed,
    "7": acts_prometheus.disk_full,
    "8": acts_prometheus.log_broken,
    "9": acts_pipeline.partition,
    "10": acts_pipeline.answers,
    "11": acts_prometheus.poisoned,
    "12": acts_prometheus.clocks,
    "13": acts_process.killed,
    "14": acts_process.forked,
    "15": acts_process.stopped,
    "16": acts_process.exporter_raises,
    "17": acts_others.notifications,
    "18": acts_prometheus.restarted_while_pending,
    "19": acts_others.watchdog,
    "20": acts_others.stores_killed,
    "20b": acts_others.stores_full,
    "23": acts_process.masking_raises,
    "24": acts_prometheus.cardinality,
}
