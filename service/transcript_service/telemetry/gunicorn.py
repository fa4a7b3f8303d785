"""Gunicorn's own messages on the service's log path."""

from __future__ import annotations

import logging
from typing import Any

from gunicorn.glogging import Logger


class GunicornLogger(Logger):  # type: ignore[misc] # gunicorn has no types
    """Send everything to the root logger, which writes it like any other record.

    Gunicorn would format lines itself and, given a dictConfig, disable loggers that exist.
    """

    def setup(self, cfg: Any) -> None:
        """Called at start and at every reload of the configuration."""
        self.cfg = cfg
        self._access_log_enabled = self._compute_access_log_enabled()
        self.loglevel = self.LOG_LEVELS.get(cfg.loglevel.lower(), logging.INFO)
        for log in (self.error_log, self.access_log):
            log.handlers.clear()
            log.propagate = True
            log.setLevel(self.loglevel)

    def warning(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """As ever, but what a client sent instead of a request is not repeated.

        Gunicorn quotes pieces of it, and masking does not know half of a line. The event
        `http.request.refused` says what was wrong.
        """
        if not str(msg).startswith("Invalid request from ip="):
            super().warning(msg, *args, **kwargs)
