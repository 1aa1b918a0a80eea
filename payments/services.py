"""The use case of payments. Its only state is what it has published."""

import uuid
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial

from chassis.events import Outgoing, Received, after_commit, publish_all
from payments import metrics, provider
from payments.events import OrderCreated, PaymentCompleted

NAMESPACE = uuid.UUID("3f1d7a52-9a5c-4f0e-8d53-6f3a7b0f2c11")
"""Namespace for payment ids: each is derived from the order's id."""


def payment_id(order_id: uuid.UUID) -> uuid.UUID:
    """The id of the only payment that an order can have."""
    return uuid.uuid5(NAMESPACE, str(order_id))


def pay(orders: Sequence[Received[OrderCreated]]) -> None:
    """Pay for orders, and publish the outcome of each payment.

    The payment's id, the event's id and the outcome are derived from the order's id. After a crash or a replay the same
    event is published again, and its consumers recognise it.
    """
    outcomes = provider.charge_all([order.event.order_id for order in orders])
    now = datetime.now(UTC)
    completed = [_completed(order, paid, now) for order, paid in zip(orders, outcomes, strict=True)]
    publish_all(completed)
    after_commit(partial(_count, [one.event for one in completed]))


def _completed(order: Received[OrderCreated], paid: bool, now: datetime) -> Outgoing:
    event = PaymentCompleted(
        payment_id=payment_id(order.event.order_id),
        order_id=order.event.order_id,
        user_id=order.event.user_id,
        amount=order.event.total_amount,
        status="completed" if paid else "failed",
        completed_at=now,
    )
    return Outgoing(
        event, key=str(event.order_id), cause=order, event_id=str(uuid.uuid5(event.payment_id, event.topic))
    )


def _count(payments: Sequence[PaymentCompleted]) -> None:
    amounts: dict[str, list[Decimal]] = defaultdict(list)
    for payment in payments:
        amounts[payment.status].append(payment.amount)
    for status, some in amounts.items():
        metrics.PAYMENTS.labels(status).inc(len(some))
        metrics.AMOUNT.labels(status).inc(float(sum(some)))
