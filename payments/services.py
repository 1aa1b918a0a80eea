"""The use case of payments. Its only state is what it has published."""

import uuid
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial

from chassis.events import Outgoing, Received, after_commit, publish_all
from chassis.ids import derived_id
from payments import metrics, provider
from payments.events import OrderCreated, PaymentCompleted

NAMESPACE = uuid.UUID("3f1d7a52-9a5c-4f0e-8d53-6f3a7b0f2c11")
"""Namespace for payment ids: each is derived from the order's id."""


def payment_id(order_id: uuid.UUID) -> uuid.UUID:
    """The id of the only payment that an order can have."""
    return uuid.UUID(derived_id(NAMESPACE, str(order_id)))


def pay(orders: Sequence[Received[OrderCreated]]) -> None:
    """Pay for orders, and publish the outcome of each payment.

    The payment's id, the event's id and the outcome are derived from the order's id. After a crash or a replay the same
    event is published again, and its consumers recognise it.
    """
    outcomes = provider.charge_all([order.event.order_id for order in orders])
    now = datetime.now(UTC)
    payments = [_completed(order.event, paid, now) for order, paid in zip(orders, outcomes, strict=True)]
    publish_all(_outgoing(payment, order) for payment, order in zip(payments, orders, strict=True))
    after_commit(partial(_count, payments))


def _completed(order: OrderCreated, paid: bool, now: datetime) -> PaymentCompleted:
    return PaymentCompleted(
        payment_id=payment_id(order.order_id),
        order_id=order.order_id,
        user_id=order.user_id,
        amount=order.total_amount,
        status="completed" if paid else "failed",
        completed_at=now,
    )


def _outgoing(payment: PaymentCompleted, cause: Received[OrderCreated]) -> Outgoing:
    event_id = derived_id(payment.payment_id, payment.topic)
    return Outgoing(payment, key=str(payment.order_id), cause=cause, event_id=event_id)


def _count(payments: Sequence[PaymentCompleted]) -> None:
    amounts: dict[str, list[Decimal]] = defaultdict(list)
    for payment in payments:
        amounts[payment.status].append(payment.amount)
    for status, some in amounts.items():
        metrics.PAYMENTS.labels(status).inc(len(some))
        metrics.AMOUNT.labels(status).inc(float(sum(some)))
