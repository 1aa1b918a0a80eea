"""Orders in the admin: read-only."""

import uuid
from decimal import Decimal

import pytest
from django.contrib.auth.models import User as Person
from django.test import Client

from orders import services
from orders.models import Order
from tests.orders.received import paid

pytestmark = pytest.mark.django_db(databases=["orders"])


@pytest.fixture
def admin():
    client = Client()
    client.force_login(Person.objects.create_superuser("root", "root@example.org", "secret"))
    return client


@pytest.fixture
def order():
    return services.create_order(
        user_id="u1", items=[{"productId": "tea-pot", "quantity": 2, "price": Decimal("19.99")}]
    )


@pytest.mark.parametrize("query", ["?q=u1", "?status=pending", "?q=%00", "?o=3"])
def test_the_list(admin, order, query):
    page = admin.get(f"/admin/orders/order/{query}")

    assert page.status_code == 200
    assert str(order.id) in page.text


def test_an_order_with_its_items_status_and_payment(admin, order):
    payment = uuid.uuid4()
    services.close_orders([paid(order.id, payment_id=payment)])

    page = admin.get(f"/admin/orders/order/{order.id}/change/")

    for text in ("2 x tea-pot at 19.99", "39.98", "Paid", str(payment), "u1"):
        assert text in page.text
    assert '<input type="submit"' not in page.text


def test_found_by_its_payment(admin, order):
    payment = uuid.uuid4()
    services.close_orders([paid(order.id, payment_id=payment)])

    assert str(order.id) in admin.get(f"/admin/orders/order/?q={payment}").text


@pytest.mark.parametrize("path", ["add/", "{id}/change/", "{id}/delete/"])
def test_nothing_can_be_changed(admin, order, path):
    answer = admin.post(
        f"/admin/orders/order/{path.format(id=order.id)}", {"status": "paid", "user_id": "u2", "post": "yes"}
    )

    assert answer.status_code == 403
    assert list(Order.objects.values_list("status", "user_id")) == [("pending", "u1")]
