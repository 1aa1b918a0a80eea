"""A JSON Schema as the rows of a table: one for each field, those of nested objects under the path of their parent."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

DEEPEST, MOST = 6, 200
"""Maximum depth and number of the fields that are shown."""
LIMITS = (
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "pattern",
)


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a payload. `kind` is its type with format and limits."""

    path: str
    kind: str
    required: bool
    meaning: str


def fields(schema: dict[str, Any]) -> list[Field]:
    """The fields of a schema. What is not understood in it is left out."""
    definitions = schema.get("$defs")
    return list(islice(_fields(schema, definitions if isinstance(definitions, dict) else {}, "", DEEPEST), MOST))


def _fields(schema: dict[str, Any], definitions: dict[str, Any], above: str, depth: int) -> Iterator[Field]:
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict) or depth == 0:
        return
    for name, raw in properties.items():
        own = _resolved(raw, definitions)
        path = f"{above}{name}"
        is_required = isinstance(required, list) and name in required
        yield Field(path, _kind(own, definitions), is_required, str(own.get("description", "")))
        if "properties" in own:
            yield from _fields(own, definitions, f"{path}.", depth - 1)
        item = _resolved(own.get("items"), definitions)
        if "properties" in item:
            yield from _fields(item, definitions, f"{path}[].", depth - 1)


def _resolved(schema: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(schema, dict):
        return {}
    found = definitions.get(str(schema.get("$ref", "")).rpartition("/")[2])
    return {**found, **schema} if isinstance(found, dict) else schema


def _kind(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    if isinstance(schema.get("anyOf"), list):
        return " or ".join(_kind(_resolved(one, definitions), definitions) for one in schema["anyOf"])
    if isinstance(schema.get("enum"), list):
        return " | ".join(str(one) for one in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    kind = str(schema.get("type", "anything"))
    if kind == "array":
        kind = f"array of {_kind(_resolved(schema.get('items'), definitions), definitions)}"
    limits = [f"{name} {schema[name]}" for name in LIMITS if name in schema]
    return ", ".join([" ".join([kind, *filter(None, [str(schema.get("format", ""))])]), *limits])
