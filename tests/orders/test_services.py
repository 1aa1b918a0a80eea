"""The use cases of orders, on the real database."""

import random
import threading
import uuid
from decimal import Decimal

import orjson
import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from chassis.messaging.models import InboxEvent, OutboxEvent
from orders import services
from orders.models import IllegalTransition, Order
from tests.orders.received import joined, paid

pytestmark = pytest.mark.django_db(databases=["orders"])

ITEMS = [{"productId": "x", "quantity": 3, "price": Decimal("19.99")}]


def test_a_new_order_and_its_event_are_committed_together():
    order = services.create_order(user_id="u1", items=ITEMS)

    event = OutboxEvent.objects.get()
    assert (event.topic, event.key) == ("order.created", str(order.id))
    assert b'"price":19.99' in bytes(event.payload)
    assert orjson.loads(bytes(event.payload)) == {
        "orderId": str(order.id),
        "userId": "u1",
        "items": [{"productId": "x", "quantity": 3, "price": 19.99}],
        "totalAmount": 59.97,
        "createdAt": order.created_at.isoformat().replace("+00:00", "Z"),
    }


def test_no_order_is_created_without_its_event(monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("the outbox is full")

    monkeypatch.setattr(services, "publish", fail)
    with pytest.raises(RuntimeError):
        services.create_order(user_id="u1", items=ITEMS)

    assert not Order.objects.exists()


class TestWelcome:
    def test_each_new_user_gets_one(self):
        services.make_welcome_orders([joined("u1", request_id="r1"), joined("u2", request_id="r2")])

        assert set(Order.objects.values_list("user_id", "status", "total_amount", "is_welcome")) == {
            ("u1", "pending", Decimal("0.00"), True),
            ("u2", "pending", Decimal("0.00"), True),
        }
        order = Order.objects.get(user_id="u1")
        event = OutboxEvent.objects.get(key=str(order.id))
        assert event.request_id == "r1"
        assert orjson.loads(bytes(event.payload))["items"] == [
            {"productId": "welcome-product", "quantity": 1, "price": 0.0}
        ]
        assert b'"totalAmount":0.00' in bytes(event.payload)
        assert orjson.loads(bytes(event.payload))["createdAt"] == order.created_at.isoformat().replace("+00:00", "Z")

    def test_fifty_events_of_one_user_create_one_order_caused_by_the_first(self):
        services.make_welcome_orders([joined("u1", request_id=f"r{number}") for number in range(50)])

        assert Order.objects.count() == 1
        assert OutboxEvent.objects.get().request_id == "r0"

    def test_a_replay_changes_and_publishes_nothing_regardless_of_the_inbox(self):
        services.make_welcome_orders([joined("u1")])
        InboxEvent.objects.all().delete()

        services.make_welcome_orders([joined("u1"), joined("u2")])

        assert Order.objects.count() == OutboxEvent.objects.count() == 2

    def test_not_even_after_payment(self):
        services.make_welcome_orders([joined("u1")])
        services.close_orders([paid(Order.objects.get().id, payment_id=uuid.uuid4())])

        services.make_welcome_orders([joined("u1")])

        assert Order.objects.get().status == "paid"
        assert OutboxEvent.objects.count() == 1

    def test_an_empty_batch_does_nothing(self):
        services.make_welcome_orders([])

        assert not Order.objects.exists()

    def test_a_batch_takes_few_statements(self, settings):
        settings.OUTBOX_CHECK_KEYS = False  # as in production
        batch = [joined(str(uuid.uuid4())) for _ in range(500)]
        with CaptureQueriesContext(connections["orders"]) as queries:
            services.make_welcome_orders(batch)

        assert Order.objects.count() == OutboxEvent.objects.count() == 500
        assert len(queries) <= 4, "savepoint, insert, copy, release"

    @pytest.mark.django_db(databases=["orders"], transaction=True)
    def test_concurrent_processes_create_each_order_once(self):
        users = [str(uuid.uuid4()) for _ in range(200)]
        failures = at_once(
            6, lambda: services.make_welcome_orders([joined(u) for u in random.sample(users, len(users))])
        )

        assert failures == []
        assert Order.objects.count() == OutboxEvent.objects.count() == 200


class TestClosing:
    def test_the_payment_decides_the_status(self):
        good, bad = (services.create_order(user_id="u1", items=ITEMS) for _ in range(2))
        one, other = uuid.uuid4(), uuid.uuid4()

        services.close_orders([paid(good.id, payment_id=one), paid(bad.id, payment_id=other, status="failed")])

        good.refresh_from_db()
        bad.refresh_from_db()
        assert (good.status, good.payment_id) == ("paid", one)
        assert (bad.status, bad.payment_id) == ("failed", other)
        assert good.items == ITEMS

    def test_duplicates_change_nothing(self):
        order = services.create_order(user_id="u1", items=ITEMS)
        payment = uuid.uuid4()

        services.close_orders([paid(order.id, payment_id=payment), paid(order.id, payment_id=payment)])
        services.close_orders([paid(order.id, payment_id=payment)])

        order.refresh_from_db()
        assert (order.status, order.payment_id) == ("paid", payment)

    @pytest.mark.parametrize("status", ["completed", "failed"])
    def test_a_second_payment_for_an_order_fails_with_its_whole_batch(self, status):
        order, innocent = (services.create_order(user_id="u1", items=ITEMS) for _ in range(2))
        payment = uuid.uuid4()
        services.close_orders([paid(order.id, payment_id=payment)])

        with pytest.raises(IllegalTransition):
            services.close_orders(
                [paid(innocent.id, payment_id=uuid.uuid4()), paid(order.id, payment_id=uuid.uuid4(), status=status)]
            )

        order.refresh_from_db()
        innocent.refresh_from_db()
        assert (order.status, order.payment_id, innocent.status) == ("paid", payment, "pending")

    def test_two_payments_in_one_batch_contradict_each_other(self):
        order = services.create_order(user_id="u1", items=ITEMS)

        with pytest.raises(IllegalTransition):
            services.close_orders([paid(order.id, payment_id=uuid.uuid4()), paid(order.id, payment_id=uuid.uuid4())])

    def test_an_unknown_order(self):
        with pytest.raises(services.UnknownOrder):
            services.close_orders([paid(uuid.uuid4(), payment_id=uuid.uuid4())])

    def test_a_batch_takes_few_statements(self, settings):
        settings.OUTBOX_CHECK_KEYS = False  # as in production
        services.make_welcome_orders([joined(str(uuid.uuid4())) for _ in range(500)])
        batch = [paid(order_id, payment_id=uuid.uuid4()) for order_id in Order.objects.values_list("id", flat=True)]
        with CaptureQueriesContext(connections["orders"]) as queries:
            services.close_orders(batch)

        assert Order.objects.filter(status="paid").count() == 500
        assert len(queries) <= 4, "savepoint, select, update, release"

    @pytest.mark.django_db(databases=["orders"], transaction=True)
    def test_processes_that_close_the_same_ones_at_once_do_not_deadlock(self):
        services.make_welcome_orders([joined(str(uuid.uuid4())) for _ in range(200)])
        ids = list(Order.objects.values_list("id", flat=True))
        payments = [paid(order_id, payment_id=uuid.uuid5(order_id, "payment")) for order_id in ids]

        failures = at_once(6, lambda: services.close_orders(random.sample(payments, len(payments))))

        assert failures == []
        assert Order.objects.filter(status="paid").count() == 200


def at_once(times, work):
    """Do the same in several threads at once; returns what went wrong."""
    failures = []
    start = threading.Barrier(times)

    def run():
        try:
            start.wait()
            work()
        except Exception as error:
            failures.append(error)
        finally:
            connections["orders"].close()

    threads = [threading.Thread(target=run) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures
