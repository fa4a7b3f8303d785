"""Small words of JSON Schema that the shapes of the answers are written in."""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]

NUMBER: Final[Schema] = {"type": ["number", "null"]}
TEXT: Final[Schema] = {"type": "string"}
MAYBE_TEXT: Final[Schema] = {"type": ["string", "null"]}
FLAG: Final[Schema] = {"type": "boolean"}
MAYBE_FLAG: Final[Schema] = {"type": ["boolean", "null"]}
TIME: Final[Schema] = {"type": "string", "format": "date-time"}
MAYBE_TIME: Final[Schema] = {"type": ["string", "null"], "format": "date-time"}
TALLY: Final[Schema] = {
    "type": ["object", "null"],
    "additionalProperties": {"type": "number"},
    "description": "Counts by word, the largest first; `null` when the query failed.",
}
LABELS: Final[Schema] = {"type": "object", "additionalProperties": TEXT}


def ref(name: str) -> Schema:
    """A reference to a schema of this document."""
    return {"$ref": f"#/components/schemas/{name}"}


def shape(properties: Schema, *, optional: tuple[str, ...] = (), **more: Any) -> Schema:
    """An object that has these properties and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
        **more,
    }


def listed(items: Schema) -> Schema:
    """An array."""
    return {"type": "array", "items": items}
