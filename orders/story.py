"""What `manage.py story` shows of an order."""

from collections.abc import Collection, Iterator

from django.db.models import Q

from chassis.story.facts import Row, uuids
from orders.models import Order


def rows(ids: Collection[str]) -> Iterator[Row]:
    """The orders with these ids, and the welcome orders of the users with these ids."""
    found = Order.objects.filter(Q(pk__in=uuids(ids)) | Q(user_id__in=ids, is_welcome=True)).order_by("created_at")
    for order in found[:100]:
        settled = order.status != Order.Status.PENDING
        yield Row(
            what="order",
            id=str(order.id),
            state=order.status,
            at=order.created_at,
            changed_at=order.modified_at if settled else None,
            is_final=settled,
        )
