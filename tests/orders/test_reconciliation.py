"""Reconciliation: lost events are found, explained and repaired with the same id, and nothing else is reported."""

import io
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import orjson
import pytest
from confluent_kafka import Consumer, TopicPartition
from django.core.management import CommandError, call_command
from django.db.models.functions import Now

from chassis.deadletters.record import FailedRecord
from chassis.events.registry import Handler
from chassis.kafka import names, topic_reader
from chassis.messaging.models import InboxEvent, OutboxEvent
from chassis.reconciliation import republish
from chassis.reconciliation.reconciliation import (
    DECIDE,
    REPROCESS,
    REPUBLISH,
    WAIT,
    WAIT_FOR_READER,
    Finding,
    Period,
)
from orders import handlers, reconciliation, services
from orders.events import OrderCreated, PaymentCompleted, UserCreated
from orders.models import Order
from tests.chassis.support.kafka_helpers import make_topic, send, servers
from tests.orders.received import joined, paid

pytestmark = pytest.mark.django_db(databases=["orders"])

ITEMS = [{"productId": "x", "quantity": 3, "price": Decimal("19.99")}]


@dataclass
class Topics:
    """The topics of one test, and what is written on them."""

    created: str
    paid: str
    joined: str
    payer: str

    def publish(self, row: OutboxEvent) -> None:
        """What the relay does."""
        send(row.topic, (row.key.encode(), bytes(row.payload), [tuple(header) for header in row.headers]))
        OutboxEvent.objects.filter(pk=row.pk).update(sent_at=datetime.now(UTC))

    def pay(self, order: Order) -> None:
        """What payments does."""
        payload = {"paymentId": str(uuid.uuid4()), "orderId": str(order.id), "status": "completed"}
        send(self.paid, (str(order.id).encode(), orjson.dumps(payload), [("ce_id", str(uuid.uuid4()))]))

    def join(self, user_id: str) -> str:
        """What users does; returns the event's id."""
        event_id = str(uuid.uuid4())
        send(self.joined, (user_id.encode(), orjson.dumps({"userId": user_id}), [("ce_id", event_id)]))
        return event_id

    def dead_letter(self, topic: str, group: str, key: str) -> None:
        """What a consumer does that has tried often enough."""
        said = {"deadletter-group": group, "deadletter-reason": "handler", "deadletter-error": "ValueError: no"}
        send(names.dead_letter_topic(topic, group), (key.encode(), b"{}", list(said.items())))

    def work_off(self, topic: str, group: str, offset: int = 1000) -> None:
        """Commit offsets as if all of a topic had been consumed."""
        client = Consumer({**servers(), "group.id": group})
        client.commit(offsets=[TopicPartition(topic, number, offset) for number in range(3)], asynchronous=False)
        client.close()


@pytest.fixture(autouse=True)
def topics(monkeypatch) -> Topics:
    tag = uuid.uuid4().hex[:8]
    found = Topics(f"order.created-{tag}", f"payment.completed-{tag}", f"user.created-{tag}", f"payments-{tag}")
    for event, name in ((OrderCreated, found.created), (PaymentCompleted, found.paid), (UserCreated, found.joined)):
        monkeypatch.setattr(event, "topic", name)
        make_topic(name)
    for name in (
        names.dead_letter_topic(topic, group)
        for topic, group in ((found.created, found.payer), (found.paid, "orders"), (found.joined, "orders"))
    ):
        make_topic(name)
    monkeypatch.setattr(reconciliation, "PAYER", found.payer)
    known = {
        found.joined: Handler(UserCreated, handlers.welcome),
        found.paid: Handler(PaymentCompleted, handlers.close),
    }
    monkeypatch.setattr(republish, "handlers", lambda: known)
    return found


@pytest.fixture
def order() -> Order:
    return services.create_order(user_id="u1", items=ITEMS)


def find() -> list[Finding]:
    now = datetime.now(UTC)
    return list(reconciliation.find(Period(now - timedelta(hours=1), now + timedelta(minutes=1))))


def event_of(order: Order) -> OutboxEvent:
    return OutboxEvent.objects.get(event_id=services.created_id(order))


class TestUnpaidOrders:
    """An order that has been pending for too long."""

    def the(self, order: Order) -> Finding:
        [finding] = find()
        assert finding.what == f"payment of order {order.id}"
        return finding

    def test_an_event_whose_outbox_row_was_deleted_is_republished_with_the_same_id(self, order):
        lost = event_of(order)
        lost_payload, lost_id = bytes(lost.payload), lost.event_id
        OutboxEvent.objects.all().delete()

        finding = self.the(order)
        assert "neither in the outbox nor on its topic" in finding.where
        assert finding.remedy == REPUBLISH
        assert finding.repair()

        row = event_of(order)
        assert (row.event_id, bytes(row.payload), row.sent_at) == (lost_id, lost_payload, None)
        assert self.the(order).remedy == WAIT

    def test_an_event_in_the_outbox_is_only_waited_for(self, order):
        finding = self.the(order)
        assert "the relay has not sent it yet" in finding.where
        assert (finding.remedy, finding.repair) == (WAIT, None)

    def test_a_parked_event_needs_a_decision(self, order):
        OutboxEvent.objects.update(parked_at=datetime.now(UTC), parked_reason="too large")
        finding = self.the(order)
        assert "parked in the outbox" in finding.where
        assert "too large" in finding.where
        assert "manage.py parked" in finding.remedy
        assert finding.repair is None

    @pytest.mark.parametrize(("rule", "remedy"), [("wait", DECIDE), ("pass", WAIT)])
    def test_an_event_behind_a_parked_one_of_its_key_waits_for_the_same_decision(self, order, settings, rule, remedy):
        settings.OUTBOX_PARKED_KEY = rule
        row = event_of(order)
        values = {"topic": row.topic, "key": row.key, "payload": b"", "headers": [], "request_id": "r"}
        event_id = uuid.uuid4()
        OutboxEvent.objects.create(
            position=row.position - 1, event_id=event_id, parked_at=Now(), parked_reason="too large", **values
        )
        finding = self.the(order)
        assert (f"row {row.position - 1} of its key was parked: too large" in finding.where) == (rule == "wait")
        assert (finding.remedy, finding.repair) == (remedy, None)

    def test_a_discarded_event_is_not_republished(self, order):
        now = datetime.now(UTC)
        OutboxEvent.objects.update(parked_at=now, parked_reason="too large", discarded_at=now, discarded_by="ada")
        finding = self.the(order)
        assert "discarded from the outbox" in finding.where
        assert "by ada" in finding.where
        assert finding.repair is None

    def test_an_event_that_the_broker_lost_is_resent_from_its_row(self, order):
        OutboxEvent.objects.update(sent_at=datetime.now(UTC))
        finding = self.the(order)
        assert "but is not on its topic" in finding.where
        assert finding.repair()
        assert OutboxEvent.objects.get().sent_at is None

    def test_an_event_that_payments_has_not_reached(self, order, topics):
        topics.publish(event_of(order))
        finding = self.the(order)
        assert f"{topics.created}/" in finding.where
        assert f"{topics.payer} has not reached it yet: it has not begun" in finding.where
        assert (finding.remedy, finding.repair) == (WAIT_FOR_READER, None)

    def test_an_event_at_which_payments_stands_still(self, order, topics):
        """Its topic may be stopped: only the consumer knows, so the finding says where to look."""
        topics.publish(event_of(order))
        topics.work_off(topics.created, topics.payer, offset=0)
        finding = self.the(order)
        assert f"{topics.payer} has not reached it yet: it is at offset 0" in finding.where
        assert "has stopped the topic" in finding.remedy

    def test_an_event_that_payments_passed(self, order, topics):
        topics.publish(event_of(order))
        topics.work_off(topics.created, topics.payer)
        finding = self.the(order)
        assert f"{topics.payer} has passed it without publishing {topics.paid}" in finding.where
        assert finding.repair()
        assert event_of(order).sent_at is None

    def test_an_event_that_payments_dead_lettered(self, order, topics):
        topics.publish(event_of(order))
        topics.work_off(topics.created, topics.payer)
        topics.dead_letter(topics.created, topics.payer, str(order.id))
        finding = self.the(order)
        assert f"dead-lettered by {topics.payer} (handler: ValueError: no)" in finding.where
        assert f"--settings=settings.{topics.payer}" in finding.remedy
        assert finding.repair is None

    def test_a_redriven_event_is_not_reported_as_dead_lettered(self, order, topics):
        topics.dead_letter(topics.created, topics.payer, str(order.id))
        topics.publish(event_of(order))
        assert "has not reached it yet" in self.the(order).where

    def test_a_payment_that_orders_has_not_reached(self, order, topics):
        topics.publish(event_of(order))
        topics.pay(order)
        finding = self.the(order)
        assert f"{topics.paid}/" in finding.where
        assert "orders has not reached it yet" in finding.where
        assert (finding.remedy, finding.repair) == (WAIT_FOR_READER, None)

    def test_a_payment_that_orders_passed_is_reprocessed(self, order, topics):
        topics.pay(order)
        topics.work_off(topics.paid, "orders")
        finding = self.the(order)
        assert finding.remedy == REPROCESS
        assert finding.repair()
        order.refresh_from_db()
        assert order.status == "paid"
        assert find() == []

    def test_a_payment_that_orders_dead_lettered(self, order, topics):
        topics.pay(order)
        topics.work_off(topics.paid, "orders")
        topics.dead_letter(topics.paid, "orders", str(order.id))
        assert "dead-lettered by orders" in self.the(order).where

    @pytest.mark.parametrize(
        ("state", "where", "remedy"),
        [
            ({}, "waits in the outbox", WAIT),
            ({"parked_at": Now(), "parked_reason": "too large"}, "was parked in the outbox", DECIDE),
            ({"sent_at": Now()}, "was sent at", WAIT),
        ],
    )
    def test_a_payment_whose_dead_letter_is_in_the_outbox(self, order, topics, state, where, remedy):
        topics.pay(order)
        topics.work_off(topics.paid, "orders")
        [record] = topic_reader.scan([topics.paid])
        letter_id, letter_topic = FailedRecord(record, Exception(), 0).id, names.dead_letter_topic(topics.paid)
        values = {"topic": letter_topic, "key": "k", "payload": b"", "headers": [], "request_id": "r"}
        OutboxEvent.objects.create(event_id=letter_id, **values, **state)
        finding = self.the(order)
        assert f"was dead-lettered; {letter_topic} {where}" in finding.where
        assert (finding.remedy, finding.repair) == (remedy, None)

    def test_a_closed_or_recent_order_is_not_reported(self, order):
        now = datetime.now(UTC)
        assert list(reconciliation.find(Period(now - timedelta(hours=1), now - timedelta(minutes=1)))) == []
        services.close_orders([paid(order.id, payment_id=uuid.uuid4())])
        assert find() == []

    def test_a_late_repair_does_nothing(self, order):
        OutboxEvent.objects.all().delete()
        [finding] = find()
        services.close_orders([paid(order.id, payment_id=uuid.uuid4())])
        assert not finding.repair()
        assert not OutboxEvent.objects.exists()


class TestMissingWelcomeOrders:
    """A user with an event but without a welcome order."""

    def the(self, user_id: str) -> Finding:
        [finding] = find()
        assert finding.what == f"welcome order of user {user_id}"
        return finding

    def test_an_event_that_orders_has_not_reached(self, topics):
        topics.join("u-waits")
        finding = self.the("u-waits")
        assert "orders has not reached it yet" in finding.where
        assert finding.repair is None

    @pytest.mark.parametrize("known", [False, True], ids=["never seen", "in the inbox"])
    def test_an_event_that_orders_passed_is_reprocessed(self, topics, known):
        event_id = topics.join("u-lost")
        topics.work_off(topics.joined, "orders")
        if known:
            InboxEvent.objects.create(event_id=event_id, topic=topics.joined, key="u-lost", request_id="r")
        finding = self.the("u-lost")
        assert finding.remedy == REPROCESS
        assert finding.repair()

        order = Order.objects.get(user_id="u-lost", is_welcome=True)
        assert event_of(order).sent_at is None
        assert InboxEvent.objects.filter(event_id=event_id).exists()
        assert [found.what for found in find()] == [f"payment of order {order.id}"]

    def test_an_event_that_was_dead_lettered(self, topics):
        topics.join("u-dead")
        topics.work_off(topics.joined, "orders")
        topics.dead_letter(topics.joined, "orders", "u-dead")
        assert "dead-lettered by orders" in self.the("u-dead").where

    def test_users_with_a_welcome_order_are_not_reported(self, topics):
        topics.join("u-fine")
        services.make_welcome_orders([joined("u-fine")])
        assert [finding.what.split()[0] for finding in find()] == ["payment"]

    def test_unreadable_records_are_ignored(self, topics):
        send(topics.joined, (b"k", b"\xff junk", [("ce_id", "1")]))
        assert find() == []


class TestCommand:
    @staticmethod
    def run(*arguments: str) -> str:
        out = io.StringIO()
        call_command("reconcile", *arguments, stdout=out)
        return out.getvalue()

    def failing(self, *arguments: str) -> tuple[str, CommandError]:
        out = io.StringIO()
        with pytest.raises(CommandError) as caught:
            call_command("reconcile", *arguments, stdout=out)
        return out.getvalue(), caught.value

    def test_reports_nothing_found(self, order):
        assert self.run("--older-than", "60s") == "Nothing found.\n"

    def test_reports_findings_and_repairs_only_on_request(self, order):
        OutboxEvent.objects.all().delete()
        said, error = self.failing("--older-than", "0s")
        assert (str(error), error.returncode) == ("1 found.", 1)
        assert f"payment of order {order.id}: missing for " in said
        assert not OutboxEvent.objects.exists()

        said, error = self.failing("--older-than", "0s", "--republish")
        assert (str(error), error.returncode) == ("1 found, 1 republished.", 1)
        assert "republished" in said
        assert event_of(order)

    def test_a_failed_repair_is_reported(self, topics, monkeypatch):
        topics.join("u-lost")
        topics.work_off(topics.joined, "orders")

        def fail(*_: object) -> None:
            raise ValueError("no")

        broken: Callable[[], dict] = lambda: {topics.joined: Handler(UserCreated, fail)}  # noqa: E731
        monkeypatch.setattr(republish, "handlers", broken)
        said, error = self.failing("--older-than", "0s", "--republish")
        assert "not republished: ValueError: no" in said
        assert str(error) == "1 found, 0 republished."

    @pytest.mark.parametrize("arguments", [("--older-than", "soon"), ("--since", "2026-11-23T12:00:00")])
    def test_rejects_invalid_times(self, arguments):
        with pytest.raises(CommandError, match=r"not a duration|no time zone"):
            self.run(*arguments)

    def test_an_unavailable_broker_is_named(self, order, settings, monkeypatch):
        monkeypatch.setattr("chassis.kafka.topic_reader.PATIENCE_SECONDS", 1.0)
        settings.KAFKA_BOOTSTRAP_SERVERS = "127.0.0.1:1"
        _, error = self.failing("--older-than", "0s")
        assert "127.0.0.1:1" in str(error)
        assert error.returncode == 2
