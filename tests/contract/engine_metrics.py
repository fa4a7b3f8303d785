"""Writes the list of what engines and libraries export: `python -m tests.contract.engine_metrics`.

It asks a running Prometheus (`--prometheus URL`, default the native stack's) and adds what it
finds to engine_metrics.txt; `--forget` starts the list anew. Some series appear only after the
first failure of their kind, so a list made anew wants a load with faults before it.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict

import requests

from stack.layout import Layout
from tests.contract.series import ENGINE_METRICS, engine_series, service_series

_HEADER = """\
# What the engines and the libraries in the service export: kind, name, labels.
# Written from a live stack by `python -m tests.contract.engine_metrics`; * is any label.
"""

# Series and labels that a healthy stack never shows, by the engines' documentation.
_ONLY_AFTER_A_FAILURE = {
    "otelcol_exporter_enqueue_failed_spans_total": ("job", "instance", "exporter"),
    "otelcol_exporter_enqueue_failed_metric_points_total": ("job", "instance", "exporter"),
    "otelcol_exporter_enqueue_failed_log_records_total": ("job", "instance", "exporter"),
    "otelcol_exporter_send_failed_spans_total": ("job", "instance", "exporter"),
    "otelcol_exporter_send_failed_metric_points_total": ("job", "instance", "exporter"),
    "otelcol_exporter_send_failed_log_records_total": ("job", "instance", "exporter"),
    "vl_http_errors_total": ("job", "instance", "path"),
}
# Series of what only the scaled form runs (stack/scaled.py).
_ONLY_SCALED = {"haproxy_server_status": ("job", "instance", "proxy", "server", "state")}


def observed(prometheus: str) -> dict[str, tuple[str, set[str]]]:
    """Kind and labels of every series that is no instrument of the service and no record."""
    labels: dict[str, set[str]] = defaultdict(set)
    answer = requests.get(
        f"{prometheus}/api/v1/series", params={"match[]": '{__name__=~"[^:]+"}'}, timeout=60
    )
    for series in answer.json()["data"]:
        labels[series["__name__"]].update(series.keys() - {"__name__"})
    ours = service_series()
    return {
        name: (_kind(prometheus, name), found)
        for name, found in labels.items()
        if name not in ours and not name.startswith("ALERTS")
    }


def _kind(prometheus: str, name: str) -> str:
    if name.endswith(("_total", "_count", "_sum", "_bucket")):
        return "counter"
    if "_seconds" not in name:
        return "gauge"
    query = {"query": f"count(histogram_count({name}))"}
    answer = requests.get(f"{prometheus}/api/v1/query", params=query, timeout=10).json()
    return "histogram" if answer["data"]["result"] else "gauge"


def _add(known: dict[str, tuple[str, set[str]]], more: dict[str, tuple[str, set[str]]]) -> None:
    for name, (kind, labels) in more.items():
        old_kind, old_labels = known.get(name, (kind, set()))
        # A histogram without samples yet looks like a gauge.
        known[name] = (old_kind if kind == "gauge" else kind, old_labels | labels)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prometheus", help="its URL, password included")
    parser.add_argument("--forget", action="store_true", help="start the list anew")
    options = parser.parse_args(arguments)
    prometheus = options.prometheus or Layout.from_env().engine("prometheus")
    known = {name: ("counter", set(names)) for name, names in _ONLY_AFTER_A_FAILURE.items()}
    known |= {name: ("gauge", set(names)) for name, names in _ONLY_SCALED.items()}
    if not options.forget and ENGINE_METRICS.exists():
        _add(known, {s.name: (s.kind, set(s.labels)) for s in engine_series().values()})
    _add(known, observed(prometheus))
    # Alerts carry whatever labels their expressions have.
    for name in ("ALERTS", "ALERTS_FOR_STATE"):
        known[name] = ("gauge", {"*", "alertname", "alertstate", "severity"})
    lines = (f"{kind} {name} {' '.join(sorted(labels))}" for name, (kind, labels) in known.items())
    ordered = sorted(lines, key=lambda line: line.split()[1])
    ENGINE_METRICS.write_text(_HEADER + "\n".join(ordered) + "\n")
    print(f"{len(known)} series in {ENGINE_METRICS.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
