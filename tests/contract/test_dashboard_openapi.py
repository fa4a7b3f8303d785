"""The OpenAPI document: equal to the routes, and true of every answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from tests import dashboard_fakes as fakes
from tests.dashboard_fakes import FakeEngine, service
from transcript_service.settings import Settings
from transcript_service.web import create_app
from transcript_service.web.openapi import document
from transcript_service.web.tokens import SCOPES, TokenStore

# Pages for people, and their files, are no API.
NOT_API = re.compile(r"/static/|/dashboard|/api/docs|/runbooks")


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    engine = FakeEngine()
    engine.behave = fakes.valued("4.5")
    yield engine
    engine.close()


def test_the_document_has_exactly_the_routes_of_the_application(tmp_path: Path) -> None:
    app = create_app(Settings(state_dir=tmp_path))
    routed = {
        re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for rule in app.url_map.iter_rules()
        if not NOT_API.match(rule.rule) and not rule.defaults
    }
    assert routed == set(document()["paths"])


def test_every_operation_has_a_summary_an_id_of_its_own_and_an_answer() -> None:
    operations = [operation for path in document()["paths"].values() for operation in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids))
    assert all(operation["summary"] and operation["responses"] for operation in operations)


def test_every_reference_leads_somewhere() -> None:
    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"]
            for child in node.values():
                yield from references(child)
        elif isinstance(node, list):
            for child in node:
                yield from references(child)

    whole = document()
    for reference in references(whole):
        node = whole
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_the_readable_page_loads_nothing_from_elsewhere(engine: FakeEngine, tmp_path: Path) -> None:
    client = service(tmp_path, engine.url).test_client()
    page = client.get("/api/docs")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert addresses
    for address in addresses:
        assert address.startswith("/")
        assert client.get(address).status_code == 200


@pytest.mark.parametrize("name", ["index.html", "../__init__.py", "swagger-ui.js.map", "%2e%2e"])
def test_only_the_needed_files_of_the_package_are_served(
    engine: FakeEngine, tmp_path: Path, name: str
) -> None:
    assert (
        service(tmp_path, engine.url).test_client().get(f"/api/docs/swagger/{name}").status_code
        == 404
    )


# --- schemathesis -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def api(engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The document as schemathesis reads it, over an application that wants a token."""
    folder = tmp_path_factory.mktemp("guarded")
    _, text = TokenStore(folder / "tokens.json").create("a", SCOPES, timedelta(days=1))
    # the check of authentication presents wrong tokens all the time
    app = service(folder, engine.url, dashboard_auth_failures_per_minute=1_000_000)
    schema = schemathesis.openapi.from_wsgi("/api/openapi.json", app)
    # identity: its WSGI transport says that it takes gzip, but does not unpack it
    schema.config.update(headers={"Authorization": f"Bearer {text}", "Accept-Encoding": "identity"})
    return schema.include(path_regex="^/api/(dashboard|openapi)")


PATHS = [path for path in document()["paths"] if re.match("/api/(dashboard|openapi)", path)]


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("path", PATHS)
def test_every_answer_is_as_the_document_says(api: Any, path: str, mode: GenerationMode) -> None:
    """All checks, for data that the document allows and for data that it does not."""
    load_all_checks()
    operation = api[path]["GET"]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    def every(case: Any) -> None:
        case.call_and_validate(checks=CHECKS.get_all())

    if mode is GenerationMode.NEGATIVE and not operation.query and not operation.path_parameters:
        return  # nothing that could be wrong
    every()
