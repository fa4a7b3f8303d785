"""Short forms for the panels of this project, so that a board reads as a list of questions."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

from grafana.model import COUNT, JAEGER, SECONDS, VICTORIALOGS, Link, Panel, Query, TraceSearch

# What restricts every query about the service to the chosen one, its environment and workers.
SERVICE = (
    'service_name="$service", deployment_environment_name=~"$environment", instance=~"$instance"'
)
# The same for log lines, which know no workers, for span metrics, which know nothing else, and for
# what the rules recorded: Prometheus makes the job of the service's namespace and name.
LOGS = '{"service.name"="$service"} "deployment.environment.name":~"${environment:regex}"'
SPANS = 'service_name="$service"'
RECORDED = 'job=~"(.+/)?$service"'
# Every alert but the Watchdog, which always fires and says that alerting works.
ALERTING = 'severity!="none"'

LOGS_BOARD = "transcripts-logs"
STAGES_BOARD = "transcripts-stages"


def _board_url(uid: str, *variables: str) -> str:
    query = "&".join(
        (*variables, "${service:queryparam}", "${environment:queryparam}", "${__url_time_range}")
    )
    return f"/d/{uid}?{query}"


def _label(name: str, row: bool) -> str:
    """The value of a label: of a table's row, or of a line in a graph."""
    return f"${{__data.fields.{name}}}" if row else f"${{__field.labels.{name}}}"


def stage_to_logs(label: str = "stage", *, row: bool = False) -> Link:
    """From a line or row with a stage to that stage's log lines."""
    return Link(
        "Log lines of this stage", _board_url(LOGS_BOARD, f"var-stage={_label(label, row)}")
    )


def error_to_traces(*, row: bool = False) -> Link:
    """From a line or row with an error type to the traces that failed with it.

    Rows are about whole requests, lines about stages.
    """
    search = {
        "refId": "A",
        "queryType": "search",
        "service": "${service}",
        "operation": "transcript.fetch" if row else "transcript.stage",
        "tags": f"error.type={_label('error_type', row)}",
    }
    pane = {
        "datasource": JAEGER,
        "queries": [search],
        "range": {"from": "${__from}", "to": "${__to}"},
    }
    panes = _quoted(json.dumps({"traces": pane}, separators=(",", ":")))
    return Link("Traces with this error", f"/explore?schemaVersion=1&orgId=1&panes={panes}")


def _quoted(text: str) -> str:
    """As a value in an address, except for what Grafana fills in."""
    parts = re.split(r"(\$\{[^}]+\})", text)
    return "".join(part if part.startswith("${") else quote(part, safe="") for part in parts)


def queries(*given: str | tuple[str, str], exemplars: bool = False) -> tuple[Query, ...]:
    """`"expr"` or `("expr", "legend")`, several of them."""
    pairs = ((item, "") if isinstance(item, str) else item for item in given)
    return tuple(Query(expr, legend, exemplars) for expr, legend in pairs)


def graph(
    title: str, description: str, unit: str, *given: str | tuple[str, str], **more: Any
) -> Panel:
    """Lines over time."""
    return Panel("graph", title, description, queries(*given), unit, **more)


def latency(title: str, description: str, *given: str | tuple[str, str], **more: Any) -> Panel:
    """Lines of seconds over time, with exemplars: each dot opens its trace."""
    return Panel("graph", title, description, queries(*given, exemplars=True), SECONDS, **more)


def stat(
    title: str, description: str, unit: str, *given: str | tuple[str, str], **more: Any
) -> Panel:
    """One number, large."""
    return Panel(
        "stat", title, description, queries(*given), unit, **{"width": 4, "height": 4} | more
    )


def heatmap(title: str, description: str, unit: str, expr: str, **more: Any) -> Panel:
    """The buckets of a native histogram over time, with exemplars."""
    return Panel("heatmap", title, description, queries(expr, exemplars=True), unit, **more)


def table(
    title: str, description: str, unit: str, *given: str | tuple[str, str], **more: Any
) -> Panel:
    """Latest values, one row per label set; the legend of a query names its column."""
    return Panel("table", title, description, queries(*given), unit, **{"width": 12} | more)


def logs(title: str, description: str, expr: str, **more: Any) -> Panel:
    """Log lines, newest first."""
    found = (Query(expr, source=VICTORIALOGS),)
    return Panel("logs", title, description, found, **{"width": 24, "height": 10} | more)


def log_graph(title: str, description: str, *given: tuple[str, str], **more: Any) -> Panel:
    """Counts of log lines over time."""
    found = tuple(Query(expr, legend, source=VICTORIALOGS) for expr, legend in given)
    return Panel("graph", title, description, found, COUNT, **more)


def traces(title: str, description: str, search: TraceSearch, **more: Any) -> Panel:
    """Traces found by Jaeger, each leading to its waterfall."""
    return Panel("traces", title, description, (search,), **{"width": 12, "height": 10} | more)
