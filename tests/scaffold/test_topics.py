"""The event that a new service consumes, read from its published schema."""

import json

import pytest

from scaffold import topics
from scaffold.errors import ScaffoldError
from services.discovery import ROOT


@pytest.mark.parametrize(
    ("topic", "thing", "event", "property", "field", "type"),
    [
        ("order.created", "order", "OrderCreated", "orderId", "order_id", "uuid.UUID"),
        ("user.created", "user", "UserCreated", "userId", "user_id", "str"),
        ("payment.completed", "payment", "PaymentCompleted", "paymentId", "payment_id", "uuid.UUID"),
    ],
)
def test_the_events_of_this_repository(topic, thing, event, property, field, type):
    read = topics.read(topic, ROOT)

    assert (read.thing, read.event, read.wire_name, read.field) == (thing, event, property, field)
    assert (read.type, read.version, read.snake) == (type, 1, f"{thing}_{topic.partition('.')[2]}")


def schema(root, name: str, **properties: dict) -> None:
    folder = root / "docs" / "events"
    folder.mkdir(parents=True, exist_ok=True)
    required = [name for name, field in properties.items() if not field.pop("optional", False)]
    (folder / name).write_text(json.dumps({"properties": properties, "required": required}))


ID = {"type": "string", "format": "uuid"}


def test_the_newest_version(tmp_path):
    for version in (1, 10, 9):
        schema(tmp_path, f"thing.done.v{version}.json", thingId=ID)

    assert topics.read("thing.done", tmp_path).version == 10


def test_its_own_id_comes_before_others(tmp_path):
    schema(tmp_path, "thing.done.v1.json", userId=ID, thingId=ID)
    schema(tmp_path, "thing.lost.v1.json", finderId=ID, userId=ID)

    assert topics.read("thing.done", tmp_path).wire_name == "thingId"
    assert topics.read("thing.lost", tmp_path).wire_name == "finderId"


@pytest.mark.parametrize("field", [{"type": "integer"}, {**ID, "optional": True}, {"type": "array"}])
def test_an_event_without_an_id_field(tmp_path, field):
    schema(tmp_path, "thing.done.v1.json", thingId=field, note={"type": "string"})

    with pytest.raises(ScaffoldError, match="no required text field whose name ends in Id, such as 'thingId'"):
        topics.read("thing.done", tmp_path)
