"""Every published event has a committed JSON Schema, and incompatible changes are detected."""

import copy
import json
from pathlib import Path

import pytest

from chassis.events.event import Event
from chassis.events.schemas import breaks, file_name, schema
from orders import events as orders
from payments import events as payments
from tests.contracts.events import PUBLISHED

COMMITTED = Path(__file__).parents[2] / "docs" / "events"


@pytest.mark.parametrize("event", PUBLISHED, ids=lambda event: event.topic)
def test_readers_of_the_committed_schema_can_read_what_is_published(event: type[Event]):
    committed = json.loads((COMMITTED / file_name(event)).read_text())
    assert breaks(committed, schema(event)) == [], "readers could not follow: give the event a new version"
    assert committed == schema(event), "the committed schema is old: run `make schemas`"


def test_every_committed_schema_is_of_an_event_or_of_an_older_version():
    known = {event.topic: event.version for event in PUBLISHED}
    for file in COMMITTED.glob("*.json"):
        topic, _, version = file.stem.rpartition(".v")
        assert int(version) <= known[topic], file.name


class TestBreaks:
    """The comparison of schemas: compatible and incompatible changes."""

    OLD = schema(orders.OrderCreated)

    def change(self, edit) -> list[str]:
        new = copy.deepcopy(self.OLD)
        edit(new)
        return breaks(self.OLD, new)

    def test_a_new_field_is_compatible(self):
        assert self.change(lambda s: s["properties"].update(currency={"type": "string"})) == []

    @pytest.mark.parametrize(
        ("edit", "said"),
        [
            (lambda s: s["required"].remove("userId"), "userId: was required"),
            (lambda s: s["properties"].pop("userId"), ""),
            (lambda s: s["properties"]["totalAmount"].update(type="string"), "totalAmount: was number, is string"),
            (lambda s: s["properties"]["orderId"].pop("format"), "orderId: format"),
            (lambda s: s["properties"]["totalAmount"].pop("minimum"), "totalAmount: minimum"),
            (lambda s: s["$defs"]["OrderedItem"]["required"].remove("price"), "items[].price: was required"),
            (lambda s: s["$defs"]["OrderedItem"]["properties"]["quantity"].update(type="number"), "items[].quantity"),
        ],
    )
    def test_incompatible_changes_are_detected(self, edit, said):
        new = copy.deepcopy(self.OLD)
        edit(new)
        if "userId" not in new["properties"]:
            new["required"].remove("userId")
            said = "userId: was required"
        assert any(said in line for line in breaks(self.OLD, new))

    def test_a_new_outcome_requires_a_new_version(self):
        old = schema(payments.PaymentCompleted)
        new = copy.deepcopy(old)
        new["properties"]["status"]["enum"].append("refunded")
        assert breaks(old, new) == ["payload.status: may now be refunded"]
