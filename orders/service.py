"""The declaration of orders, from which everything outside of this folder is derived."""

from services import Service
from services.declaration import CONSUMER, RELAY

SERVICE = Service(
    name="orders",
    summary="keeps the orders, makes the welcome order on `user.created`, closes orders on `payment.completed`",
    port=8002,
    database="orderdb",
    route="orders",
    relay=RELAY,
    consumer=CONSUMER,
)
