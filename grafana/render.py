"""Turns boards into Grafana's classic dashboard JSON (v1; file provisioning takes no other).

The look of every kind of panel, the variables, the annotations and the navigation are decided
here once.
"""

from __future__ import annotations

import json
from typing import Any

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    heatmap,
    logs,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana.model import JAEGER, PROMETHEUS, VICTORIALOGS, Board, Kind, Panel, Query, TraceSearch
from grafana.variables import ANNOTATIONS, variables_of

TAG = "transcripts"

# Panel builders share their methods but no base class.
PanelBuilder = Any

_SOURCES = {
    PROMETHEUS: options.DataSourceRef(type_val="prometheus", uid="${datasource}"),
    VICTORIALOGS: options.DataSourceRef(
        type_val="victoriametrics-logs-datasource", uid=VICTORIALOGS
    ),
    JAEGER: options.DataSourceRef(type_val="jaeger", uid=JAEGER),
}


class _JaegerQuery(Dataquery):
    """The SDK has no query type for Jaeger."""

    def __init__(self, search: TraceSearch) -> None:
        self.search = search

    def to_json(self) -> dict[str, object]:
        query = {
            "refId": "A",
            "queryType": "search",
            "service": "$service",
            "operation": self.search.operation,
            "tags": self.search.tags,
            "minDuration": self.search.min_duration,
            "limit": self.search.limit,
            "datasource": _SOURCES[JAEGER],
        }
        return {key: value for key, value in query.items() if value != ""}


class _LogsQuery(Dataquery):
    """Nor for VictoriaLogs: src/types.ts of its plugin."""

    def __init__(self, panel: Panel, query: Query, ref: str) -> None:
        lines = panel.kind == "logs"
        how = {"queryType": "instant", "maxLines": 200} if lines else {"queryType": "statsRange"}
        self.query = {
            "refId": ref,
            "expr": query.expr,
            "datasource": _SOURCES[VICTORIALOGS],
            "legendFormat": query.legend,
            **how,
        }

    def to_json(self) -> dict[str, object]:
        return {key: value for key, value in self.query.items() if value != ""}


class _Ready(Builder[Dataquery]):
    """A query that needs no more building."""

    def __init__(self, query: Dataquery) -> None:
        self._query = query

    def build(self) -> Dataquery:
        return self._query


def _target(panel: Panel, query: Query | TraceSearch, ref: str) -> Builder[Dataquery]:
    if isinstance(query, TraceSearch):
        return _Ready(_JaegerQuery(query))
    if query.source == VICTORIALOGS:
        return _Ready(_LogsQuery(panel, query, ref))
    target = prometheus.Dataquery().ref_id(ref).expr(query.expr).datasource(_SOURCES[PROMETHEUS])
    target = target.legend_format(query.legend or "__auto")
    if panel.kind == "table":
        return target.format(PromQueryFormat.TABLE).instant()
    if panel.kind == "bars" or "$__range" in query.expr:
        return target.instant()  # one number for the whole time
    if panel.kind == "heatmap":
        target = target.format(PromQueryFormat.HEATMAP)
    return target.range().exemplar(query.exemplars)


def _graph(panel: Panel) -> PanelBuilder:
    builder = (
        timeseries.Panel()
        .line_width(1)
        .fill_opacity(60 if panel.stacked else 8)
        .show_points(options.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(options.LegendDisplayMode.TABLE)
            .placement(options.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["mean", "max", "lastNotNull"])
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(options.TooltipDisplayMode.MULTI)
            .sort(options.SortOrder.DESCENDING)
        )
        .axis_soft_min(0)
    )
    if panel.stacked:
        builder = builder.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL))
    if panel.thresholds:
        builder = builder.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(options.GraphThresholdsStyleMode.DASHED)
        )
    return builder


def _stat(panel: Panel) -> PanelBuilder:
    return (
        stat.Panel()
        .graph_mode(options.BigValueGraphMode.AREA)
        .color_mode(options.BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )


def _heatmap(panel: Panel) -> PanelBuilder:
    return (
        heatmap.Panel()
        .calculate(False)  # native histograms arrive as buckets
        .y_axis(heatmap.YAxisConfig().unit(panel.unit))
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_models.HeatmapColorMode.SCHEME)
            .scheme("Turbo")
            .steps(64)
        )
        .exemplars_color("rgba(255,0,255,0.7)")
    )


def _table(panel: Panel) -> PanelBuilder:
    builder = table.Panel().filterable(True)
    hidden = dict.fromkeys(("Time", "__name__"), True)
    names = {f"Value #{_ref(i)}": q.legend for i, q in _numbered(panel) if q.legend}
    names |= {"Value": panel.queries[0].legend} if isinstance(panel.queries[0], Query) else {}
    return builder.with_transformation(
        models.DataTransformerConfig(id_val="merge", options={})
    ).with_transformation(
        models.DataTransformerConfig(
            id_val="organize", options={"excludeByName": hidden, "renameByName": names}
        )
    )


def _logs(panel: Panel) -> PanelBuilder:
    return (
        logs.Panel()
        .show_time(True)
        .wrap_log_message(True)
        .enable_log_details(True)
        .sort_order(options.LogsSortOrder.DESCENDING)
        .dedup_strategy(options.LogsDedupStrategy.NONE)
    )


_BUILDERS: dict[Kind, Any] = {
    "graph": _graph,
    "stat": _stat,
    "heatmap": _heatmap,
    "table": _table,
    "logs": _logs,
    "traces": lambda panel: table.Panel(),
    "timeline": lambda panel: statetimeline.Panel().merge_values(True).row_height(0.9),
    "bars": lambda panel: bargauge.Panel().orientation(options.VizOrientation.HORIZONTAL),
}


# Kinds that would show an empty box; a graph without lines says "No data" by itself.
_SHOW_NOTHING = frozenset(("stat", "table", "timeline", "bars"))

# A worker's id ends in a UUID; its first eight digits tell two workers apart.
_UUID = "([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_SHORT_WORKERS = models.DataTransformerConfig(
    id_val="renameByRegex", options={"regex": f"(.*){_UUID}(.*)", "renamePattern": "$1$2$3"}
)


def _ref(number: int) -> str:
    return chr(ord("A") + number)


def _numbered(panel: Panel) -> list[tuple[int, Query]]:
    return [(i, query) for i, query in enumerate(panel.queries) if isinstance(query, Query)]


def _thresholds(panel: Panel) -> builders.ThresholdsConfig:
    steps = panel.thresholds or {None: "green"}
    return (
        builders.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value, colour) for value, colour in steps.items()])
    )


def _mappings(panel: Panel) -> list[models.ValueMapping]:
    """What values are called; the share of nothing (0/0) is no number that a person can read."""
    nothing = models.SpecialValueMap(
        models.DashboardSpecialValueMapOptions(
            match=models.SpecialValueMatch.NA_N,
            result=models.ValueMappingResult(text=panel.empty, color="text"),
        )
    )
    named = models.ValueMap(
        {
            value: models.ValueMappingResult(text=text, color=colour, index=index)
            for index, (value, (text, colour)) in enumerate((panel.mappings or {}).items())
        }
    )
    return [named, nothing] if panel.mappings else [nothing]


def _panel(panel: Panel, number: int) -> PanelBuilder:
    builder = (
        _BUILDERS[panel.kind](panel)
        .id(number)
        .title(panel.title)
        .description(panel.description)
        .datasource(_SOURCES[panel.queries[0].source])
        .span(panel.width)
        .height(panel.height)
    )
    for index, query in enumerate(panel.queries):
        builder = builder.with_target(_target(panel, query, _ref(index)))
    if panel.kind in ("logs", "traces"):
        return builder
    builder = builder.unit(panel.unit).thresholds(_thresholds(panel))
    if panel.kind in _SHOW_NOTHING:
        builder = builder.no_value(panel.empty)
    builder = builder.mappings(_mappings(panel))
    if panel.decimals is not None:
        builder = builder.decimals(panel.decimals)
    if any("{{instance}}" in query.legend for _, query in _numbered(panel)):
        builder = builder.with_transformation(_SHORT_WORKERS)
    if panel.links:
        links = [builders.DashboardLink(li.title).url(li.url) for li in panel.links]
        builder = builder.data_links(links)
    return builder


def render(board: Board) -> dict[str, Any]:
    """The dashboard as Grafana's JSON, always the same for the same board."""
    builder = (
        builders.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags([TAG])
        .readonly()
        .timezone("browser")
        .time("now-1h", "now")
        .refresh("30s")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            builders.DashboardLink("Transcripts")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
    )
    for variable in variables_of(board):
        builder = builder.with_variable(variable)
    for annotation in ANNOTATIONS:
        builder = builder.annotation(annotation)
    number = 0
    for row in board.rows:
        number += 1
        builder = builder.with_row(builders.Row(row.title).id(number))
        for panel in row.panels:
            number += 1
            builder = builder.with_panel(_panel(panel, number))
    # Through the SDK's encoder and back: plain dictionaries, which the caller can write sorted.
    rendered: dict[str, Any] = json.loads(JSONEncoder().encode(builder.build()))
    # The SDK puts these into a menu where nobody finds them; without a placement they are shown.
    for shown in (*rendered["links"], *rendered["annotations"]["list"]):
        shown.pop("placement", None)
    return rendered
