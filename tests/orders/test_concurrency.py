"""Concurrent use cases of orders, with the check for publishing without a lock (OUTBOX_CHECK_KEYS)."""

import random
import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from django.conf import settings
from django.db import connections

from chassis.messaging.models import OutboxEvent
from orders import services
from orders.models import Order
from tests.orders.received import joined, paid

pytestmark = pytest.mark.django_db(databases=["orders"], transaction=True)

THREADS = 6


def side_by_side(work) -> list:
    """Call it in threads with connections of their own, by their numbers; raises what one of them raises."""

    def one(number: int):
        try:
            return work(number)
        finally:
            connections["orders"].close()

    assert settings.OUTBOX_CHECK_KEYS
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, range(THREADS)))


def test_consumers_that_process_the_same_users():
    """As one that was frozen and its successor: each user's order is published about by the one that has made it."""
    users = [str(uuid.uuid4()) for _ in range(100)]

    def welcome(number: int) -> None:
        mine = random.Random(number).sample(users, len(users))
        for start in range(0, len(mine), 20):
            services.make_welcome_orders([joined(user_id) for user_id in mine[start : start + 20]])

    side_by_side(welcome)
    orders = {str(order_id) for order_id in Order.objects.values_list("id", flat=True)}
    assert len(orders) == len(users)
    assert sorted(OutboxEvent.objects.values_list("key", flat=True)) == sorted(orders)


def test_an_order_that_is_republished_and_settled_at_once():
    items = [{"productId": "x", "quantity": 1, "price": Decimal("1.00")}]
    order = services.create_order(user_id="u1", items=items)
    OutboxEvent.objects.all().delete()
    payment = uuid.uuid4()

    def work(number: int) -> bool | None:
        if number % 2:
            return services.republish_created(order_id=order.id)
        return services.close_orders([paid(order.id, payment_id=payment)])

    published = [done for done in side_by_side(work) if done]
    assert Order.objects.get().status == "paid"
    assert OutboxEvent.objects.count() == len(published) <= 1
