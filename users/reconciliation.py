"""What users misses: users of whom no `user.created` stands on the topic; nobody but users can know of them."""

from collections.abc import Iterator
from functools import partial

from chassis.kafka import names, topic_reader
from chassis.reconciliation.reconciliation import CLOCKS, Finding, Period, never_arrived, rows
from users import services
from users.events import UserCreated
from users.models import User


def find(period: Period) -> Iterator[Finding]:
    """Users of the period of whom the topic knows nothing. One who is deleted is not missed."""
    joined = User.objects.filter(created_at__gte=period.since, created_at__lt=period.until).order_by("created_at")
    missing = dict(joined.values_list("id", "created_at"))
    # The topic last: whatever was sent before the outbox was asked is on it by then.
    known = rows(map(services.created_id, missing))
    by_key = {str(user_id).encode(): user_id for user_id in missing}
    if missing:
        for record in topic_reader.scan([names.topic(UserCreated)], period.since - CLOCKS):
            if user_id := by_key.get(record.key or b""):
                missing.pop(user_id, None)
    for user_id, created_at in missing.items():
        sent = never_arrived(UserCreated.topic, known.get(services.created_id(user_id)))
        republish = partial(services.republish_created, user_id=user_id) if sent.is_lost else None
        yield Finding(f"user.created of user {user_id}", created_at, sent.where, sent.remedy, republish)
