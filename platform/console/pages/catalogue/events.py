"""The events of the system: who publishes each, who consumes it, and its fields. AsyncAPI, rendered."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from console.pages.catalogue.schemas import Field, fields
from console.sources.events import Description, Event


@dataclass(frozen=True, slots=True)
class Reader:
    """A service that consumes an event, and the fields that it reads."""

    service: str
    event: Event
    reads: tuple[str, ...]


@dataclass(slots=True)
class Entry:
    """An event of the catalogue. The schema is the publisher's, or else that of its first reader."""

    name: str
    topic: str
    publishers: list[str] = field(default_factory=list)
    readers: list[Reader] = field(default_factory=list)
    event: Event | None = None

    @property
    def fields(self) -> list[Field]:
        """The fields of its payload."""
        return fields(self.event.schema) if self.event else []

    @property
    def schema_text(self) -> str:
        """Its JSON Schema as text."""
        return json.dumps(self.event.schema, indent=2) if self.event else ""


def entries(descriptions: Iterable[Description]) -> list[Entry]:
    """All events, sorted by name."""
    found: dict[str, Entry] = {}
    descriptions = tuple(descriptions)
    for one in descriptions:
        for event in one.publishes:
            entry = found.setdefault(event.topic, Entry(event.name, event.topic))
            entry.publishers.append(one.service)
            entry.event = entry.event or event
    for one in descriptions:
        for event in one.consumes:
            entry = found.setdefault(event.topic, Entry(event.name, event.topic))
            entry.readers.append(Reader(one.service, event, _names(event.schema)))
            entry.event = entry.event or event
    return sorted(found.values(), key=lambda entry: entry.name)


def _names(schema: dict[str, Any]) -> tuple[str, ...]:
    properties = schema.get("properties")
    return tuple(properties) if isinstance(properties, dict) else ()
