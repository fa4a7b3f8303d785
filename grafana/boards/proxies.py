"""The proxies: how many are healthy, how fast, and what made jobs change them."""

from __future__ import annotations

from typing import Final

from grafana.model import COUNT, PER_SECOND, RATIO, Board, Row
from grafana.panels import LOGS, SERVICE, graph, latency, logs, stat, table

_POOL = f"proxy_pool_proxies{{{SERVICE}}}"
_PREFLIGHT = f"proxy_preflight_duration_seconds{{{SERVICE}}}"
_FAILED = f'proxy_preflight_duration_seconds{{{SERVICE}, outcome!="success"}}'

# Every worker counts the whole pool, so the pool is the largest count, not the sum.
_BY_STATE = f"max by (state) (last_over_time({_POOL}[2m]))"

_HEALTH = Row(
    "Pool",
    (
        stat(
            "Healthy",
            "Share of the known proxies that may be used now.",
            RATIO,
            "max(last_over_time("
            f'proxy_pool_proxies{{{SERVICE}, state="healthy"}}[2m])) / sum({_BY_STATE})',
            thresholds={None: "red", 0.5: "orange", 0.8: "green"},
            empty="none configured",
            width=6,
            height=8,
        ),
        graph(
            "Proxies by health",
            "Quarantined proxies come back after their cooldown, when the probe succeeds.",
            COUNT,
            (_BY_STATE, "{{state}}"),
            stacked=True,
            width=9,
        ),
        graph(
            "Rotations",
            "Times a job went on with another proxy, and what made it.",
            PER_SECOND,
            (
                f"sum by (reason) (rate(proxy_rotations_total{{{SERVICE}}}[$__rate_interval]))",
                "{{reason}}",
            ),
            stacked=True,
            width=9,
            must_have=True,
        ),
    ),
)

_PROBES = Row(
    "Probes",
    (
        graph(
            "Probes by outcome",
            "A probe asks for a tiny page through the proxy.",
            PER_SECOND,
            (
                f"sum by (outcome) (histogram_count(rate({_PREFLIGHT}[$__rate_interval])))",
                "{{outcome}}",
            ),
            stacked=True,
        ),
        latency(
            "Probe P95 by proxy",
            "Proxies appear by a masked id, never by address.",
            (
                f"histogram_quantile(0.95, sum by (proxy) (rate({_PREFLIGHT}[$__rate_interval])))",
                "{{proxy}}",
            ),
        ),
        graph(
            "Failed share by proxy",
            "One bad proxy is its own problem; all of them is the provider's.",
            RATIO,
            (
                f"sum by (proxy) (histogram_count(rate({_FAILED}[$__rate_interval])))"
                f" / sum by (proxy) (histogram_count(rate({_PREFLIGHT}[$__rate_interval])))",
                "{{proxy}}",
            ),
            thresholds={None: "green", 0.3: "red"},
        ),
        table(
            "Proxies in the chosen time",
            "Probes by proxy and outcome.",
            COUNT,
            (
                f"sum by (proxy, outcome) (histogram_count(increase({_PREFLIGHT}[$__range]))) > 0",
                "probes",
            ),
            width=24,
        ),
        logs(
            "Rotations and quarantine",
            "One line per event; each opens the trace of its job.",
            f"{LOGS} event:in(proxy.rotated, proxy.quarantined, proxy.restored)",
        ),
    ),
)

PROXIES: Final = Board(
    uid="transcripts-proxies",
    title="Proxies",
    description="Health, speed and rotation of the proxies that jobs go through.",
    rows=(_HEALTH, _PROBES),
)
