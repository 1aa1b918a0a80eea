"""Each consumer's model can read the bytes of each producer; a payload is exactly as in the contract."""

import json

import jsonschema
import pytest

from chassis.events.envelope import Outgoing, seal, unseal
from chassis.events.event import Event
from chassis.events.schemas import schema
from chassis.kafka.records import Record
from tests.contracts.events import PUBLISHED, contracts, readers
from tests.orders.contract import CONTRACTS as ORDERS

CONTRACTS = contracts()
IDS = [event.topic for event, _ in CONTRACTS]


def on_the_wire(event: Event) -> Record:
    [envelope] = seal([Outgoing(event, "key")])
    headers = [(name, value.encode()) for name, value in envelope.headers]
    return Record(envelope.topic, 0, 0, envelope.key.encode(), envelope.payload, headers, 0)


@pytest.mark.parametrize(("event", "payload"), CONTRACTS, ids=IDS)
class TestContract:
    def test_the_payload_is_exactly_this(self, event, payload):
        assert json.loads(on_the_wire(event).value) == payload

    def test_the_payload_fits_its_published_schema(self, event, payload):
        validator = jsonschema.Draft202012Validator(schema(type(event)), format_checker=jsonschema.FormatChecker())
        assert list(validator.iter_errors(json.loads(on_the_wire(event).value))) == []

    def test_each_reader_can_read_it(self, event, payload):
        record = on_the_wire(event)
        for reader in readers():
            if reader.topic != event.topic:
                continue
            read = unseal(record, reader).event
            for name in reader.model_fields:
                assert getattr(read, name) == getattr(event, name), name


def test_every_event_has_a_contract_and_every_read_event_a_publisher():
    published = {event.topic for event in PUBLISHED}
    assert published == set(IDS)
    assert {"user.created", "order.created", "payment.completed"} <= {model.topic for model in readers()} <= published


def test_money_has_two_decimals_on_the_wire():
    [(event, _)] = ORDERS
    record = on_the_wire(event)
    assert b'"totalAmount":0.20' in record.value
    assert b'"price":0.10' in record.value
