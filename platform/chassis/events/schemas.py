"""The JSON Schema of an event, generated from its model. A test compares it with the committed one in docs/events/."""

from typing import Any

from chassis.events.envelope import SCHEMA
from chassis.events.event import Event

Schema = dict[str, Any]


def file_name(event: type[Event]) -> str:
    """The name of the file in docs/events/ that contains an event's schema."""
    return f"{event.topic}.v{event.version}.json"


def schema(event: type[Event]) -> Schema:
    """The JSON Schema of an event's payload on Kafka."""
    made = event.model_json_schema(by_alias=True, mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA.format(topic=event.topic, version=event.version),
        **made,
    }


def breaks(old: Schema, new: Schema) -> list[str]:
    """The changes in `new` that break a reader of `old`, one line each; empty if there are none.

    A writer may add a field, or restrict one. It may not remove a field, make it optional, or allow values that were not
    allowed before: that requires a new version beside the old one.
    """
    return _breaks(old, new, old.get("$defs", {}), new.get("$defs", {}), "payload")


def _breaks(old: Schema, new: Schema, old_defs: Schema, new_defs: Schema, at: str) -> list[str]:
    old, new = _resolve(old, old_defs), _resolve(new, new_defs)
    found = []
    if old.get("type") != new.get("type") and not (old.get("type") == "number" and new.get("type") == "integer"):
        found.append(f"{at}: was {old.get('type')}, is {new.get('type')}")
    if old.get("format") != new.get("format"):
        found.append(f"{at}: format was {old.get('format')}, is {new.get('format')}")
    if "enum" in old and (more := set(new.get("enum", ["anything"])) - set(old["enum"])):
        found.append(f"{at}: may now be {', '.join(sorted(map(str, more)))}")
    found += _wider(old, new, at)
    found += [f"{at}.{name}: was required" for name in old.get("required", []) if name not in new.get("required", [])]
    for name, field in old.get("properties", {}).items():
        if name in new.get("properties", {}):
            found += _breaks(field, new["properties"][name], old_defs, new_defs, f"{at}.{name}")
        elif name not in old.get("required", []):
            found.append(f"{at}.{name}: was removed")
    if "items" in old:
        found += _breaks(old["items"], new.get("items", {}), old_defs, new_defs, f"{at}[]")
    return found


BOUNDS = (("maximum", min), ("maxLength", min), ("maxItems", min), ("minimum", max), ("minItems", max))


def _wider(old: Schema, new: Schema, at: str) -> list[str]:
    return [
        f"{at}: {keyword} was {old[keyword]}, is {new.get(keyword)}"
        for keyword, narrower in BOUNDS
        if keyword in old and (keyword not in new or narrower(old[keyword], new[keyword]) != new[keyword])
    ]


def _resolve(schema: Schema, defs: Schema) -> Schema:
    reference = schema.get("$ref")
    return defs[reference.rpartition("/")[2]] if reference else schema
