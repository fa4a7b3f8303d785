"""Alertmanager's notifications: received, logged, counted and remembered; and the runbooks."""

from .log import Alert, AlertLog, Notification
from .routes import create_blueprint

__all__ = ["Alert", "AlertLog", "Notification", "create_blueprint"]
