"""The event that the new service consumes, read from its JSON Schema in `docs/events/`."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic.alias_generators import to_camel

from scaffold.errors import ScaffoldError

FILE = re.compile(r"(?P<topic>[a-z0-9.-]+)\.v(?P<version>[0-9]+)\.json")


@dataclass(frozen=True, slots=True)
class Consumed:
    """An event, and the only field of it that the new service reads: the id of the event's subject."""

    topic: str
    version: int
    wire_name: str
    """The field's name on the wire: `orderId`."""
    is_uuid: bool

    @property
    def thing(self) -> str:
        """The subject of the event, as part of a Python name: `order` of `order.created`."""
        return _snake(self.topic.partition(".")[0])

    @property
    def snake(self) -> str:
        """The event as part of a Python name: `order_created`."""
        return _snake(self.topic)

    @property
    def event(self) -> str:
        """The name of the event class: `OrderCreated`."""
        return "".join(part.capitalize() for part in self.snake.split("_"))

    @property
    def field(self) -> str:
        """The field's name in Python: `order_id`."""
        return re.sub("([A-Z])", r"_\1", self.wire_name).lower()

    @property
    def type(self) -> str:
        """The field's type in Python."""
        return "uuid.UUID" if self.is_uuid else "str"

    @property
    def model_field(self) -> str:
        """The class of the model field that stores it."""
        return "UUIDField" if self.is_uuid else "TextField"

    @property
    def serializer_field(self) -> str:
        """The class of the serializer field that represents it."""
        return "UUIDField" if self.is_uuid else "CharField"

    @property
    def column(self) -> str:
        """The PostgreSQL type of its column."""
        return "uuid" if self.is_uuid else "text"


def _snake(name: str) -> str:
    return re.sub("[^a-z0-9]", "_", name)


def published(root: Path) -> dict[str, Path]:
    """The schema of the newest version of each published event, by topic."""
    newest: dict[str, tuple[int, Path]] = {}
    for path in (root / "docs" / "events").glob("*.json"):
        if found := FILE.fullmatch(path.name):
            version = int(found["version"])
            if version > newest.get(found["topic"], (0, path))[0]:
                newest[found["topic"]] = (version, path)
    return {topic: path for topic, (_, path) in sorted(newest.items())}


def read(topic: str, root: Path) -> Consumed:
    """The event of this topic. Raises ScaffoldError if there is none, or if the templates cannot read it."""
    known = published(root)
    if topic not in known:
        raise ScaffoldError(f"ON={topic}: there is no such event. Choose one of: {', '.join(known)}")
    path = known[topic]
    found = FILE.fullmatch(path.name)
    assert found
    name, is_uuid = _id(topic, json.loads(path.read_text(encoding="utf-8")))
    return Consumed(topic, int(found["version"]), name, is_uuid)


def _id(topic: str, schema: dict[str, Any]) -> tuple[str, bool]:
    """The required text field that identifies the subject: `orderId` of `order.created`, else the first id."""
    own = to_camel(f"{_snake(topic.partition('.')[0])}_id")
    required = schema.get("required", [])
    for name in (own, *required):
        field = schema["properties"].get(name, {})
        if name in required and field.get("type") == "string" and re.fullmatch("[a-z][A-Za-z0-9]*Id", name):
            return name, field.get("format") == "uuid"
    raise ScaffoldError(
        f"ON={topic}: its schema in docs/events/ has no required text field whose name ends in Id, such as {own!r}"
    )
