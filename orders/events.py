"""The events that orders publishes, and its own models of those that it consumes."""

import uuid
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from chassis.events import Event, Money

UserId = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[!-~]+$")]


class OrderedItem(BaseModel):
    """One line of an order."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    product_id: str
    quantity: int = Field(ge=1)
    price: Money


class OrderCreated(Event):
    """An order was created; its payment is pending."""

    topic = "order.created"

    order_id: uuid.UUID
    user_id: str
    items: tuple[OrderedItem, ...]
    total_amount: Money
    created_at: AwareDatetime


class UserCreated(Event):
    """`user.created`, with the field that orders uses."""

    topic = "user.created"

    user_id: UserId


class PaymentCompleted(Event):
    """`payment.completed`, with the fields that orders uses."""

    topic = "payment.completed"

    payment_id: uuid.UUID
    order_id: uuid.UUID
    status: Literal["completed", "failed"]


PUBLISHES: tuple[type[Event], ...] = (OrderCreated,)
