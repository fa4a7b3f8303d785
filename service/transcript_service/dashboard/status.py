"""`transcript-service status`: the dashboard's summary in a terminal.

It asks the engines itself, so it tells something also when the service does not answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import orjson
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..plain_text import all_visible
from ..settings import Settings
from . import inputs
from .board import SCOPE_OF, Board
from .engines import Engines
from .terminal import create_console, print_json, seconds

_COLOUR: Final = {
    "healthy": "green",
    "degraded": "yellow",
    "unhealthy": "red",
    "unknown": "bright_black",
    "ok": "green",
    "warn": "yellow",
    "fail": "red",
    "closed": "green",
    "half_open": "yellow",
    "open": "red",
    "forced_open": "red",
    "firing": "red",
    "pending": "yellow",
}
# A sign beside the colour, for those who do not see it.
_SIGN: Final = {"ok": "✓", "warn": "!", "fail": "✗", "unknown": "?"}


def print_status(settings: Settings, hours: str, *, as_json: bool) -> str:
    """Print the summary of the last `hours`, or the API's document; give the verdict.

    Raises:
        Problem: `hours` is no valid window, or no engine answers.
    """
    window = inputs.read(inputs.Recent, [("hours", hours)]).window()
    reply = Board(settings, Engines(settings)).overview(window, set(SCOPE_OF.values()))
    document = orjson.loads(reply.body)
    if as_json:
        print_json(document)
    else:
        create_console().print(_summary(all_visible(document)))
    return str((document["blocks"]["health"]["data"] or {}).get("verdict", "unknown"))


def _summary(document: Mapping[str, Any]) -> Group:
    blocks: Mapping[str, Any] = document["blocks"]
    parts: list[RenderableType] = [_health(blocks["health"], document)]
    for name, show in (
        ("performance", _performance),
        ("circuit_breaker", _breakers),
        ("browser_contexts", _browsers),
        ("proxy", _proxies),
        ("alerts", _alerts),
    ):
        block = blocks[name]
        title = name.replace("_", " ")
        if block["data"] is None:
            parts.append(Text(f"{title}: {block.get('reason', block['status'])}", "bright_black"))
        else:
            parts.append(show(block["data"]))
    return Group(*parts)


def _health(block: Mapping[str, Any], document: Mapping[str, Any]) -> RenderableType:
    data = block["data"] or {"verdict": "unknown", "checks": []}
    lines = Text()
    for check in data["checks"]:
        level = check["level"]
        lines.append(f"{_SIGN[level]} {check['name']:<10}", _COLOUR[level])
        lines.append(f"{check['text']}\n")
    flags = "".join(f", {flag}" for flag in ("partial", "stale") if document[flag])
    return Panel(
        lines or Text(block.get("reason", "")),
        title=Text(f"{data['verdict']}{flags}"),
        subtitle=Text(f"{document['window']['start']} – {document['window']['end']}"),
        border_style=_COLOUR[data["verdict"]],
        expand=False,
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(
            column, justify="right" if column in ("P50", "P95", "attempts", "success") else "left"
        )
    return table


def _performance(data: Mapping[str, Any]) -> Table:
    table = _table("Requests and stages", "", "attempts", "success", "P50", "P95", "errors")
    rows = [("requests", data["requests"]), *((s["stage"], s) for s in data["stages"])]
    for name, row in rows:
        table.add_row(
            name,
            _count(row.get("total", row.get("attempts"))),
            _percent(row["success_ratio"]),
            seconds(row["p50_s"]),
            seconds(row["p95_s"]),
            _tally(row["errors"]),
        )
    return table


def _breakers(data: Mapping[str, Any]) -> Table:
    table = _table("Circuit breakers", "breaker", "state", "calls", "transitions", "recovery P95")
    for breaker in data["breakers"]:
        moves = {f"{m['from']}→{m['to']}": m["count"] for m in breaker["transitions"] or []}
        state = breaker["state"] or "unknown"
        table.add_row(
            breaker["name"],
            Text(state, _COLOUR.get(state, "")),
            _tally(breaker["calls"]),
            _tally(moves),
            seconds(breaker["recovery_p95_s"]),
        )
    return table


def _browsers(data: Mapping[str, Any]) -> Text:
    held = {f"{c['profile']} {c['state']}": c["count"] for c in data["contexts"]}
    memory = data["memory_bytes"]
    return Text.assemble(
        ("Browser contexts  ", "bold"),
        f"{_tally(held)} of {_count(data['limit'])}; "
        f"memory {'–' if memory is None else f'{memory / 2**20:,.0f} MiB'}; "
        f"reused {_percent(data['reuse_ratio'])}; wait P95 {seconds(data['wait_p95_s'])}",
    )


def _proxies(data: Mapping[str, Any]) -> Text:
    return Text.assemble(
        ("Proxies  ", "bold"), f"{_tally(data['pool'])}; rotations: {_tally(data['rotations'])}"
    )


def _alerts(data: Mapping[str, Any]) -> RenderableType:
    if not data["active"]:
        return Text.assemble(("Alerts  ", "bold"), ("none active", "green"))
    table = _table("Alerts", "state", "alert", "severity", "since", "summary", "runbook")
    for alert in data["active"]:
        table.add_row(
            Text(alert["state"], _COLOUR.get(alert["state"], "")),
            alert["alertname"],
            alert["severity"] or "–",
            alert["since"],
            alert["summary"] or "–",
            alert["runbook_url"] or "–",
        )
    return table


def _percent(value: float | None) -> str:
    """`98.2 %`, never rounded up to 100 %, or a dash."""
    return "–" if value is None else f"{math.floor(value * 1000) / 10:g} %"


def _count(value: float | None) -> str:
    """A whole number, or a dash."""
    return "–" if value is None else f"{value:,.0f}"


def _tally(counts: dict[str, Any] | None) -> str:
    """`blocked 4, timeout 2`, most frequent first, or a dash."""
    shown = [f"{word} {value:,.0f}" for word, value in (counts or {}).items() if value >= 0.5]
    return ", ".join(shown) or "–"
