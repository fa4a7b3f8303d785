"""Variables and annotations, the same on every dashboard."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as models

from grafana.model import PROMETHEUS, Board
from grafana.panels import ALERTING
from transcript_service.telemetry.vocabulary import ERROR_TYPES, STAGES

_SOURCE = options.DataSourceRef(type_val="prometheus", uid="${datasource}")
_CHOSEN: Final = 'service_name="$service", deployment_environment_name=~"$environment"'
# The address that the alerts' own links have, see prometheus/README.md.
SERVICE_ADDRESS: Final = "http://127.0.0.1:5000"
_ALL: Final = models.VariableOption(text="All", value="$__all", selected=True)


def _datasource() -> Builder[models.VariableModel]:
    return (
        builders.DatasourceVariable("datasource")
        .label("Metrics from")
        .type("prometheus")
        .current(models.VariableOption(text="Prometheus", value=PROMETHEUS, selected=True))
    )


def _service() -> Builder[models.VariableModel]:
    """One at a time: Jaeger's search takes one service."""
    query = "label_values(transcript_requests_total, service_name)"
    return (
        builders.QueryVariable("service")
        .label("Service")
        .datasource(_SOURCE)
        .query({"query": query, "refId": "service"})
        .definition(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )


def _service_address() -> Builder[models.VariableModel]:
    """Where the service's runbooks are, as a browser reaches it."""
    return (
        builders.TextBoxVariable("service_url")
        .label("Service address")
        .default_value(SERVICE_ADDRESS)
        .current(models.VariableOption(text=SERVICE_ADDRESS, value=SERVICE_ADDRESS, selected=True))
    )


def _from_labels(
    name: str, label: str, query: str, regex: str = ""
) -> Builder[models.VariableModel]:
    return (
        builders.QueryVariable(name)
        .label(label)
        .datasource(_SOURCE)
        .query({"query": query, "refId": name})
        .definition(query)
        .regex(regex)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(_ALL)
    )


def _closed(name: str, label: str, values: tuple[str, ...]) -> Builder[models.VariableModel]:
    return (
        builders.CustomVariable(name)
        .label(label)
        .values(",".join(values))
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(_ALL)
    )


def variables_of(board: Board) -> list[Builder[models.VariableModel]]:
    """Data source, service, environment and instance, then what the board asks for."""
    found = [
        _datasource(),
        _service(),
        _from_labels(
            "environment",
            "Environment",
            'label_values(transcript_requests_total{service_name="$service"},'
            " deployment_environment_name)",
        ),
        _from_labels(
            "instance",
            "Worker",
            'label_values(transcript_requests_total{service_name="$service",'
            ' deployment_environment_name=~"$environment"}, instance)',
            # Shown by its first eight digits; a UUID fills the bar.
            regex="/(?<value>(?<text>.+?(?=-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-)|.+).*)/",
        ),
        _service_address(),
    ]
    # The lists come from the vocabulary: a stage that has not run yet can be chosen too.
    if "stage" in board.variables:
        found.append(_closed("stage", "Stage", STAGES))
    if "error_type" in board.variables:
        found.append(_closed("error_type", "Error type", ERROR_TYPES))
    return found


def _annotation(
    name: str, expr: str, colour: str, title: str, text: str
) -> Builder[models.AnnotationQuery]:
    return (
        builders.AnnotationQuery()
        .name(name)
        .datasource(_SOURCE)
        .enable(True)
        .expr(expr)
        .step("15s")
        .icon_color(colour)
        .title_format(title)
        .text_format(text)
    )


# From queries, not from Grafana's own store: they are there after a new start too.
ANNOTATIONS: Final = (
    _annotation(
        "Deploys",
        f"group by (service_version) (target_info{{{_CHOSEN}}})"
        " unless group by (service_version)"
        f" (target_info{{{_CHOSEN}}} offset 5m)",
        "blue",
        "Version {{service_version}}",
        "First seen in the last five minutes",
    ),
    _annotation(
        "Breaker openings",
        "sum by (name) (increase(circuit_breaker_transitions_total"
        f'{{to="open", {_CHOSEN}}}[1m])) > 0',
        "orange",
        "Breaker {{name}} opened",
        "",
    ),
    _annotation(
        "Alerts",
        f'ALERTS{{alertstate="firing", {ALERTING}}}',
        "red",
        "{{alertname}}",
        "{{severity}} {{stage}}{{name}}",
    ),
)
