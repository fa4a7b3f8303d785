"""`transcript-service trace`: one request's waterfall in a terminal, log lines beneath it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from ..plain_text import all_visible
from ..settings import Settings
from . import inputs, traces
from .engines import Engines
from .terminal import create_console, log_line, print_json, seconds

_BAR: Final = 32  # characters
# What a reader looks for first; the rest is on the page and in Jaeger.
_SHOWN: Final = (
    "transcript.stage",
    "stage",
    "attempt",
    "outcome",
    "error.type",
    "profile",
    "http.response.status_code",
    "server.address",
)


def print_trace(settings: Settings, trace_id: str, *, as_json: bool) -> None:
    """Print the trace, or the API's document with `as_json`.

    Raises:
        Problem: no such id, none by that id, or the engines do not answer.
    """
    asked = inputs.read(inputs.OneTrace, [("trace_id", trace_id.lower())])
    with closing(Engines(settings)) as engines:
        found = traces.fetch_trace(engines, asked.trace_id)
    if as_json:
        print_json(found)
        return
    found = all_visible(found)
    out = create_console()
    spans, lines = found["spans"]["data"] or [], found["logs"]["data"] or []
    times = f"  {found['start'] or ''}  {seconds(found['duration_s'])}"
    out.print(Text.assemble((trace_id, "bold"), times))
    for part in ("spans", "logs"):
        if found[part]["status"] != "ok":
            out.print(Text(f"{part}: {found[part]['status']}", "yellow"))
    out.print(_waterfall(spans, lines, found["duration_s"] or 0.0))
    known = {span["span_id"] for span in spans}
    for line in lines:
        if line["span_id"] not in known:
            out.print(_log(line))


def _waterfall(
    spans: Sequence[Mapping[str, Any]], lines: Sequence[Mapping[str, Any]], total_s: float
) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(ratio=1)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for span in spans:
        facts = " ".join(str(span["attributes"][k]) for k in _SHOWN if k in span["attributes"])
        name = Text("  " * span["depth"])
        name.append(span["name"], "red" if span["error"] else "bold")
        name.append(f"  {facts}", "bright_black")
        table.add_row(name, _bar(span, total_s), seconds(span["duration_s"]))
        for line in lines:
            if line["span_id"] == span["span_id"]:
                table.add_row(Text("  " * (span["depth"] + 1)).append(_log(line)), "", "")
    return table


def _bar(span: Mapping[str, Any], total_s: float) -> Text:
    if total_s <= 0:
        return Text("█", "cyan")
    left = min(int(span["start_s"] / total_s * _BAR), _BAR - 1)
    width = max(1, min(round(span["duration_s"] / total_s * _BAR), _BAR - left))
    return Text(" " * left + "█" * width, "red" if span["error"] else "cyan")


def _log(line: Mapping[str, Any]) -> Text:
    return log_line(line, f"{line['offset_s']:+.3f} s")
