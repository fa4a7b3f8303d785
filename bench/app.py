"""The service with one more route, which has everything measured so far counted and sent."""

from __future__ import annotations

from flask import Flask
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider


def create_app() -> Flask:
    """What gunicorn loads, whatever the kind of telemetry."""
    from transcript_service.web import create_app

    app = create_app()

    @app.get("/bench/collect")
    def collect() -> str:
        provider = metrics.get_meter_provider()
        if isinstance(provider, MeterProvider):
            provider.force_flush()
        return "collected"

    return app
