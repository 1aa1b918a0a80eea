"""A batch in one PostgreSQL transaction: inbox ids, the service's state, outbox rows and dead letters. Offsets follow."""

import uuid
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Consumer
from django.conf import settings
from django.db import connections, transaction

from chassis.consumer import clean_session, dispatch, inbox, process_spans
from chassis.consumer.clean_session import Session
from chassis.consumer.dispatch import Handlers
from chassis.consumer.one_transaction import OneTransaction
from chassis.consumer.unit_of_work import USUAL, BatchResult, Offsets, Readable, Tagged, Terms, untagged
from chassis.deadletters.record import FailedRecord
from chassis.events.registry import Received
from chassis.kafka import names
from chassis.kafka.records import Record
from chassis.outbox.headers import headers_to_json
from chassis.runtime.failures import DependencyDown, is_dependency

INSERT_DEAD_LETTER = """
INSERT INTO outbox (event_id, topic, key, raw_key, payload, headers, request_id)
VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (event_id) DO NOTHING
"""


class DatabaseTransaction:
    """For a service with a database. After a crash between commit and offsets, the inbox recognises the records as duplicates."""

    def __init__(self, consumer: Consumer, handlers: Handlers, tagged: Tagged = untagged) -> None:
        self._tagged = tagged
        self._consumer = consumer
        self._handlers = handlers

    def process(self, batch: Sequence[Record], offsets: Offsets, terms: Terms = USUAL) -> BatchResult:
        """Process the new events of a batch in one transaction."""
        mine, others = dispatch.for_this_group(batch)
        readable, dead = dispatch.read(mine, self._handlers)
        terms.check(readable, dead)
        with (
            process_spans.traced(readable) as received,
            clean_session.cleaned() as session,
            transaction.atomic(using=settings.SERVICE_DATABASE),
        ):
            _write_dead_letters(dead)
            handled, duplicates = self._handle(received, terms, session) if received else ([], [])
        return BatchResult(handled, others + duplicates, dead)

    def _handle(
        self, readable: Readable, terms: Terms, session: Session
    ) -> tuple[list[tuple[Record, Received[Any]]], list[Record]]:
        with OneTransaction.begun() as one_transaction:
            new, duplicates = _without_duplicates(readable, one_transaction.mark)
            dispatch.call(new, self._handlers, terms.limit)
            one_transaction.commit(session)
        return new, duplicates

    def dead_letter(self, failed: FailedRecord, offsets: Offsets) -> None:
        """Write one dead letter to the outbox, where it is safe; the relay sends it."""
        with transaction.atomic(using=settings.SERVICE_DATABASE):
            _write_dead_letters([failed])

    def commit(self, offsets: Offsets, *, wait: bool) -> None:
        """Commit the offsets of records whose effects are committed in the database."""
        positions = self._tagged(offsets)
        if wait:
            self._consumer.commit(offsets=positions, asynchronous=False)
        else:
            self._consumer.commit(offsets=positions, asynchronous=True)

    def probe(self) -> None:
        """Run a query on a new connection, which reaches the current primary. Raises DatabaseError, DependencyDown."""
        connection = connections[settings.SERVICE_DATABASE]
        connection.close()
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('transaction_read_only')")
            (read_only,) = cursor.fetchone()
        if read_only == "on":
            connection.close()
            raise DependencyDown("the database is read-only")

    def reset(self, error: BaseException) -> None:
        """Close the connection, unless only the event failed and the transaction is completely rolled back.

        A new connection takes many times as long as a transaction, and would delay other keys at each retry.
        """
        from psycopg.pq import TransactionStatus  # only in a service with a database

        connection = connections[settings.SERVICE_DATABASE]
        raw = connection.connection
        if is_dependency(error) or raw is None or raw.info.transaction_status != TransactionStatus.IDLE:
            connection.close()

    def raise_if_unsure(self) -> None:
        """Nothing to do: if the batch was committed, its events are found in the inbox when they are delivered again."""


def _without_duplicates(readable: Readable, mark: str) -> tuple[list[tuple[Record, Received[Any]]], list[Record]]:
    claimed = inbox.claim([event for _, event in readable], mark)
    new: list[tuple[Record, Received[Any]]] = []
    duplicates: list[Record] = []
    for record, event in readable:
        if event.identity in claimed:
            claimed.remove(event.identity)  # a second record of the same event in a batch is a duplicate
            new.append((record, event))
        else:
            process_spans.duplicate(event)
            duplicates.append(record)
    return new, duplicates


def _write_dead_letters(dead: Sequence[FailedRecord]) -> None:
    for failed in dead:
        record = failed.record
        key, raw_key = _as_text(record.key)
        headers = headers_to_json(failed.headers())
        request_id = (record.header("requestId") or "")[:128].replace("\0", "")
        values = (
            uuid.UUID(failed.id),
            names.dead_letter_topic(record.topic),
            key,
            raw_key,
            record.value,
            headers,
            request_id,
        )
        with connections[settings.SERVICE_DATABASE].cursor() as cursor:
            cursor.execute(INSERT_DEAD_LETTER, values)


def _as_text(key: bytes | None) -> tuple[str | None, bytes | None]:
    if key is None:
        return None, None
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return key.hex(), key
    return (key.hex(), key) if "\0" in text else (text, None)
