"""Properties of money, from the body of a request to the event, to the database and back."""

import json
from decimal import Decimal

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient

from chassis.messaging.models import OutboxEvent
from orders.models import Order

pytestmark = pytest.mark.django_db(databases=["orders"])

slow = settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
cents = st.integers(min_value=0, max_value=9_999_999)
items = st.lists(st.tuples(st.integers(min_value=1, max_value=1000), cents), min_size=1, max_size=100)


def send(client, text):
    return client.post("/orders", text, content_type="application/json")


@slow
@given(lines=items)
def test_the_total_is_exact_everywhere(lines):
    written = ",".join(
        f'{{"productId":"p","quantity":{quantity},"price":{price // 100}.{price % 100:02}}}'
        for quantity, price in lines
    )
    total = sum(quantity * price for quantity, price in lines)
    text = f"{total // 100}.{total % 100:02}".encode()

    answer = send(APIClient(), f'{{"userId":"u1","items":[{written}]}}')

    assert answer.status_code == 201
    assert b'"totalAmount":%b,' % text in answer.content
    order = Order.objects.get(pk=answer.json()["id"])
    assert order.total_amount == Decimal(text.decode())
    assert [item["price"] for item in order.items] == [Decimal(price).scaleb(-2) for _, price in lines]
    payload = bytes(OutboxEvent.objects.get(key=str(order.id)).payload)
    assert b'"totalAmount":%b,' % text in payload
    assert orjson.loads(payload)["items"] == answer.json()["items"]


@slow
@given(price=st.decimals(allow_nan=False, allow_infinity=False) | st.integers().map(Decimal))
def test_only_amounts_of_money_are_valid_prices(price):
    answer = send(APIClient(), f'{{"userId":"u1","items":[{{"productId":"p","quantity":1,"price":{price}}}]}}')

    _, _, exponent = price.as_tuple()
    if answer.status_code == 201:
        assert 0 <= price <= Decimal("99999.99")
        assert Decimal(json.loads(answer.content, parse_float=Decimal)["totalAmount"]) == price
        assert b"-" not in answer.content.partition(b'"totalAmount":')[2].partition(b",")[0]
    else:
        assert answer.status_code == 400
        assert not (0 <= price <= Decimal("99999.99")) or exponent < -2 or "E" in str(price)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
lines = st.fixed_dictionaries({}, optional={"productId": json_values, "quantity": json_values, "price": json_values})


@slow
@given(user=json_values | st.just("u1"), ordered=st.lists(lines | json_values, max_size=3) | json_values)
def test_no_input_is_a_server_error(user, ordered):
    try:
        body = orjson.dumps({"userId": user, "items": ordered})
    except TypeError:  # a lone surrogate, or an integer that orjson does not write
        body = json.dumps({"userId": user, "items": ordered}).encode()

    assert send(APIClient(raise_request_exception=False), body).status_code in {201, 400}
