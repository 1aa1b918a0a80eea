"""The events that orders reacts to."""

from collections.abc import Sequence

from chassis.events import Received, handles
from orders import services
from orders.events import PaymentCompleted, UserCreated


@handles(UserCreated)
def welcome(received: Sequence[Received[UserCreated]]) -> None:
    """Create the welcome order of each new user."""
    services.make_welcome_orders(received)


@handles(PaymentCompleted)
def close(received: Sequence[Received[PaymentCompleted]]) -> None:
    """Close the orders that payments are for."""
    services.close_orders(received)
