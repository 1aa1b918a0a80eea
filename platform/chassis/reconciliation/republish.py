"""Republishing and reprocessing: the same event is sent or processed again.

For repairs by an operator (`manage.py reconcile --republish`). Services that have processed the event recognise it by its id;
the handlers of this system also recognise their effects by natural keys.
"""

import structlog
from django.conf import settings
from django.db import connections, transaction

from chassis.consumer import dispatch, inbox, process_spans
from chassis.consumer.one_transaction import OneTransaction
from chassis.events import Event, NotInTransaction, publish, unseal
from chassis.events.registry import handlers
from chassis.kafka.records import Record
from chassis.outbox.headers import log_ids
from chassis.outbox.resend import RESEND
from chassis.runtime.failures import HandlerFailed

log = structlog.get_logger(__name__)

ROW = "SELECT headers::text FROM outbox WHERE event_id = %s"


def republish(event: Event, *, key: str, event_id: str) -> bool:
    """Publish an event in the open transaction, with the id with which it was, or should have been, published.

    If its outbox row still exists, that row is sent again. Returns False if the row is unsent or parked: then there is nothing
    to do. Raises NotInTransaction.
    """
    connection = connections[settings.SERVICE_DATABASE]
    if not connection.in_atomic_block:
        raise NotInTransaction(event.topic)
    with connection.cursor() as cursor:
        cursor.execute(RESEND, [event_id])
        resent = bool(cursor.rowcount)
        cursor.execute(ROW, [event_id])
        row = cursor.fetchone()
    if row is None:
        publish(event, key=key, event_id=event_id)
    done = resent or row is None
    if done:
        # A row that is sent again keeps its ids; a new one has those of this run.
        ids = log_ids(row[0]) if row else {}
        log.info("event republished", topic=event.topic, key=key, event_id=event_id, row=row is not None, **ids)
    return done


def reprocess(record: Record) -> None:
    """Process a record in one transaction, whether or not it is in the inbox, and add it to the inbox.

    Raises Unreadable, and the exceptions of the handler.
    """
    known = handlers()
    event = unseal(record, known[record.topic].event)
    with (
        process_spans.traced([(record, event)]) as received,
        transaction.atomic(using=settings.SERVICE_DATABASE),
        OneTransaction.begun() as one_transaction,
    ):
        inbox.claim([event], one_transaction.mark)
        try:
            dispatch.call(received, known)
            one_transaction.end()
        except HandlerFailed as failed:
            raise (failed.error if isinstance(failed.error, Exception) else failed) from None
    log.info("event reprocessed", **{**record.log_fields(), "request_id": event.request_id})
