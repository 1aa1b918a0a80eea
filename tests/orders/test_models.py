"""The transitions of an order, and the constraints of the database."""

import uuid
from decimal import Decimal

import pytest
from django.db import IntegrityError, connections, transaction
from django.utils import timezone

from orders.models import WELCOME_ITEMS, IllegalTransition, Order, WelcomeOrder

ONE, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)
PENDING, PAID, FAILED = Order.Status


@pytest.mark.parametrize(
    ("now", "payment", "then", "by", "outcome"),
    [
        (PENDING, None, PAID, ONE, True),
        (PENDING, None, FAILED, ONE, True),
        (PAID, ONE, PAID, ONE, False),
        (FAILED, ONE, FAILED, ONE, False),
        (PENDING, None, PENDING, ONE, IllegalTransition),
        (PAID, ONE, PAID, OTHER, IllegalTransition),
        (PAID, ONE, FAILED, ONE, IllegalTransition),
        (PAID, ONE, FAILED, OTHER, IllegalTransition),
        (PAID, ONE, PENDING, ONE, IllegalTransition),
        (FAILED, ONE, PAID, ONE, IllegalTransition),
        (FAILED, ONE, FAILED, OTHER, IllegalTransition),
        (FAILED, ONE, PENDING, ONE, IllegalTransition),
    ],
)
def test_transitions(now, payment, then, by, outcome):
    order = Order(status=now, payment_id=payment)

    if outcome is IllegalTransition:
        with pytest.raises(IllegalTransition):
            order.settle(payment_id=by, status=then)
        assert (order.status, order.payment_id) == (now, payment)
    else:
        assert order.settle(payment_id=by, status=then) is outcome
        assert (order.status, order.payment_id) == (then, by)


def welcome(user_id: str) -> WelcomeOrder:
    return WelcomeOrder.of(user_id, timezone.now())


def test_the_welcome_order_of_a_user_is_deterministic():
    assert welcome("u1").id == welcome("u1").id != welcome("u2").id
    assert welcome("u1").items == [{"productId": "welcome-product", "quantity": 1, "price": Decimal("0.00")}]


@pytest.mark.django_db(databases=["orders"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "paid"},
        {"status": "failed"},
        {"status": "pending", "payment_id": ONE},
        {"status": "lost", "payment_id": ONE},
        {"total_amount": Decimal("-0.01")},
    ],
)
def test_the_database_rejects_invalid_orders(wrong):
    order = Order.of("u1", WELCOME_ITEMS)
    for name, value in wrong.items():
        setattr(order, name, value)

    with pytest.raises(IntegrityError), transaction.atomic(using="orders"):
        order.save()


@pytest.mark.django_db(databases=["orders"])
def test_the_database_rejects_a_second_welcome_order():
    Order.objects.add_welcome(["u1"])
    second = Order.of("u1", WELCOME_ITEMS, is_welcome=True)

    with pytest.raises(IntegrityError), transaction.atomic(using="orders"):
        second.save(force_insert=True)

    Order.of("u1", WELCOME_ITEMS).save()  # any number of others
    assert Order.objects.filter(user_id="u1").count() == 2


@pytest.mark.django_db(databases=["orders"])
def test_prices_survive_the_database_unchanged():
    items = [{"productId": "x", "quantity": 3, "price": Decimal("19.90")}]
    Order.of("u1", items).save()

    assert Order.objects.get().items == items
    assert str(Order.objects.get().items[0]["price"]) == "19.90"
    with connections["orders"].cursor() as cursor:
        cursor.execute(
            "SELECT jsonb_typeof(items), jsonb_typeof(items -> 0 -> 'price'), items #>> '{0,price}' FROM orders"
        )
        assert cursor.fetchone() == ("array", "number", "19.90")
