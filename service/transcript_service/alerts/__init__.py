"""Alertmanager's notifications: received, logged, counted and remembered; and the runbooks."""

from .log import AlertLog, Notification
from .logger import AlertLogger
from .routes import create_blueprint
from .webhook import Alert

__all__ = ["Alert", "AlertLog", "AlertLogger", "Notification", "create_blueprint"]
