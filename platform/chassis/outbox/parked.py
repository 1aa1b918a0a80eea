"""Parked outbox rows, which the broker will never accept as they are: an operator retries or discards them."""

from collections.abc import Collection

import structlog
from django.conf import settings
from django.db import connections, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from chassis.messaging.models import OutboxEvent
from chassis.outbox.headers import log_ids
from chassis.outbox.wakeup import CHANNEL

log = structlog.get_logger(__name__)


def rows() -> QuerySet[OutboxEvent]:
    """The rows that wait for an operator's decision, oldest first."""
    waiting = OutboxEvent.objects.filter(sent_at=None, parked_at__isnull=False, discarded_at=None)
    return waiting.order_by("position")


def retry(positions: Collection[int], *, by: str, why: str = "") -> list[int]:
    """Let the relay send these again, and return those that were parked. Later rows of their keys follow."""
    with transaction.atomic(using=settings.SERVICE_DATABASE):
        chosen = _lock(positions)
        OutboxEvent.objects.filter(position__in=[row.position for row in chosen]).update(
            parked_at=None, parked_reason=None
        )
    _log("parked outbox row retried", chosen, by, why)
    return [row.position for row in chosen]


def discard(positions: Collection[int], *, by: str, why: str = "") -> list[int]:
    """Discard these, and return those that were parked. They are never sent, block no key, and remain until `purge`."""
    with transaction.atomic(using=settings.SERVICE_DATABASE):
        chosen = _lock(positions)
        OutboxEvent.objects.filter(position__in=[row.position for row in chosen]).update(
            discarded_at=Now(), discarded_by=by
        )
        with connections[settings.SERVICE_DATABASE].cursor() as cursor:
            # The rows that waited behind them are not updated, so no trigger notifies the relay.
            cursor.execute(f"NOTIFY {CHANNEL}")
    _log("parked outbox row discarded", chosen, by, why)
    return [row.position for row in chosen]


def _lock(positions: Collection[int]) -> list[OutboxEvent]:
    """Lock and return those of the rows that are still parked, so that no concurrent decision is made about them."""
    fields = ("position", "event_id", "topic", "key", "parked_reason", "headers")
    return list(rows().filter(position__in=positions).only(*fields).select_for_update())


def _log(message: str, chosen: Collection[OutboxEvent], by: str, why: str) -> None:
    for row in chosen:
        log.info(
            message,
            by=by,
            why=why,
            position=row.position,
            topic=row.topic,
            key=None if row.key is None else row.key[:80],
            event_id=str(row.event_id),
            reason=row.parked_reason,
            **log_ids(row.headers),
        )
