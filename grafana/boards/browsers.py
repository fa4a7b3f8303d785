"""The browser pool: is it used, is it full, why are contexts retired, what does it weigh."""

from __future__ import annotations

from typing import Final

from grafana.model import BYTES, COUNT, PER_SECOND, RATIO, Board, Panel, Query, Row
from grafana.panels import LOGS, SERVICE, graph, heatmap, latency, logs, stat

_CONTEXTS = f"browser_contexts{{{SERVICE}}}"
_LEASED = f'browser_contexts{{{SERVICE}, state="leased"}}'
_LEASES = f"browser_context_leases_total{{{SERVICE}}}"
_REUSED = f'browser_context_leases_total{{{SERVICE}, reused="true"}}'
_WAIT = f"browser_context_wait_duration_seconds{{{SERVICE}}}"


def _now(selector: str) -> str:
    """A gauge of a pushed metric: two minutes without export and the worker is gone."""
    return f"last_over_time({selector}[2m])"


_POOL = Row(
    "Pool",
    (
        graph(
            "Contexts",
            "Browser contexts that exist, by what they are doing.",
            COUNT,
            (f"sum by (state) ({_now(_CONTEXTS)})", "{{state}}"),
            (f"sum({_now(f'browser_contexts_limit{{{SERVICE}}}')})", "limit"),
            must_have=True,
        ),
        graph(
            "Contexts by profile",
            "One that is never used costs nothing; one that is always full makes callers wait.",
            COUNT,
            (f"sum by (profile, state) ({_now(_CONTEXTS)})", "{{profile}} {{state}}"),
            stacked=True,
            must_have=True,
        ),
        graph(
            "Utilisation",
            "Leased contexts as a share of the limit.",
            RATIO,
            (
                f"sum({_now(_LEASED)}) / sum({_now(f'browser_contexts_limit{{{SERVICE}}}')})",
                "leased",
            ),
            ("max(threshold:browser_contexts_leased:ratio)", "alert above"),
            thresholds={None: "green", 0.9: "red"},
        ),
        latency(
            "Wait for a context",
            "Time a caller waited, P50 and P95. A dot opens the trace of the caller.",
            *(
                (
                    f"histogram_quantile({q}, sum(rate({_WAIT}[$__rate_interval])))",
                    f"P{int(q * 100)}",
                )
                for q in (0.5, 0.95)
            ),
            thresholds={None: "green", 5: "red"},
        ),
        graph(
            "Leases",
            "On a context used before (fast) or a new one.",
            PER_SECOND,
            (f"sum by (reused) (rate({_LEASES}[$__rate_interval]))", "reused {{reused}}"),
            stacked=True,
            must_have=True,
        ),
        stat(
            "Reuse",
            "Share of the leases of the chosen time that got a context used before.",
            RATIO,
            f"sum(increase({_REUSED}[$__range])) / sum(increase({_LEASES}[$__range]))",
            width=8,
            height=8,
        ),
    ),
)

_LIFE = Row(
    "Life of a context",
    (
        graph(
            "Created",
            "New contexts by profile.",
            PER_SECOND,
            (
                f"sum by (profile) (rate(browser_contexts_created_total{{{SERVICE}}}"
                "[$__rate_interval]))",
                "{{profile}}",
            ),
            must_have=True,
        ),
        graph(
            "Closed, by reason",
            "Age, uses and memory are the planned reasons; crash and unhealthy are not.",
            PER_SECOND,
            (
                f"sum by (reason) (rate(browser_contexts_closed_total{{{SERVICE}}}"
                "[$__rate_interval]))",
                "{{reason}}",
            ),
            stacked=True,
            must_have=True,
        ),
        Panel(
            kind="bars",
            title="Reasons in the chosen time",
            description="Why contexts were retired.",
            queries=(
                Query(
                    f"sum by (reason) (increase(browser_contexts_closed_total{{{SERVICE}}}"
                    "[$__range]))",
                    "{{reason}}",
                ),
            ),
            unit=COUNT,
            must_have=True,
        ),
        heatmap(
            "Age at closing",
            "The limit is 30 minutes, give or take the jitter.",
            "s",
            f"sum(rate(browser_context_age_seconds{{{SERVICE}}}[$__rate_interval]))",
            width=12,
        ),
        graph(
            "Uses at closing",
            "Leases that a context had served; the limit is 50.",
            COUNT,
            (
                "histogram_quantile(0.5, sum by (profile) (rate("
                f"browser_context_uses{{{SERVICE}}}[1h])))",
                "{{profile}} P50",
            ),
            (
                "histogram_quantile(0.95, sum by (profile) (rate("
                f"browser_context_uses{{{SERVICE}}}[1h])))",
                "{{profile}} P95",
            ),
            width=12,
        ),
    ),
)

_MEMORY = Row(
    "Memory",
    (
        graph(
            "Browser memory",
            "Proportional set size of each worker's browser with all its processes.",
            BYTES,
            (
                f"max by (instance) ({_now(f'browser_memory_usage_bytes{{{SERVICE}}}')})",
                "{{instance}}",
            ),
            ("max(threshold:browser_memory:bytes)", "alert above"),
            width=12,
        ),
        graph(
            "Memory of the service itself",
            "Resident memory of each Python worker, without its browser.",
            BYTES,
            (
                f"max by (instance) ({_now(f'process_memory_usage_bytes{{{SERVICE}}}')})",
                "{{instance}}",
            ),
            width=12,
            must_have=True,
        ),
        logs(
            "What the browsers said",
            "Starts, crashes, and contexts that could not be had.",
            f"{LOGS} event:in(browser.launched, browser.replaced, browser.crashed, "
            "browser.unavailable, browser.context.lease_failed)",
        ),
    ),
)

BROWSERS: Final = Board(
    uid="transcripts-browsers",
    title="Browser contexts",
    description="The pool behind the youtubei stage: reuse, waits, retirement, memory.",
    rows=(_POOL, _LIFE, _MEMORY),
)
