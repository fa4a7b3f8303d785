"""`transcript-service traces` and `transcript-service logs`: searching in a terminal."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from typing import Any, Final

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..plain_text import all_visible
from ..settings import Settings
from . import inputs, log_search, trace_search
from .engines import Engines
from .terminal import create_console, log_line, print_json, seconds
from .upstream import UpstreamError

_POLL_S: Final = 2.0
_UNITS: Final = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0}
_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|)", re.ASCII)


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
    """Print the traces that a search finds, newest first.

    Args:
        asked: the API's parameters.

    Raises:
        Problem: a parameter is wrong, or Jaeger does not answer.
    """
    search = inputs.read(inputs.Search, asked.items())
    with closing(Engines(settings)) as engines:
        found = trace_search.find_traces(engines, search)
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

    A store that is away for a while is waited for, once it has answered.

    Args:
        asked: the API's parameters.

    Raises:
        Problem: a parameter is wrong, or VictoriaLogs does not answer.
    """
    tail = inputs.read(inputs.Tail, asked.items())
    out = create_console()
    seen: dict[str, None] = {}
    with closing(Engines(settings)) as engines, suppress(KeyboardInterrupt):
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
        sys.stdout.write(orjson.dumps(line).decode() + "\n")
        sys.stdout.flush()
        return
    line = all_visible(line)
    text = log_line(line, line["at"])
    if line["trace_id"]:
        text.append(f" trace={line['trace_id']}", "bright_black")
    out.print(text)
