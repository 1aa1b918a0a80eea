"""Republishing and reprocessing: the same event once more, sent or handled.

For a person who repairs something (`manage.py reconcile --republish`). Whoever has had the event knows it by its id; the
handlers of this system also know their effects by natural keys.
"""

import structlog
from django.conf import settings
from django.db import connections, transaction

from chassis.consumer import dispatch, inbox
from chassis.consumer.one_transaction import OneTransaction
from chassis.events import Event, NotInTransaction, publish, unseal
from chassis.events.registry import handlers
from chassis.kafka.records import Record
from chassis.runtime.failures import HandlerFailed

log = structlog.get_logger(__name__)

RESEND = "UPDATE outbox SET sent_at = NULL WHERE event_id = %s AND sent_at IS NOT NULL"
IS_THERE = "SELECT 1 FROM outbox WHERE event_id = %s"


def republish(event: Event, *, key: str, event_id: str) -> bool:
    """Publish an event under the id that it was, or should have been, published under; in the open transaction.

    Where its outbox row is still there, that very row is sent again. False if it waits there, to be sent or for a
    person's decision: then there is nothing to add. Raises NotInTransaction.
    """
    connection = connections[settings.SERVICE_DATABASE]
    if not connection.in_atomic_block:
        raise NotInTransaction(event.topic)
    with connection.cursor() as cursor:
        cursor.execute(RESEND, [event_id])
        resent = bool(cursor.rowcount)
        cursor.execute(IS_THERE, [event_id])
        there = cursor.fetchone() is not None
    if not there:
        publish(event, key=key, event_id=event_id)
    done = resent or not there
    if done:
        log.info("event republished", topic=event.topic, key=key, event_id=event_id, row=there)
    return done


def reprocess(record: Record) -> None:
    """Give a record to its handler in one transaction, whether or not the inbox knows it; then the inbox does.

    Raises Unreadable, and what the handler raises.
    """
    known = handlers()
    event = unseal(record, known[record.topic].event)
    with transaction.atomic(using=settings.SERVICE_DATABASE), OneTransaction.begun() as one_transaction:
        inbox.claim([event])
        with dispatch.traced([(record, event)]) as received:
            try:
                dispatch.call(received, known)
                one_transaction.end()
            except HandlerFailed as failed:
                raise (failed.error if isinstance(failed.error, Exception) else failed) from None
    log.info("event reprocessed", request_id=event.request_id, **record.log_fields())
