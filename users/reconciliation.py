"""Reconciliation of users: finds users without a `user.created` on the topic, of whom no other service can know."""

from collections.abc import Iterator
from functools import partial

from chassis.kafka import names, topic_reader
from chassis.reconciliation.reconciliation import CLOCKS, Finding, Period, never_arrived, rows
from users import services
from users.events import UserCreated
from users.models import User


def find(period: Period) -> Iterator[Finding]:
    """Users created in the period whose event is not on the topic. Deleted users are not reported."""
    created = User.objects.filter(created_at__gte=period.since, created_at__lt=period.until).order_by("created_at")
    missing = dict(created.values_list("id", "created_at"))
    # Read the topic last: everything sent before the outbox was read is on it by then.
    outbox_rows = rows(map(services.created_id, missing))
    by_key = {str(user_id).encode(): user_id for user_id in missing}
    if missing:
        for record in topic_reader.scan([names.topic(UserCreated)], period.since - CLOCKS):
            if user_id := by_key.get(record.key or b""):
                missing.pop(user_id, None)
    for user_id, created_at in missing.items():
        sent = never_arrived(UserCreated.topic, outbox_rows.get(services.created_id(user_id)))
        republish = partial(services.republish_created, user_id=user_id) if sent.is_lost else None
        yield Finding(f"user.created of user {user_id}", created_at, sent.where, sent.remedy, republish)
