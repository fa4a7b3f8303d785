"""The Flask application: `create_app()` is what gunicorn loads in every worker."""

from __future__ import annotations

from flask import Flask, Response

from ..alerts import AlertLog
from ..alerts import create_blueprint as create_alerts_blueprint
from ..settings import Settings, get_settings
from ..telemetry import current_trace_id, instrument_app
from ..transcripts import create_pipeline
from ..transcripts.admission import Places
from ..transcripts.job_store import JobStore
from ..transcripts.jobs import JobRunner
from . import dashboard_api, health, jobs, problems, transcripts
from .auth import answer_to_own_names, create_transcript_guard


def create_app(settings: Settings | None = None) -> Flask:
    """Build the application, with the settings of the environment unless given.

    Raises:
        SettingsError: the environment holds a value that cannot be used.
    """
    settings = settings or get_settings()
    app = Flask("transcript_service")
    # A video may be named by a URL in the path, and `//` is part of it.
    app.url_map.merge_slashes = False
    app.json.sort_keys = False  # type: ignore[attr-defined]
    instrument_app(app, untraced=health.UNTRACED)
    problems.register(app)
    answer_to_own_names(app, settings)
    app.register_blueprint(health.create_blueprint(settings))
    pipeline, store = create_pipeline(settings), JobStore(settings)
    guard = create_transcript_guard(settings)
    places = Places(settings)
    for blueprint in (
        transcripts.create_blueprint(pipeline, store, places),
        jobs.create_blueprint(store),
    ):
        blueprint.before_request(guard)
        app.register_blueprint(blueprint)
    # Started by whoever serves (gunicorn_conf.py): an application that is only looked at,
    # as in tests, runs no threads.
    app.extensions["job_runner"] = JobRunner(settings, store, pipeline)
    alert_log = AlertLog(settings)
    app.register_blueprint(create_alerts_blueprint(settings, alert_log))
    dashboard_api.register(app, settings, history=alert_log.recent)

    @app.get("/")
    def front() -> Response:
        # Relative: no word of the request says where it leads.
        return Response(status=302, headers={"Location": "/dashboard"})

    @app.after_request
    def _correlate(response: Response) -> Response:
        response.headers["X-Correlation-ID"] = current_trace_id()
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        return response

    return app
