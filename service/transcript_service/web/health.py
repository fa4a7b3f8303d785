"""Liveness and readiness.

Live means that the process answers. Ready means that it can do its work with what is its
own; it does not ask Prometheus or YouTube, because a service that leaves the load balancer
when its dashboard is down has made a small outage a large one. An absent Redis is named, and
nothing follows from it: every machine goes on alone.
"""

from __future__ import annotations

import os

from flask import Blueprint, Response, jsonify

from ..private_files import make_folder
from ..resilience.shared_redis import Shared, connect
from ..settings import Settings

# Asked every few seconds for ever, and never interesting as a trace; see `instrument_app`.
UNTRACED = ("/health/live", "/health/ready")


def create_blueprint(settings: Settings) -> Blueprint:
    blueprint = Blueprint("health", __name__, url_prefix="/health")
    redis = Shared(connect(settings), "health")

    @blueprint.get("/live")
    def live() -> Response:
        return jsonify(status="ok")

    @blueprint.get("/ready")
    def ready() -> tuple[Response, int]:
        checks = {"state_dir": _writable(settings)}
        ok = checks["state_dir"] == "ok"
        if settings.redis_url is not None:
            answers = redis.ask(lambda client: client.ping() is not None, False)
            checks["redis"] = "ok" if answers else "away"
        return jsonify(status="ok" if ok else "not_ready", checks=checks), 200 if ok else 503

    return blueprint


def _writable(settings: Settings) -> str:
    try:
        make_folder(settings.state_dir)
    except OSError:
        return "cannot be created"
    return "ok" if os.access(settings.state_dir, os.W_OK) else "not writable"
