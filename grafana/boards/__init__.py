"""Every dashboard, in the order of the story: what users feel, why, and whether we can know."""

from __future__ import annotations

from typing import Final

from grafana.boards.breakers import BREAKERS
from grafana.boards.browsers import BROWSERS
from grafana.boards.dashboard_api import DASHBOARD_API
from grafana.boards.logs_and_traces import LOGS_AND_TRACES
from grafana.boards.proxies import PROXIES
from grafana.boards.service_overview import SERVICE_OVERVIEW
from grafana.boards.stages import STAGES_AND_BLOCKING
from grafana.boards.telemetry_health import TELEMETRY_HEALTH
from grafana.model import Board

BOARDS: Final[tuple[Board, ...]] = (
    SERVICE_OVERVIEW,
    STAGES_AND_BLOCKING,
    BREAKERS,
    BROWSERS,
    PROXIES,
    LOGS_AND_TRACES,
    TELEMETRY_HEALTH,
    DASHBOARD_API,
)
