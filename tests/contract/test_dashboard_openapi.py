"""The OpenAPI document: equal to the routes, with examples that are true, and readable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator

from tests import dashboard_fakes as fakes
from tests.dashboard_fakes import FakeEngine, service
from transcript_service.dashboard.board import SCOPE_OF
from transcript_service.settings import Settings
from transcript_service.web import create_app
from transcript_service.web.openapi import document

# Pages for people, and their files, are no API.
NOT_API = re.compile(r"/static/|/dashboard|/api/docs|/$")


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
        assert _resolved({"$ref": reference}, whole)


def _resolved(node: Any, whole: dict[str, Any]) -> Any:
    if "$ref" not in node:
        return node
    found: Any = whole
    for part in node["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found


def _examples() -> Iterator[tuple[str, Any, Any]]:
    """Where it stands, its schema and the example, of every parameter and every body."""
    whole = document()
    for path, operations in whole["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                where = f"{path} {parameter['name']}"
                values = [example["value"] for example in parameter.get("examples", {}).values()]
                for value in [parameter["example"]] if "example" in parameter else values or [None]:
                    yield where, parameter["schema"], value
            bodies = {"request": operation.get("requestBody", {}), **operation["responses"]}
            for name, body in bodies.items():
                for media, content in _resolved(body, whole).get("content", {}).items():
                    yield f"{path} {name} {media}", content["schema"], content.get("example")


@pytest.mark.parametrize(
    ("schema", "example"),
    [pytest.param(schema, example, id=where) for where, schema, example in _examples()],
)
def test_every_parameter_and_body_has_an_example_that_is_as_its_schema_says(
    schema: Any, example: Any
) -> None:
    assert example is not None
    validator = Draft202012Validator(
        {**schema, "components": document()["components"]}, validate_formats=True
    )
    assert [f"{e.instance_path}: {e.message}" for e in validator.iter_errors(example)] == []


def test_the_document_is_not_sent_again_to_those_who_have_it(
    engine: FakeEngine, tmp_path: Path
) -> None:
    client = service(tmp_path, engine.url).test_client()
    first = client.get("/api/openapi.json", headers={"Accept-Encoding": "gzip"})
    again = client.get("/api/openapi.json", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


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


def test_the_page_reads_only_what_the_answers_have() -> None:
    """Names of the API are in snake case, those of JavaScript are not."""
    declared = {
        name
        for schema in document()["components"]["schemas"].values()
        for name in schema.get("properties", {})
    } | set(SCOPE_OF)
    folder = files("transcript_service.dashboard.page").joinpath("static")
    read = {
        name: file.name
        for file in folder.iterdir()
        if file.name.endswith(".js")
        for name in re.findall(
            r"\.([a-z]+_[a-z0-9_]+)\b(?!\()", re.sub(r'"[^"\n]*"', "", file.read_text("utf-8"))
        )
    }
    assert len(read) > 20
    assert {name: where for name, where in read.items() if name not in declared} == {}
