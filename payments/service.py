"""The declaration of payments, from which everything outside of this folder is derived."""

from services import Process, Service, Setting
from services.declaration import CONSUMER

SERVICE = Service(
    name="payments",
    summary="pays for orders on `order.created`; has no state but Kafka's",
    port=8003,
    web=Process(memory=128),
    consumer=CONSUMER,
    settings=(
        Setting(
            name="PAYMENT_SUCCESS_RATE",
            type=float,
            default=0.9,
            minimum=0,
            maximum=1,
            description="Share of orders whose payment succeeds.",
        ),
        Setting(
            name="PAYMENT_LATENCY_SECONDS",
            type=float,
            default=0.0,
            minimum=0,
            maximum=60,
            description="How long the simulated provider takes to answer.",
        ),
    ),
)
