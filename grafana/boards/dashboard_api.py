"""The dashboard API: does it answer, from where, and whom does it refuse."""

from __future__ import annotations

from typing import Final

from grafana.model import PER_SECOND, RATIO, REQUESTS_PER_SECOND, SECONDS, Board, Row
from grafana.panels import SERVICE, graph, heatmap, latency, stat, table

_QUERY = f"dashboard_query_duration_seconds{{{SERVICE}}}"
_BAD_QUERY = f'dashboard_query_duration_seconds{{{SERVICE}, outcome!="success"}}'
_LOOKUPS = f"dashboard_cache_lookups_total{{{SERVICE}}}"
_HTTP = f'http_server_request_duration_seconds{{{SERVICE}, http_route=~"/api/dashboard/.*"}}'

_QUERIES = Row(
    "Queries to Prometheus",
    (
        graph(
            "Queries by outcome",
            "Named queries asked per second.",
            PER_SECOND,
            (
                f"sum by (outcome) (histogram_count(rate({_QUERY}[$__rate_interval])))",
                "{{outcome}}",
            ),
            stacked=True,
            must_have=True,
        ),
        latency(
            "P95 by query",
            "Each has 2 seconds, all of one request together 5.",
            (
                f"histogram_quantile(0.95, sum by (query) (rate({_QUERY}[$__rate_interval])))",
                "{{query}}",
            ),
            thresholds={None: "green", 2: "red"},
            must_have=True,
        ),
        heatmap(
            "Duration of all queries",
            "A dot opens the trace of the API request behind it.",
            SECONDS,
            f"sum(rate({_QUERY}[$__rate_interval]))",
            must_have=True,
        ),
        graph(
            "Failed share by query",
            "Rejected and invalid are defects of ours, timeouts and unreachable are not.",
            RATIO,
            (
                f"sum by (query, outcome) (histogram_count(rate({_BAD_QUERY}[$__rate_interval])))"
                " / ignoring (outcome) group_left"
                f" sum by (query) (histogram_count(rate({_QUERY}[$__rate_interval])))",
                "{{query}} {{outcome}}",
            ),
            thresholds={None: "green", 0.05: "red"},
            width=12,
        ),
        table(
            "Queries in the chosen time",
            "How often each was asked.",
            "short",
            (f"sum by (query, outcome) (histogram_count(increase({_QUERY}[$__range])))", "times"),
            must_have=True,
        ),
    ),
)

_ANSWERS = Row(
    "Answers",
    (
        graph(
            "Cache lookups",
            "A stale answer is one given because Prometheus could not be asked.",
            PER_SECOND,
            (f"sum by (result) (rate({_LOOKUPS}[$__rate_interval]))", "{{result}}"),
            stacked=True,
            must_have=True,
        ),
        stat(
            "Hit ratio",
            "Share of the lookups of the chosen time that were answered from the cache.",
            RATIO,
            f'sum(increase(dashboard_cache_lookups_total{{{SERVICE}, result="hit"}}[$__range]))'
            f" / sum(increase({_LOOKUPS}[$__range]))",
            width=4,
            height=8,
            must_have=True,
        ),
        graph(
            "Requests by route and status",
            "What clients of the API get.",
            REQUESTS_PER_SECOND,
            (
                "sum by (http_route, http_response_status_code) (histogram_count("
                f"rate({_HTTP}[$__rate_interval])))",
                "{{http_route}} {{http_response_status_code}}",
            ),
            width=12,
            must_have=True,
        ),
    ),
)

_DOOR = Row(
    "At the door",
    (
        graph(
            "Refused requests",
            "Why access was refused. A few are typing errors, many are guesses.",
            PER_SECOND,
            (
                f"sum by (reason) (rate(dashboard_auth_failures_total{{{SERVICE}}}"
                "[$__rate_interval]))",
                "{{reason}}",
            ),
            stacked=True,
            width=12,
            must_have=True,
        ),
        graph(
            "Alert notifications received",
            "What Alertmanager delivered to the service's webhook.",
            PER_SECOND,
            (
                "sum by (alertname, severity, status) (rate("
                f"alerts_received_total{{{SERVICE}}}[$__rate_interval]))",
                "{{alertname}} {{status}}",
            ),
            width=12,
        ),
    ),
)

DASHBOARD_API: Final = Board(
    uid="transcripts-dashboard-api",
    title="Dashboard API",
    description="The API through which people without Grafana see the same numbers.",
    rows=(_QUERIES, _ANSWERS, _DOOR),
)
