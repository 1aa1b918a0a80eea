"""Sending rows of the outbox again: the same event, with the same id, which every inbox recognises as a duplicate."""

import structlog
from django.conf import settings
from django.db import connections

from chassis.kafka import names
from chassis.outbox.headers import log_ids

log = structlog.get_logger(__name__)

RESEND = (
    "UPDATE outbox SET sent_at = NULL WHERE event_id = %s AND sent_at IS NOT NULL RETURNING topic, key, headers::text"
)
ROW = "SELECT topic FROM outbox WHERE event_id = %s"


class NotResent(Exception):
    """The row was not sent again; the message says why."""


def resend(event_id: str, *, by: str, why: str = "") -> None:
    """Let the relay send the row of a sent event again, after later events. Raises NotResent.

    A dead letter is not sent again, since it would be a second one: it is redriven.
    """
    connection = connections[settings.SERVICE_DATABASE]
    with connection.cursor() as cursor:
        cursor.execute(ROW, [event_id])
        row = cursor.fetchone()
        if row is None:
            raise NotResent("its row is not in the outbox any more")
        if names.is_dead_letter_topic(row[0]):
            raise NotResent("it is a dead letter, which is redriven instead")
        cursor.execute(RESEND, [event_id])
        sent = cursor.fetchone()
    if sent is None:
        raise NotResent("its row is unsent, parked or discarded")
    topic, key, headers = sent
    log.info(
        "event published again",
        by=by,
        why=why,
        topic=topic,
        key=key and key[:80],
        event_id=event_id,
        **log_ids(headers),
    )
