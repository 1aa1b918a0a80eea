"""Orders over HTTP."""

import re
import uuid

import pytest
from rest_framework.test import APIClient

from chassis.messaging.models import OutboxEvent
from orders import services
from orders.models import Order
from tests.orders.received import paid

pytestmark = pytest.mark.django_db(databases=["orders"])

TEA = {"productId": "tea-pot", "quantity": 2, "price": 19.99}
ORDER = {"userId": "u1", "items": [TEA]}


@pytest.fixture
def client():
    return APIClient(raise_request_exception=False)


def post(client, body):
    return client.post("/orders", body, format="json")


def test_create(client):
    answer = post(client, ORDER)

    assert answer.status_code == 201
    body = answer.json()
    assert list(body) == ["id", "userId", "items", "totalAmount", "status", "createdAt"]
    assert (body["userId"], body["items"], body["totalAmount"], body["status"]) == ("u1", [TEA], 39.98, "pending")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", body["createdAt"])
    assert answer["Location"] == f"/orders/{body['id']}"
    assert client.get(answer["Location"]).json() == body
    assert OutboxEvent.objects.get().topic == "order.created"


def test_money_is_a_number_with_two_decimals(client):
    answer = post(client, {"userId": "u1", "items": [{**TEA, "price": 0}, {**TEA, "price": 5}, {**TEA, "price": 0.1}]})

    prices = re.findall(rb'"price":([^}]+)}', answer.content)
    assert prices == [b"0.00", b"5.00", b"0.10"]
    assert b'"totalAmount":10.20,' in answer.content


def test_clients_cannot_set_total_and_status(client):
    body = post(client, {**ORDER, "totalAmount": 0.01, "status": "paid", "id": str(uuid.uuid4())}).json()

    assert (body["totalAmount"], body["status"]) == (39.98, "pending")


def test_the_outcome_of_the_payment_is_visible(client):
    url = post(client, ORDER)["Location"]
    services.close_orders([paid(Order.objects.get().id, payment_id=uuid.uuid4(), status="failed")])

    assert client.get(url).json()["status"] == "failed"


def test_the_largest_order_is_accepted(client):
    items = [{"productId": f"p{n}", "quantity": 1000, "price": 99999.99} for n in range(100)]

    answer = post(client, {"userId": "u" * 100, "items": items})

    assert answer.status_code == 201
    assert b'"totalAmount":9999999000.00' in answer.content


def test_only_the_orders_of_one_user(client):
    for user in ("u1", "u2", "u1"):
        post(client, {**ORDER, "userId": user})

    assert [order["userId"] for order in client.get("/orders?userId=u1").json()["results"]] == ["u1", "u1"]
    assert len(client.get("/orders").json()["results"]) == 3
    assert client.get("/orders?userId=nobody").json() == {"results": [], "next": None, "previous": None}


def test_pages_of_one_users_orders(client):
    for _ in range(3):
        post(client, ORDER)

    first = client.get("/orders?userId=u1&limit=2").json()

    assert "userId=u1" in first["next"]
    assert len(client.get(first["next"]).json()["results"]) == 1


@pytest.mark.parametrize("user_id", ["", "%00", "a%20b", "é", "x" * 101])
def test_an_invalid_user_id(client, user_id):
    answer = client.get(f"/orders?userId={user_id}")

    assert answer.status_code == 400
    assert list(answer.json()["errors"]) == ["userId"]


def item(**changes):
    return {**ORDER, "items": [{**TEA, **changes}]}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"items": [TEA]}, "userId"),
        ({**ORDER, "userId": "a\0b"}, "userId"),
        ({**ORDER, "userId": ""}, "userId"),
        ({**ORDER, "userId": 7}, "userId"),
        ({**ORDER, "userId": "x" * 101}, "userId"),
        ({"userId": "u1"}, "items"),
        ({**ORDER, "items": []}, "items"),
        ({**ORDER, "items": None}, "items"),
        ({**ORDER, "items": "tea"}, "items"),
        ({**ORDER, "items": {"0": TEA}}, "items"),
        ({**ORDER, "items": [TEA] * 101}, "items"),
        ({**ORDER, "items": [TEA, 7]}, "items.1"),
        ({**ORDER, "items": [TEA, None]}, "items.1"),
        ({**ORDER, "items": [TEA, {}]}, "items.1.productId"),
        (item(productId="a\0b"), "items.0.productId"),
        (item(productId=""), "items.0.productId"),
        (item(productId=None), "items.0.productId"),
        (item(quantity=0), "items.0.quantity"),
        (item(quantity=-1), "items.0.quantity"),
        (item(quantity=1001), "items.0.quantity"),
        (item(quantity=10**30), "items.0.quantity"),
        (item(quantity=1.5), "items.0.quantity"),
        (item(quantity="1"), "items.0.quantity"),
        (item(quantity=True), "items.0.quantity"),
        (item(price=-0.01), "items.0.price"),
        (item(price=0.001), "items.0.price"),
        (item(price=1e-300), "items.0.price"),
        (item(price=100000), "items.0.price"),
        (item(price=1e300), "items.0.price"),
        (item(price=10**300), "items.0.price"),
        (item(price="1.00"), "items.0.price"),
        (item(price=True), "items.0.price"),
        (item(price=None), "items.0.price"),
        (item(price=[]), "items.0.price"),
    ],
)
def test_invalid_input_is_reported_by_field(client, body, field):
    answer = post(client, body)

    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert field in answer.json()["errors"]
    assert not Order.objects.exists()


@pytest.mark.parametrize(
    ("written", "cents"),
    [
        ("19.990", 1999),
        ("19.99000000000000000000", 1999),
        ("0.1000000", 10),
        (f"1.{'0' * 5000}", 100),
        (f"0.{'0' * 5000}", 0),
        ("0e999999999", 0),
        ("1e1", 1000),
        ("125e-2", 125),
        ("-0.000", 0),
    ],
)
def test_equal_prices_are_equal_in_any_notation(client, written, cents):
    body = '{"userId":"u1","items":[{"productId":"x","quantity":1,"price":PRICE}]}'.replace("PRICE", written)
    answer = client.post("/orders", body, content_type="application/json")

    assert answer.status_code == 201
    assert f'"price":{cents // 100}.{cents % 100:02}'.encode() in answer.content


@pytest.mark.parametrize(
    "written",
    ["19.991", "0.1000001", f"1.{'0' * 5000}1", "1e-999999999", "0.00000000000000000000000000000000000000000001"],
)
def test_fractions_of_a_cent_are_invalid(client, written):
    body = '{"userId":"u1","items":[{"productId":"x","quantity":1,"price":PRICE}]}'.replace("PRICE", written)

    assert client.post("/orders", body, content_type="application/json").status_code == 400


@pytest.mark.parametrize("price", ["NaN", "Infinity", "-Infinity", "1e999", "1e999999999", "0x10", "1.", "9" * 5000])
@pytest.mark.parametrize("name", ["price", "quantity"])
def test_invalid_numbers(client, name, price):
    body = '{"userId":"u1","items":[{"productId":"x","quantity":1,"price":1,"NAME":PRICE}]}'
    answer = client.post("/orders", body.replace("NAME", name).replace("PRICE", price), content_type="application/json")

    assert answer.status_code == 400


def test_an_order_has_no_other_actions(client):
    url = post(client, ORDER)["Location"]

    for method in ("put", "patch", "delete", "post"):
        answer = getattr(client, method)(url, ORDER, format="json")
        assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD, OPTIONS")
