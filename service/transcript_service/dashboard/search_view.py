"""`transcript-service trace`, `traces` and `logs`: looking for one request in a terminal."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..plain_text import all_visible
from ..settings import Settings
from . import inputs, log_search, traces
from .engines import Engines
from .terminal import create_console, print_json, seconds
from .upstream import UpstreamError

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
_LEVEL_COLOUR: Final = {"error": "red", "warning": "yellow"}
_POLL_S: Final = 2.0
_UNITS: Final = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0}
_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|)", re.ASCII)


def print_trace(settings: Settings, trace_id: str, *, as_json: bool) -> None:
    """Print the trace, or the API's document with `as_json`.

    Raises:
        Problem: no such id, none by that id, or the engines do not answer.
    """
    asked = inputs.read(inputs.OneTrace, [("trace_id", trace_id.lower())])
    found = traces.fetch_trace(Engines(settings), asked.trace_id)
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
            out.print(_line(line, _offset(line)))


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
                indent = Text("  " * (span["depth"] + 1))
                table.add_row(indent.append(_line(line, _offset(line))), "", "")
    return table


def _bar(span: Mapping[str, Any], total_s: float) -> Text:
    if total_s <= 0:
        return Text("█", "cyan")
    left = min(int(span["start_s"] / total_s * _BAR), _BAR - 1)
    width = max(1, min(round(span["duration_s"] / total_s * _BAR), _BAR - left))
    return Text(" " * left + "█" * width, "red" if span["error"] else "cyan")


def _offset(line: Mapping[str, Any]) -> str:
    return f"{line['offset_s']:+.3f} s"


def in_seconds(text: str) -> str:
    """`5s`, `300ms`, `2m` or `5` as decimal seconds, for the API's parameters.

    Raises:
        Problem: it is no duration.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise inputs.invalid_parameter(f"{text} is no duration such as 5s or 300ms.")
    return f"{float(found[1]) * _UNITS[found[2]]:.6f}"


def print_traces(settings: Settings, asked: Mapping[str, str], *, as_json: bool) -> None:
    """Print the traces that a search, by the API's parameters, finds, newest first.

    Raises:
        Problem: a parameter is wrong, or Jaeger does not answer.
    """
    search = inputs.read(inputs.Search, asked.items())
    found = traces.find_traces(Engines(settings), search)
    if as_json:
        print_json(found)
        return
    table = Table(box=None, pad_edge=False)
    for column in ("time", "took", "video", "outcome", "error type", "stages", "trace"):
        table.add_column(column, no_wrap=True)
    for trace in all_visible(found)["traces"]:
        table.add_row(
            trace["at"],
            seconds(trace["duration_s"]),
            trace["video_id"] or "–",
            trace["outcome"] or "–",
            trace["error_type"] or "–",
            " ".join(f"{s['stage']}:{s['outcome']}" for s in trace["stages"]),
            trace["trace_id"],
        )
    out = create_console()
    out.print(table)
    if found["partial"]:
        out.print(Text("There may be more: narrow the search, or raise --limit.", "yellow"))


def print_logs(
    settings: Settings, asked: Mapping[str, str], *, follow: bool, as_json: bool
) -> None:
    """Print the newest log lines, and with `follow` those that come, until interrupted.

    `asked` has the API's parameters. A store that is away for a while is waited for, once it has
    answered.

    Raises:
        Problem: a parameter is wrong, or VictoriaLogs does not answer.
    """
    tail = inputs.read(inputs.Tail, asked.items())
    out = create_console()
    seen: dict[str, None] = {}
    engines = Engines(settings)
    with suppress(KeyboardInterrupt):
        while True:
            try:
                found = log_search.tail(engines, tail)
            except UpstreamError:
                if not seen:
                    raise
            else:
                for line in found["lines"]:
                    if line["id"] not in seen:
                        seen[line["id"]] = None
                        _print_line(out, line, as_json=as_json)
                while len(seen) > 4 * inputs.MOST_LINES:
                    del seen[next(iter(seen))]
                asked = {**asked, "since": found["next_since"], "limit": str(inputs.MOST_LINES)}
                tail = inputs.read(inputs.Tail, asked.items())
            if not follow:
                break
            time.sleep(_POLL_S)


def _print_line(out: Console, line: Any, *, as_json: bool) -> None:
    if as_json:
        print(orjson.dumps(line).decode(), flush=True)
        return
    line = all_visible(line)
    text = _line(line, line["at"])
    if line["trace_id"]:
        text.append(f" trace={line['trace_id']}", "bright_black")
    out.print(text)


def _line(line: Mapping[str, Any], when: str) -> Text:
    """A line of the log, after when it was written."""
    text = Text(f"{when} ", "bright_black")
    text.append(f"{line['level']:<7} ", _LEVEL_COLOUR.get(line["level"], ""))
    text.append(line["text"])
    for name, value in line["attributes"].items():
        text.append(f" {name}=", "bright_black")
        text.append(str(value))
    return text
