"""JSON Schema 2020-12 of the declared shapes, and an example of each, by pydantic."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson
from pydantic import TypeAdapter

Schema = dict[str, Any]
_REF: Final = "#/components/schemas/"
# How pydantic names a generic shape that is filled with another: `OuterBlock_Proxy_`.
_FILLED: Final = re.compile(r"(Outer|Inner)Block_([A-Za-z]+)_")


def schemas_of(shapes: Iterable[type]) -> tuple[dict[type, Schema], dict[str, Schema]]:
    """The schema of each shape, and by name those that they refer to.

    Objects have the declared members and no others. Titles, which repeat the names, go.
    """
    made, definitions = TypeAdapter.json_schemas(
        [(shape, "validation", TypeAdapter(shape)) for shape in shapes],
        ref_template=_REF + "{model}",
    )
    return (
        {shape: _tidy(schema) for (shape, _), schema in made.items()},
        _tidy(definitions.get("$defs", {})),
    )


def _tidy(schema: Any) -> Any:
    text = orjson.dumps(schema, option=orjson.OPT_NON_STR_KEYS).decode()
    return _closed(orjson.loads(_FILLED.sub(_named, text)))


def _named(found: re.Match[str]) -> str:
    return f"{found[2]}{'Block' if found[1] == 'Outer' else 'InnerBlock'}"


def _closed(node: Any) -> Any:
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    schema = {
        key: value if key == "examples" else _closed(value)
        for key, value in node.items()
        if not (key == "title" and isinstance(value, str))
    }
    if isinstance(schema.get("properties"), dict):
        schema.setdefault("additionalProperties", False)
    return schema


def example(schema: Mapping[str, Any], definitions: Mapping[str, Schema]) -> Any:
    """A value of the schema: the examples that its parts give, put together.

    A member that need not be there and has an empty list of examples is left out.
    """
    if "examples" in schema:
        return schema["examples"][0]
    if "$ref" in schema:
        return example(definitions[schema["$ref"].removeprefix(_REF)], definitions)
    if "anyOf" in schema:
        return example(schema["anyOf"][0], definitions)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            members = schema.get("properties", {})
            return {
                name: example(member, definitions)
                for name, member in members.items()
                if member.get("examples") != []
            }
        case "array":
            return [example(schema["items"], definitions)]
        case "string":
            return "…"
        case "boolean":
            return False
        case _:
            return 1
