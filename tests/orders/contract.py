"""The payloads of orders, field by field; `tests/contracts/` compares its events with them."""

from decimal import Decimal
from typing import Any

from chassis.events import Event
from orders.events import OrderCreated
from tests.contracts.values import ID, NOW, NOW_ON_THE_WIRE

ITEM = {"product_id": "p-1", "quantity": 2, "price": Decimal("0.10")}

CONTRACTS: list[tuple[Event, dict[str, Any]]] = [
    (
        OrderCreated(order_id=ID, user_id="u-1", items=[ITEM], total_amount=Decimal("0.20"), created_at=NOW),
        {
            "orderId": str(ID),
            "userId": "u-1",
            "items": [{"productId": "p-1", "quantity": 2, "price": 0.10}],
            "totalAmount": 0.20,
            "createdAt": NOW_ON_THE_WIRE,
        },
    ),
]
