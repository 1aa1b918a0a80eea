"""What orders reacts to."""

from collections.abc import Sequence

from chassis.events import Received, handles
from orders import services
from orders.events import PaymentCompleted, UserCreated


@handles(UserCreated)
def welcome(received: Sequence[Received[UserCreated]]) -> None:
    """A new user gets the welcome order."""
    services.make_welcome_orders(received)


@handles(PaymentCompleted)
def close(received: Sequence[Received[PaymentCompleted]]) -> None:
    """A payment closes its order."""
    services.close_orders(received)
