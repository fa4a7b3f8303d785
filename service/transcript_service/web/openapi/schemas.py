"""JSON Schema 2020-12 of the declared shapes, and an example of each, by pydantic."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson
from pydantic import TypeAdapter

Schema = dict[str, Any]
_REF: Final = "#/components/schemas/"
# How pydantic names a generic shape that is filled with another: `Block_Proxy_`.
_FILLED: Final = re.compile(r"\b(Block|InnerBlock|Part)_([A-Za-z]+)_")


def schemas_of(shapes: Iterable[Any]) -> tuple[dict[Any, Schema], dict[str, Schema]]:
    """The schema of each shape, and by name those that they refer to.

    Objects have the declared members and no others. Titles, which repeat the names, and
    defaults, which say nothing of an answer, go.
    """
    made, definitions = TypeAdapter.json_schemas(
        [(shape, "serialization", TypeAdapter(shape)) for shape in shapes],
        ref_template=_REF + "{model}",
    )
    return (
        {shape: _tidy(schema) for (shape, _), schema in made.items()},
        _tidy(definitions.get("$defs", {})),
    )


def parameters_of(asked: Any, path: str) -> list[Schema]:
    """OpenAPI's parameters from a shape: of the path, of the query, and headers in capitals."""
    schema = TypeAdapter(asked).json_schema()
    made = []
    for name, declared in schema.get("properties", {}).items():
        kinds = [kind for kind in declared.pop("anyOf", ()) if kind != {"type": "null"}]
        # What may be left out is `None` here, which no query string can say.
        member = declared | (kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {})
        if member.get("default", ...) is None:
            del member["default"]
        del member["title"]
        parameter: Schema = {"name": name, "in": "header" if name.istitle() else "query"}
        if f"{{{name}}}" in path:
            parameter |= {"in": "path", "required": True}
        if "description" in member:
            parameter["description"] = member.pop("description")
        found = member.pop("examples", None) or [member.get("default", example(member, {}))]
        made.append({**parameter, "schema": member, "example": found[0]})
    return made


def _tidy(schema: Any) -> Any:
    text = orjson.dumps(schema, option=orjson.OPT_NON_STR_KEYS).decode()
    return _closed(orjson.loads(_FILLED.sub(r"\2\1", text)))


def _closed(node: Any) -> Any:
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    schema = {
        key: value if key == "examples" else _closed(value)
        for key, value in node.items()
        if not (key == "title" and isinstance(value, str)) and (key != "default" or value)
    }
    if isinstance(schema.get("properties"), dict):
        schema.setdefault("additionalProperties", False)
    return schema


def example(schema: Mapping[str, Any], definitions: Mapping[str, Schema]) -> Any:
    """A value of the schema: the examples that its parts give, put together.

    A member that need not be there and has an empty list of examples is left out.
    """
    match schema:
        case {"examples": [first, *_]}:
            return first
        case {"$ref": name}:
            return example(definitions[name.removeprefix(_REF)], definitions)
        case {"anyOf": [first, *_]}:
            return example(first, definitions)
        case {"const": value} | {"enum": [value, *_]}:
            return value
        case {"type": "object", **more}:
            return {
                name: example(member, definitions)
                for name, member in more.get("properties", {}).items()
                if member.get("examples") != []
            }
        case {"type": "array"}:
            return [example(schema["items"], definitions)]
    return {"string": "…", "boolean": False}.get(schema.get("type", ""), 1)
