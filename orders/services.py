"""The use cases of orders. Each is one transaction that includes its events."""

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

from django.conf import settings
from django.db import transaction

from chassis.events import Outgoing, Received, after_commit, publish, publish_all
from chassis.ids import derived_id
from chassis.reconciliation.republish import republish
from orders import metrics
from orders.events import OrderCreated, PaymentCompleted, UserCreated
from orders.models import Item, Order, WelcomeOrder

OUTCOMES = {"completed": Order.Status.PAID, "failed": Order.Status.FAILED}


class UnknownOrder(Exception):
    """A payment refers to an order that does not exist. Payments are caused by orders, so this indicates lost data."""


def create_order(*, user_id: str, items: list[Item]) -> Order:
    """Create an order, computing its total, and publish `order.created`."""
    order = Order.of(user_id, items)
    with transaction.atomic(using=settings.SERVICE_DATABASE):
        order.save(force_insert=True)
        publish(_created(order), key=str(order.id), event_id=created_id(order))
        _count({Order.Status.PENDING: 1})
    return order


def make_welcome_orders(received: Sequence[Received[UserCreated]]) -> None:
    """Create the welcome order of each user who has none; nothing is done or published for the others."""
    with transaction.atomic(using=settings.SERVICE_DATABASE):
        orders = Order.objects.add_welcome(one.event.user_id for one in received)
        # In reverse, so that of several events of one user the first is the cause.
        causes = {one.event.user_id: one for one in reversed(received)}
        publish_all(
            Outgoing(_created(order), key=str(order.id), cause=causes[order.user_id], event_id=created_id(order))
            for order in orders
        )
        _count({Order.Status.PENDING: len(orders)})


def close_orders(received: Sequence[Received[PaymentCompleted]]) -> None:
    """Close the orders that these payments are for. A payment that is already on record changes nothing.

    Raises UnknownOrder, and IllegalTransition for a payment that contradicts the one on record.
    """
    with transaction.atomic(using=settings.SERVICE_DATABASE):
        orders = Order.objects.locked(one.event.order_id for one in received)
        settled = {}
        for one in received:
            payment = one.event
            if (order := orders.get(payment.order_id)) is None:
                raise UnknownOrder(payment.order_id)
            if order.settle(payment_id=payment.payment_id, status=OUTCOMES[payment.status]):
                settled[order.id] = order
        Order.objects.save_settled(list(settled.values()))
        _count(Counter(order.status for order in settled.values()))


def republish_created(*, order_id: uuid.UUID) -> bool:
    """Republish the order's `order.created`, with the same id.

    Returns False if the order is closed or the event has not been sent yet.
    """
    with transaction.atomic(using=settings.SERVICE_DATABASE):
        order = Order.objects.select_for_update().get(pk=order_id)
        if order.status != Order.Status.PENDING:
            return False
        return republish(_created(order), key=str(order.id), event_id=created_id(order))


def created_id(order: Order | WelcomeOrder) -> str:
    """The id of the only `order.created` that an order has."""
    return derived_id(order.id, OrderCreated.topic)


def _created(order: Order | WelcomeOrder) -> OrderCreated:
    return OrderCreated.model_validate(
        {
            "order_id": order.id,
            "user_id": order.user_id,
            "items": order.items,
            "total_amount": order.total_amount,
            "created_at": order.created_at,
        }
    )


def _count(entered: Mapping[str, int]) -> None:
    """Count the orders that enter each status, once the transaction is committed."""
    for status, number in entered.items():
        after_commit(partial(metrics.ORDERS.labels(status).inc, number))
