"""Events as the handlers of orders receive them."""

import uuid

from chassis.events import Received
from orders.events import PaymentCompleted, UserCreated


def joined(user_id: str, *, request_id: str = "") -> Received[UserCreated]:
    """`user.created`, as published by users."""
    return _received(UserCreated.model_validate({"userId": user_id, "email": "ada@example.org"}), user_id, request_id)


def paid(order_id: uuid.UUID, *, payment_id: uuid.UUID, status: str = "completed") -> Received[PaymentCompleted]:
    """`payment.completed`, as published by payments."""
    event = PaymentCompleted.model_validate({"paymentId": str(payment_id), "orderId": str(order_id), "status": status})
    return _received(event, str(order_id), "")


def _received(event, key, request_id):
    return Received(event=event, id=str(uuid.uuid4()), key=key, request_id=request_id)
