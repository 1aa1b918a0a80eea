"""The events that payments publishes, and its own models of those that it consumes."""

from datetime import datetime
from typing import ClassVar, Literal
from uuid import UUID

from chassis.events import Event, Money


class PaymentCompleted(Event):
    """A payment succeeded or failed."""

    topic: ClassVar[str] = "payment.completed"

    payment_id: UUID
    order_id: UUID
    user_id: str
    amount: Money
    status: Literal["completed", "failed"]
    completed_at: datetime


class OrderCreated(Event):
    """`order.created`, with the fields that payments uses."""

    topic: ClassVar[str] = "order.created"

    order_id: UUID
    user_id: str
    total_amount: Money
    created_at: datetime


PUBLISHES = (PaymentCompleted,)
