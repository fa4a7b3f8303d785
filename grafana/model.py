"""What a dashboard of this project consists of, before it becomes Grafana's JSON.

Smaller than Grafana's own model on purpose: a board states its questions (queries), what they
mean (description, unit, thresholds) and where they lead (links); `render.py` decides how that
looks, the same on every board.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

# uids of grafana/provisioning/datasources/stack.yaml
PROMETHEUS, VICTORIALOGS, JAEGER = "prometheus", "victorialogs", "jaeger"

Kind = Literal["graph", "stat", "heatmap", "table", "timeline", "logs", "traces", "bars"]

# Units as Grafana spells them.
SECONDS = "s"
BYTES = "bytes"
BYTES_PER_SECOND = "Bps"
RATIO = "percentunit"
PER_SECOND = "ops"
REQUESTS_PER_SECOND = "reqps"
COUNT = "short"
NONE = "none"


@dataclass(frozen=True)
class Query:
    """PromQL, or LogsQL where VictoriaLogs is asked; `legend` may use `{{label}}` of the result."""

    expr: str
    legend: str = ""
    exemplars: bool = False
    source: str = PROMETHEUS


@dataclass(frozen=True)
class TraceSearch:
    """A search in Jaeger, over the time range of the board."""

    tags: str = ""
    operation: str = ""
    min_duration: str = ""
    limit: int = 20
    source: str = JAEGER


@dataclass(frozen=True)
class Link:
    """A place that a value leads to; Grafana fills in `${__field.labels.x}` and the like."""

    title: str
    url: str


@dataclass(frozen=True)
class Panel:
    """One picture.

    `must_have`: after a load that touches every stage it has data, or something is broken
    (tests/integration/test_dashboards_live.py). Leave it out where silence is the normal case.
    """

    kind: Kind
    title: str
    description: str
    queries: tuple[Query | TraceSearch, ...]
    unit: str = NONE
    must_have: bool = False
    width: int = 8
    height: int = 8
    # From this value on, the colour: {0.95: "green"}; the lowest colour has no value.
    thresholds: Mapping[float | None, str] | None = None
    links: tuple[Link, ...] = ()
    stacked: bool = False
    # Value -> (text, colour), for state timelines and stats.
    mappings: Mapping[str, tuple[str, str]] | None = None
    decimals: int | None = None
    # What stands in the place of no value, and of a share of nothing.
    empty: str = "no data"


@dataclass(frozen=True)
class Row:
    """Panels that answer one question together."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Board:
    """One dashboard. `uid` is for ever: links and bookmarks carry it."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    # Which of the variables beside datasource, environment and instance it offers.
    variables: tuple[Literal["stage", "error_type"], ...] = ()

    @property
    def file(self) -> str:
        """Name of the generated file, from the title as people see it."""
        return self.title.lower().replace(" ", "-") + ".json"

    @property
    def panels(self) -> tuple[Panel, ...]:
        return tuple(panel for row in self.rows for panel in row.panels)
