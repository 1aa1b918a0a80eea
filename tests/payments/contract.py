"""The payloads of payments, field by field; `tests/contracts/` compares its events with them."""

from decimal import Decimal
from typing import Any

from chassis.events import Event
from payments.events import PaymentCompleted
from tests.contracts.values import ID, NOW, NOW_ON_THE_WIRE

CONTRACTS: list[tuple[Event, dict[str, Any]]] = [
    (
        PaymentCompleted(
            payment_id=ID, order_id=ID, user_id="u-1", amount=Decimal("0.20"), status="completed", completed_at=NOW
        ),
        {
            "paymentId": str(ID),
            "orderId": str(ID),
            "userId": "u-1",
            "amount": 0.20,
            "status": "completed",
            "completedAt": NOW_ON_THE_WIRE,
        },
    ),
]
