"""Orders as JSON."""

from decimal import Decimal

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from chassis.http.fields import IntegerField, MoneyField, TokenField
from chassis.http.serializers import Serializer
from orders.models import Order

MAX_ITEMS = 100
MAX_QUANTITY = 1_000
MAX_PRICE = Decimal("99999.99")
"""100 items of 1,000 at 99,999.99 cost 9,999,999,000.00, so every total fits its column."""

ORDERED = {
    "userId": "8f14e45f-ceea-467f-9d2c-1e2b6f0f3a55",
    "items": [{"productId": "tea-pot", "quantity": 2, "price": 19.99}],
}


class ItemSerializer(Serializer):
    """One line of an order."""

    productId = TokenField()
    quantity = IntegerField(min_value=1, max_value=MAX_QUANTITY)
    price = MoneyField(max_value=MAX_PRICE, help_text="Price of one unit, with at most two decimals.")


@extend_schema_serializer(
    examples=[
        OpenApiExample("a new order", ORDERED, request_only=True),
        OpenApiExample(
            "an order",
            {
                "id": "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed",
                **ORDERED,
                "totalAmount": 39.98,
                "status": "pending",
                "createdAt": "2026-11-23T12:00:00.000000Z",
            },
            response_only=True,
        ),
    ]
)
class OrderSerializer(Serializer):
    """An order of a user, with the outcome of its payment."""

    id = serializers.UUIDField(read_only=True)
    userId = TokenField(source="user_id")
    items = ItemSerializer(many=True, min_length=1, max_length=MAX_ITEMS)  # type: ignore[call-arg]
    totalAmount = MoneyField(source="total_amount", read_only=True)
    status = serializers.ChoiceField(choices=Order.Status.choices, read_only=True)
    createdAt = serializers.DateTimeField(source="created_at", read_only=True)


class OrderFilter(Serializer):
    """The query parameters of the list."""

    userId = TokenField(source="user_id", required=False, help_text="Only the orders of this user.")
