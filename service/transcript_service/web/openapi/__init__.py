"""The OpenAPI 3.1 document of the service, and a page to read it.

Its schemas and examples are made from the shapes that the answers are declared with, its
operations are a table. The page is Swagger UI, whose files the `flask-swagger-ui` package
ships.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any, Final

import orjson
from flask import Blueprint, Response, abort, render_template, request, send_file

from ... import __version__
from ...problem import MEDIA_TYPE
from .paths import TRACE_ID_HEADER, paths_and_schemas
from .schemas import example

_DESCRIPTION: Final = """\
Transcripts of YouTube videos, and what the service that fetches them is doing.

Every error is `application/problem+json` (RFC 9457) with a stable `code` and the `trace_id`
of the request, which is also in the header `X-Correlation-ID` of every answer. Durations
are seconds, times are RFC 3339 in UTC, and what is not known is `null`, never 0.
"""
# Swagger UI sets style attributes on the elements it draws, hence the one exception.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SWAGGER_FILES: Final = ("swagger-ui.css", "swagger-ui-bundle.js")


@cache
def document() -> dict[str, Any]:
    """The document. Made at the first use, because it takes some tens of milliseconds."""
    paths, schemas = paths_and_schemas()
    problem = {"$ref": "#/components/schemas/Problem"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Transcript service",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": "transcripts", "description": "The work."},
            {"name": "dashboard", "description": "How it is going: named queries, asked for you."},
            {"name": "alerts", "description": "For Alertmanager."},
            {"name": "health", "description": "For load balancers and process managers."},
        ],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {
                "Problem": {
                    "description": "It did not work; `code` says why.",
                    "headers": {
                        "X-Correlation-ID": TRACE_ID_HEADER,
                        "Retry-After": {
                            "description": "Seconds after which trying again makes sense.",
                            "schema": {"type": "integer"},
                        },
                    },
                    "content": {
                        MEDIA_TYPE: {"schema": problem, "example": example(problem, schemas)}
                    },
                }
            },
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`transcript-service token create NAME`, in the checkout or "
                    "with the service's `STATE_DIR`. The stack of `make up` lets its own machine "
                    "in until one was made.",
                },
                "webhookToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "What `ALERT_WEBHOOK_TOKEN_FILE` holds.",
                },
            },
        },
    }


def create_blueprint() -> Blueprint:
    blueprint = Blueprint(
        "openapi",
        __name__,
        url_prefix="/api",
        template_folder="templates",
        static_folder="static",
        static_url_path="/docs/own",
    )

    @blueprint.get("/openapi.json")
    def openapi() -> Response:
        response = Response(orjson.dumps(document()), mimetype="application/json")
        response.headers["Cache-Control"] = "no-cache"
        response.add_etag()
        response.make_conditional(request)
        return response

    @blueprint.get("/docs")
    def docs() -> Response:
        response = Response(render_template("docs.html"), mimetype="text/html")
        response.headers["Content-Security-Policy"] = _POLICY
        return response

    @blueprint.get("/docs/swagger/<name>")
    def swagger(name: str) -> Response:
        if name not in _SWAGGER_FILES:
            abort(404)
        return send_file(str(files("flask_swagger_ui").joinpath("dist", name)), max_age=3600)

    return blueprint
