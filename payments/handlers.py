"""The events that payments reacts to."""

from collections.abc import Sequence

from chassis.events import Received, handles
from payments import services
from payments.events import OrderCreated


@handles(OrderCreated)
def pay(orders: Sequence[Received[OrderCreated]]) -> None:
    """Pay for new orders."""
    services.pay(orders)
