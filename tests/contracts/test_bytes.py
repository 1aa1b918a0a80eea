"""Each producer's real bytes go through each consumer's own model; a payload is exactly what the contract says."""

import json
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import jsonschema
import pytest

from chassis.events.envelope import Outgoing, seal, unseal
from chassis.events.event import Event
from chassis.events.schemas import schema
from chassis.kafka.records import Record
from orders import events as orders
from payments import events as payments
from users import events as users

NOW = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)
ID = uuid.UUID("00000000-0000-4000-8000-000000000001")
ITEM = {"product_id": "p-1", "quantity": 2, "price": Decimal("0.10")}

# What design and README promise, field by field: (writer, its payload on the wire, readers)
CONTRACTS: list[tuple[Event, dict[str, Any], list[type[Event]]]] = [
    (
        users.UserCreated(user_id=str(ID), email="ada@example.org", name="Ada", created_at=NOW),
        {"userId": str(ID), "email": "ada@example.org", "name": "Ada", "createdAt": "2026-01-02T03:04:05.678900Z"},
        [orders.UserCreated],
    ),
    (
        orders.OrderCreated(order_id=ID, user_id="u-1", items=[ITEM], total_amount=Decimal("0.20"), created_at=NOW),
        {
            "orderId": str(ID),
            "userId": "u-1",
            "items": [{"productId": "p-1", "quantity": 2, "price": 0.10}],
            "totalAmount": 0.20,
            "createdAt": "2026-01-02T03:04:05.678900Z",
        },
        [payments.OrderCreated],
    ),
    (
        payments.PaymentCompleted(
            payment_id=ID, order_id=ID, user_id="u-1", amount=Decimal("0.20"), status="completed", completed_at=NOW
        ),
        {
            "paymentId": str(ID),
            "orderId": str(ID),
            "userId": "u-1",
            "amount": 0.20,
            "status": "completed",
            "completedAt": "2026-01-02T03:04:05.678900Z",
        },
        [orders.PaymentCompleted],
    ),
]
IDS = [event.topic for event, _, _ in CONTRACTS]


def on_the_wire(event: Event) -> Record:
    [envelope] = seal([Outgoing(event, "key")])
    headers = [(name, value.encode()) for name, value in envelope.headers]
    return Record(envelope.topic, 0, 0, envelope.key.encode(), envelope.payload, headers, 0)


@pytest.mark.parametrize(("event", "payload", "readers"), CONTRACTS, ids=IDS)
class TestContract:
    def test_the_payload_is_exactly_this(self, event, payload, readers):
        assert json.loads(on_the_wire(event).value) == payload

    def test_the_payload_fits_its_published_schema(self, event, payload, readers):
        validator = jsonschema.Draft202012Validator(schema(type(event)), format_checker=jsonschema.FormatChecker())
        assert list(validator.iter_errors(json.loads(on_the_wire(event).value))) == []

    def test_each_reader_reads_it(self, event, payload, readers):
        record = on_the_wire(event)
        for reader in readers:
            read = unseal(record, reader).event
            for name in reader.model_fields:
                assert getattr(read, name) == getattr(event, name), name


def test_every_event_that_somebody_reads_has_a_contract():
    modules = [users, orders, payments]
    published = {event.topic for module in modules for event in module.PUBLISHES}
    assert published == set(IDS)
    read = {
        model.topic
        for module in modules
        for model in vars(module).values()
        if isinstance(model, type) and issubclass(model, Event) and model is not Event
    }
    assert read == published


def test_money_has_two_decimals_on_the_wire():
    record = on_the_wire(CONTRACTS[1][0])
    assert b'"totalAmount":0.20' in record.value
    assert b'"price":0.10' in record.value
