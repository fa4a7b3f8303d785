"""Joins the dashboard with what only the web room knows: who may ask."""

from __future__ import annotations

from flask import Flask

from ..dashboard.alerts import History
from ..dashboard.page import create_page
from ..dashboard.routes import create_blueprint
from ..settings import Settings
from . import cors, openapi
from .auth import create_authorizer
from .compression import compress


def register(app: Flask, settings: Settings, *, history: History | None = None) -> None:
    """Add the dashboard's routes to `app`, whose problems are registered already.

    Args:
        history: of alert notifications, if it is kept.
    """

    api = create_blueprint(settings, authorize=create_authorizer(settings), history=history)
    api.after_request(compress)
    app.register_blueprint(api)
    app.register_blueprint(create_page())
    app.register_blueprint(openapi.create_blueprint())
    cors.register(app, settings.dashboard_cors_origins)
