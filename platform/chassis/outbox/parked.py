"""Parked outbox rows, which the broker refused for good: a person has them tried again, or discards them."""

from collections.abc import Collection

import structlog
from django.conf import settings
from django.db import connections, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from chassis.messaging.models import OutboxEvent
from chassis.outbox.wakeup import CHANNEL

log = structlog.get_logger(__name__)


def rows() -> QuerySet[OutboxEvent]:
    """The rows that wait for a person's decision, oldest first."""
    waiting = OutboxEvent.objects.filter(sent_at=None, parked_at__isnull=False, discarded_at=None)
    return waiting.order_by("position")


def retry(positions: Collection[int], *, by: str) -> list[int]:
    """Let the relay try these again, and return those that were parked. It goes on with their keys from there."""
    with transaction.atomic(using=settings.SERVICE_DATABASE):
        chosen = _lock(positions)
        OutboxEvent.objects.filter(position__in=[row.position for row in chosen]).update(
            parked_at=None, parked_reason=None
        )
    _say("parked outbox row is tried again", chosen, by)
    return [row.position for row in chosen]


def discard(positions: Collection[int], *, by: str) -> list[int]:
    """Give these up, and return those that were parked. They are never sent, hold no key back, and stay until `purge`."""
    with transaction.atomic(using=settings.SERVICE_DATABASE):
        chosen = _lock(positions)
        OutboxEvent.objects.filter(position__in=[row.position for row in chosen]).update(
            discarded_at=Now(), discarded_by=by
        )
        with connections[settings.SERVICE_DATABASE].cursor() as cursor:
            # What waited behind them is not written, so no trigger tells the relay.
            cursor.execute(f"NOTIFY {CHANNEL}")
    _say("parked outbox row discarded", chosen, by)
    return [row.position for row in chosen]


def _lock(positions: Collection[int]) -> list[OutboxEvent]:
    """Those of the rows that are parked still; nobody else decides about them at the same time."""
    fields = ("position", "event_id", "topic", "key", "parked_reason", "request_id")
    return list(rows().filter(position__in=positions).only(*fields).select_for_update())


def _say(what: str, chosen: Collection[OutboxEvent], by: str) -> None:
    for row in chosen:
        log.info(
            what,
            by=by,
            position=row.position,
            topic=row.topic,
            key=row.key,
            event_id=str(row.event_id),
            request_id=row.request_id,
            reason=row.parked_reason,
        )
