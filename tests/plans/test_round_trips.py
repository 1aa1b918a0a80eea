"""The statements and the round trips to PostgreSQL of each endpoint, and of a batch of the consumer and of the relay.

They are compared exactly: a statement more, or one that is no longer sent with another, is a regression of performance.
"""

import uuid
from typing import ClassVar

import pytest
from django.db import transaction
from rest_framework.test import APIClient

from chassis.consumer.database_transaction import DatabaseTransaction
from chassis.events import Event, Outgoing, publish_all
from chassis.events.envelope import seal
from chassis.events.registry import handlers
from chassis.health.heartbeat import Heartbeat
from chassis.kafka.records import Record
from chassis.messaging.models import OutboxEvent
from chassis.observability import correlation
from chassis.outbox.relay import Relay
from chassis.runtime.shutdown import Stop
from orders.models import Order
from payments.events import PaymentCompleted
from tests.chassis.support.kafka_helpers import new_topic
from tests.chassis.support.round_trips import check, round_trips
from tests.waiting import eventually
from users.events import UserCreated

USER = {"email": "ada@example.org", "name": "Ada Lovelace"}
ORDER = {"userId": "u", "items": [{"productId": "tea", "quantity": 2, "price": 19.99}]}

BEGIN = ("BEGIN",)
PREPARED = ("Bind",)
CLAIM = ("lock_timeout", "INSERT INTO idempotency_keys", "lock_timeout")
STORE = ("UPDATE idempotency_keys", "COMMIT")

in_users = pytest.mark.django_db(databases=["users"], transaction=True)


@pytest.fixture(autouse=True)
def as_in_production(settings):
    settings.OUTBOX_CHECK_KEYS = False


def send(method: str, path: str, body=None, status: int = 200, **headers: str) -> list[str]:
    """The round trips of a request, which has its connection and its prepared statements already."""
    client = APIClient(headers={name.replace("_", "-"): value for name, value in headers.items()})

    def work():
        response = getattr(client, method)(path, body, format="json")
        assert response.status_code == status, response.content

    return round_trips(work)


def created(path: str, body) -> str:
    return f"{path}/{APIClient().post(path, body, format='json').json()['id']}"


@in_users
class TestUsers:
    @pytest.fixture(autouse=True)
    def user(self) -> str:
        return created("/users", {**USER, "email": "other@example.org"})

    def test_read(self, user):
        send("get", user)
        check(send("get", user), PREPARED)

    def test_list(self):
        check(send("get", "/users"), ('FROM "users"',))

    def test_create(self):
        check(send("post", "/users", USER, 201), BEGIN, ("INSERT INTO users",), ("INSERT INTO outbox", "COMMIT"))

    def test_create_with_a_key_as_through_the_gateway(self):
        check(
            send("post", "/users", USER, 201, Idempotency_Key="k"),
            BEGIN,
            CLAIM,
            ("SAVEPOINT", "INSERT INTO users"),
            ("INSERT INTO outbox", "RELEASE", *STORE),
        )

    def test_a_repeat(self):
        send("post", "/users", USER, 201, Idempotency_Key="k")
        repeat = send("post", "/users", USER, 201, Idempotency_Key="k")
        check(repeat, BEGIN, CLAIM, ('FROM "idempotency_keys"',), ("COMMIT",))

    def test_a_taken_email(self):
        send("post", "/users", USER, 201)
        refused = send("post", "/users", USER, 409, Idempotency_Key="k")
        check(refused, BEGIN, CLAIM, ("SAVEPOINT", "INSERT INTO users"), ("ROLLBACK TO",), ("ROLLBACK",))

    def test_change(self, user):
        send("get", user)
        sent = send("patch", user, {"name": "Countess of Lovelace"})
        check(sent, PREPARED, BEGIN, ("FOR UPDATE",), ('UPDATE "users"',), ("COMMIT",))

    def test_replace_with_another_email(self, user):
        send("get", user)
        check(
            send("put", user, USER),
            PREPARED,
            BEGIN,
            ("FOR UPDATE",),
            ("INSERT INTO users",),
            ('DELETE FROM "users"',),
            ('UPDATE "users"',),
            ("COMMIT",),
        )

    def test_delete(self, user):
        send("get", user)
        check(send("delete", user, status=204), PREPARED, BEGIN, ("FOR UPDATE",), ('DELETE FROM "users"',), ("COMMIT",))


@pytest.mark.service("orders")
@pytest.mark.django_db(databases=["orders"], transaction=True)
class TestOrders:
    def test_read(self):
        order = created("/orders", ORDER)
        send("get", order)
        check(send("get", order), PREPARED)

    @pytest.mark.parametrize("query", ["", "?userId=u"])
    def test_list(self, query):
        created("/orders", ORDER)
        check(send("get", f"/orders{query}"), ('FROM "orders"',))

    def test_create_with_a_key_as_through_the_gateway(self):
        APIClient().get("/orders")
        check(
            send("post", "/orders", ORDER, 201, Idempotency_Key="k"),
            BEGIN,
            CLAIM,
            ("SAVEPOINT", 'INSERT INTO "orders"'),
            ("INSERT INTO outbox", "RELEASE", *STORE),
        )

    def test_an_event_makes_an_order_and_another_closes_it(self):
        check(
            consumed(registered("u-1")),
            BEGIN,
            ("INSERT INTO inbox",),
            ("SAVEPOINT", "INSERT INTO orders"),
            ("INSERT INTO outbox", "RELEASE", "COMMIT"),
        )
        [order] = Order.objects.all()
        check(
            consumed(paid(order)),
            BEGIN,
            ("INSERT INTO inbox",),
            ("SAVEPOINT", "FOR UPDATE"),
            ("UPDATE orders",),
            ("RELEASE", "COMMIT"),
        )

    def test_batches(self):
        check(
            consumed(*(registered(f"u-{number}") for number in range(500))),
            BEGIN,
            ("INSERT INTO inbox",),
            ("SAVEPOINT", "INSERT INTO orders"),
            ("COPY outbox",),
            ("CopyData",),
            ("RELEASE", "COMMIT"),
        )
        check(
            consumed(*map(paid, Order.objects.all())),
            BEGIN,
            ("INSERT INTO inbox",),
            ("SAVEPOINT", "FOR UPDATE"),
            ("UPDATE orders",),
            ("RELEASE", "COMMIT"),
        )


def registered(user_id: str) -> Outgoing:
    event = UserCreated(user_id=user_id, email="ada@example.org", name="Ada", created_at="2026-01-02T03:04:05Z")
    return Outgoing(event, user_id)


def paid(order: Order) -> Outgoing:
    event = PaymentCompleted(
        payment_id=str(uuid.uuid4()), order_id=str(order.id), user_id=order.user_id, amount=0, status="completed",
        completed_at="2026-01-02T03:04:05Z",
    )  # fmt: skip
    return Outgoing(event, str(order.id))


def consumed(*outgoing: Outgoing) -> list[str]:
    """The round trips of a batch of the consumer."""
    with correlation.bind_request_id("r"):
        batch = [
            Record(one.topic, 0, number, one.key.encode(), one.payload, [(n, v.encode()) for n, v in one.headers], 0)
            for number, one in enumerate(seal(outgoing))
        ]
    unit = DatabaseTransaction(None, handlers())
    return round_trips(lambda: unit.process(batch, {}))


class Noted(Event):
    """Something was noted."""

    topic: ClassVar[str] = "noted"


@in_users
@pytest.mark.parametrize("size", [1, 500])
def test_a_batch_of_the_relay(size, monkeypatch):
    """It takes the rows and marks them, apart from what happens once a second."""
    monkeypatch.setattr("chassis.outbox.floor.EVERY_SECONDS", 1e9)
    monkeypatch.setattr("chassis.outbox.relay.PING_SECONDS", 1e9)
    monkeypatch.setattr(Noted, "topic", new_topic("noted"))
    relay = Relay(Stop(), Heartbeat("test"))
    eventually(lambda: relay._run_once() or relay.active)
    try:
        with transaction.atomic(using="users"):
            publish_all(Outgoing(Noted(), "k") for _ in range(size))
        check(round_trips(relay._run_once), ("FROM outbox",), ("UPDATE outbox",))
        assert not OutboxEvent.objects.filter(sent_at=None).exists()
    finally:
        relay._close()
