"""The metrics of orders: what is counted is committed, and pending orders are found by an index."""

import uuid
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connections, transaction
from django.utils import timezone

from orders import metrics, services
from orders.models import Order
from tests.orders.received import joined, paid

pytestmark = pytest.mark.django_db(databases=["orders"], transaction=True)

ITEMS = [{"productId": "x", "quantity": 1, "price": Decimal("1.00")}]


def counted() -> dict[str, float]:
    return {status: metrics.ORDERS.labels(status)._value.get() for status in Order.Status.values}


@pytest.fixture
def since():
    """What has been counted since the test began."""
    before = counted()
    return lambda: {status: number - before[status] for status, number in counted().items()}


def measure() -> tuple[float, float]:
    with connections["orders"].cursor() as cursor:
        metrics.measure_pending(cursor)
    return metrics.PENDING._value.get(), metrics.OLDEST_PENDING._value.get()


class TestOrders:
    def test_an_order_enters_pending_and_then_its_outcome(self, since):
        first, second = (services.create_order(user_id="u1", items=ITEMS) for _ in range(2))
        services.make_welcome_orders([joined("u1"), joined("u2"), joined("u1")])
        assert since() == {"pending": 4, "paid": 0, "failed": 0}

        payment = uuid.uuid4()
        services.close_orders(
            [paid(first.id, payment_id=payment), paid(second.id, payment_id=payment, status="failed")]
        )
        assert since() == {"pending": 4, "paid": 1, "failed": 1}

        services.close_orders([paid(first.id, payment_id=payment)])
        services.make_welcome_orders([joined("u1")])
        assert since() == {"pending": 4, "paid": 1, "failed": 1}, "a duplicate changes nothing"

    def test_what_is_rolled_back_is_not_counted(self, since):
        with transaction.atomic(using="orders"):
            services.create_order(user_id="u1", items=ITEMS)
            services.make_welcome_orders([joined("u1")])
            transaction.set_rollback(True, using="orders")
        assert since() == {"pending": 0, "paid": 0, "failed": 0}


class TestPending:
    def test_number_and_age_of_the_oldest(self):
        assert measure() == (0, 0)
        order, _ = (services.create_order(user_id="u1", items=ITEMS) for _ in range(2))
        Order.objects.filter(pk=order.pk).update(created_at=timezone.now() - timedelta(hours=2))
        number, age = measure()
        assert number == 2
        assert 7_200 <= age < 9_000

        services.close_orders([paid(order.id, payment_id=uuid.uuid4())])
        number, age = measure()
        assert number == 1
        assert age < 1_000

    def test_more_than_are_counted(self, monkeypatch):
        monkeypatch.setattr(metrics, "COUNTED", 3)
        services.make_welcome_orders([joined(f"u{number}") for number in range(5)])
        assert measure()[0] == 3

    @pytest.mark.parametrize("query", [metrics.COUNT.replace("%s", "10000"), metrics.OLDEST])
    def test_only_the_index_of_pending_orders_is_read(self, query):
        with connections["orders"].cursor() as cursor:
            cursor.execute("SET enable_seqscan = off")  # as in the relay's session
            try:
                cursor.execute("EXPLAIN " + query)
                plan = "\n".join(line for (line,) in cursor.fetchall())
            finally:
                cursor.execute("RESET enable_seqscan")
        assert "orders_pending_by_age" in plan
        assert "Sort" not in plan
