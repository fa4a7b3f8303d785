"""`POST /api/alerts/webhook` for Alertmanager and `/runbooks` for people."""

from __future__ import annotations

import hmac
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final

from flask import Blueprint, Response, abort, request

from ..problem import Problem
from ..settings import Settings
from . import runbooks
from .log import AlertLog
from .logger import AlertLogger
from .webhook import MAX_BODY_BYTES, Alert, NotUnderstood, parse

# Pages without scripts, forms or frames, that load nothing: what a hostile runbook could do.
_PAGE_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'"


def create_blueprint(settings: Settings, alert_log: AlertLog) -> Blueprint:
    """The webhook, which keeps notifications in `alert_log`, and the runbooks."""
    blueprint = Blueprint("alerts", __name__)
    logger = AlertLogger()
    pages = runbooks.folder(settings.runbooks_dir)

    @blueprint.post("/api/alerts/webhook")
    def webhook() -> dict[str, int]:
        try:
            _authorize(settings.alert_webhook_token_file)
            return receive()
        except Problem as refusal:
            logger.rejected(refusal.code)
            raise

    def receive() -> dict[str, int]:
        counts = {"accepted": 0, "duplicates": 0, "rejected": 0}
        try:
            found = parse(_body())
            for reason in found:
                # The others of the group are still worth having.
                if isinstance(reason, NotUnderstood):
                    logger.rejected(str(reason))
                    counts["rejected"] += 1
            alerts = (alert for alert in found if isinstance(alert, Alert))
            with alert_log.receiving(alerts) as received:
                for alert, notification in received:
                    if notification == "duplicate":
                        counts["duplicates"] += 1
                    else:
                        logger.received(alert, notification)
                        counts["accepted"] += 1
        except NotUnderstood as error:
            raise Problem(400, "bad_request", f"{error}.") from None
        except sqlite3.Error:
            # Alertmanager tries 5xx again, so nothing is lost while the disk is full.
            raise Problem(503, "alert_log_unavailable", "Try again.") from None
        return counts

    @blueprint.get("/runbooks")
    def index() -> Response:
        return _html(runbooks.index(pages))

    @blueprint.get("/runbooks/<name>")
    def runbook(name: str) -> Response:
        page = runbooks.page(pages, name)
        return abort(404) if page is None else _html(page)

    return blueprint


def _authorize(token_file: Path | None) -> None:
    """Let the holder of the token pass. The file is read each time, so it can be rotated."""
    expected = b""
    if token_file is not None:
        with suppress(OSError):
            expected = token_file.read_bytes().strip()
    if not expected:
        raise Problem(
            503,
            "webhook_not_configured",
            "ALERT_WEBHOOK_TOKEN_FILE names no readable token, so no notification is taken.",
        )
    scheme, _, presented = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(presented.strip().encode(), expected):
        raise Problem(
            401,
            "unauthorized",
            "The bearer token is missing or wrong.",
            headers={"WWW-Authenticate": "Bearer"},
        )


def _body() -> bytes:
    """The body, never more of it than `MAX_BODY_BYTES`."""
    body = request.stream.read(MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        raise Problem(413, "too_large", "The notification is too large.")
    return bytes(body)


def _html(page: str) -> Response:
    response = Response(page, mimetype="text/html")
    response.headers["Content-Security-Policy"] = _PAGE_POLICY
    return response
