"""What can be done with orders. Each use case is one transaction, its events included."""

import uuid
from collections.abc import Sequence

from django.conf import settings
from django.db import transaction

from chassis.events.envelope import Outgoing
from chassis.events.registry import Received
from chassis.outbox.publishing import publish_all
from chassis.reconciliation import republish
from orders.events import OrderCreated, PaymentCompleted, UserCreated
from orders.models import Item, Order

OUTCOMES = {"completed": Order.Status.PAID, "failed": Order.Status.FAILED}


class UnknownOrder(Exception):
    """A payment for an order that does not exist: its event came out of an order's, so something is very wrong."""


def create_order(*, user_id: str, items: list[Item]) -> Order:
    """Take an order and say so; the total is computed here."""
    order = Order.of(user_id, items)
    with transaction.atomic(using=settings.SERVICE_DATABASE):
        order.save(force_insert=True)
        publish_all([_created(order)])
    return order


def make_welcome_orders(received: Sequence[Received[UserCreated]]) -> None:
    """Give each new user the welcome order, once for ever: who has one already gets, and causes, nothing."""
    with transaction.atomic(using=settings.SERVICE_DATABASE):
        orders = Order.objects.add_welcome(one.event.user_id for one in received)
        # Backwards, so that of several events of one user the first is the cause.
        causes = {one.event.user_id: one for one in reversed(received)}
        publish_all(_created(order, cause=causes[order.user_id]) for order in orders)


def close_orders(received: Sequence[Received[PaymentCompleted]]) -> None:
    """Close the orders that these payments are for; a payment that is on record changes nothing.

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


def publish_again(*, order_id: uuid.UUID) -> bool:
    """Say once more that an order was placed, by the very same event; False if it is closed by now, or is still to be sent."""
    with transaction.atomic(using=settings.SERVICE_DATABASE):
        order = Order.objects.select_for_update().get(pk=order_id)
        return order.status == Order.Status.PENDING and republish.publish_again(_created(order))


def created_id(order: Order) -> str:
    """The id of the one `order.created` that an order ever has."""
    return str(uuid.uuid5(order.id, OrderCreated.topic))


def _created(order: Order, cause: Received[UserCreated] | None = None) -> Outgoing:
    event = OrderCreated(
        order_id=order.id,
        user_id=order.user_id,
        items=order.items,
        total_amount=order.total_amount,
        created_at=order.created_at,
    )
    return Outgoing(event, key=str(order.id), cause=cause, event_id=created_id(order))
