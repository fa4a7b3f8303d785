"""A small Flask application for tests of workers: one request is one span tree, one count,
a measurement and three lines, with a hop through an executor."""

from __future__ import annotations

import gc
import os
from concurrent.futures import ThreadPoolExecutor

from flask import Flask, Response

from transcript_service.telemetry import (
    current_trace_id,
    get_logger,
    instrument_app,
    instruments,
    log_context,
    span,
)

log = get_logger("tests.telemetry_app")


def create_app() -> Flask:
    """What gunicorn loads."""
    app = Flask("tests.telemetry_app")
    instrument_app(app)
    pool = ThreadPoolExecutor(4)

    def elsewhere(number: str) -> None:
        with span("transcript.stage", stage="youtube_api", number=number):
            log.info("transcript.stage.finished", number=number)

    @app.get("/work/<number>")
    def work(number: str) -> Response:
        with log_context(video_id=number), span("transcript.fetch", number=number):
            pool.submit(elsewhere, number).result()
            instruments.TRANSCRIPT_REQUESTS.add(1, outcome="success", source="youtube_api")
            instruments.TRANSCRIPT_REQUEST_DURATION.record(0.01, outcome="success")
            log.info("transcript.request.finished", number=number)
        return Response(current_trace_id())

    @app.get("/cached")
    def cached() -> Response:
        with span("transcript.fetch", cached=True):
            instruments.TRANSCRIPT_REQUESTS.add(1, outcome="success", source="cache")
            instruments.TRANSCRIPT_REQUEST_DURATION.record(0.001, outcome="success", source="cache")
            log.info("transcript.request.finished", outcome="success", source="cache")
        return Response(b"x" * 2000)

    @app.get("/garbage")
    def garbage() -> dict[str, int]:
        """What a full collection leaves alone, and what it would look at."""
        return {"frozen": gc.get_freeze_count(), "looked_at": len(gc.get_objects())}

    @app.get("/fork")
    def fork() -> Response:
        """Fork without exec while this worker exports, as a careless library might."""
        child = os.fork()
        if child == 0:
            instruments.TRANSCRIPT_REQUESTS.add(1000, outcome="success", source="youtube_api")
            os._exit(0)
        os.waitpid(child, 0)
        return Response("forked")

    return app
