"""A batch in one PostgreSQL transaction: inbox ids, the service's state, outbox rows and dead letters; the offsets after it."""

import uuid
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Consumer
from django.conf import settings
from django.db import connections, transaction

from chassis.consumer import dispatch, inbox
from chassis.consumer.dispatch import Handlers
from chassis.consumer.one_transaction import OneTransaction
from chassis.consumer.unit_of_work import USUAL, Letters, Offsets, Outcome, Tagged, Terms, untagged
from chassis.deadletters.record import DeadLetter, topic_of
from chassis.events.envelope import Letter
from chassis.events.registry import Received
from chassis.kafka.records import Record
from chassis.outbox.headers import headers_to_json
from chassis.runtime.failures import DependencyDown, is_dependency

BURY = """
INSERT INTO outbox (event_id, topic, key, raw_key, payload, headers, request_id)
VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (event_id) DO NOTHING
"""


class DatabaseTransaction:
    """For a service with a database. A crash after the commit and before the offsets only brings repeats, which the inbox knows."""

    def __init__(self, consumer: Consumer, handlers: Handlers, tagged: Tagged = untagged) -> None:
        self._tagged = tagged
        self._consumer = consumer
        self._handlers = handlers

    def process(self, batch: Sequence[Record], offsets: Offsets, terms: Terms = USUAL) -> Outcome:
        """Handle the events of a batch that are new, in one transaction."""
        mine, others = dispatch.ours(batch)
        letters, dead = dispatch.read(mine, self._handlers)
        terms.check(letters, dead)
        with transaction.atomic(using=settings.SERVICE_DATABASE):
            handled, repeated = self._handle(letters, terms) if letters else ([], [])
            _bury(dead)
        return Outcome(handled, others + repeated, dead)

    def _handle(self, letters: Letters, terms: Terms) -> tuple[list[tuple[Record, Received[Any]]], list[Record]]:
        with OneTransaction.begun() as ours:
            new, repeated = _without_repeats(letters)
            with dispatch.traced(new) as received:
                dispatch.call(received, self._handlers, terms.limit)
                ours.end()
        return received, repeated

    def bury(self, letter: DeadLetter, offsets: Offsets) -> None:
        """Write one dead letter into the outbox: it is safe at once, and the relay sends it."""
        with transaction.atomic(using=settings.SERVICE_DATABASE):
            _bury([letter])

    def commit(self, offsets: Offsets, *, wait: bool) -> None:
        """Commit offsets of work that is committed in the database."""
        positions = self._tagged(offsets)
        if wait:
            self._consumer.commit(offsets=positions, asynchronous=False)
        else:
            self._consumer.commit(offsets=positions, asynchronous=True)

    def probe(self) -> None:
        """Ask on a new connection, which is made to whatever server is the right one now. Raises DatabaseError, DependencyDown."""
        connection = connections[settings.SERVICE_DATABASE]
        connection.close()
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('transaction_read_only')")
            (read_only,) = cursor.fetchone()
        if read_only == "on":
            connection.close()
            raise DependencyDown("the database is read-only")

    def reset(self, error: BaseException) -> None:
        """Close the connection, unless only the event failed and PostgreSQL has answered everything and rolled back.

        A new connection takes many times as long as a transaction, and other keys would wait for it at each retry.
        """
        from psycopg.pq import TransactionStatus  # only where there is a database

        connection = connections[settings.SERVICE_DATABASE]
        raw = connection.connection
        if is_dependency(error) or raw is None or raw.info.transaction_status != TransactionStatus.IDLE:
            connection.close()

    def raise_if_unsure(self) -> None:
        """Nothing to do: a repeat of what was committed finds its ids in the inbox."""


def _without_repeats(letters: Sequence[tuple[Record, Letter]]) -> tuple[list[tuple[Record, Letter]], list[Record]]:
    claimed = inbox.claim([letter for _, letter in letters])
    new: list[tuple[Record, Letter]] = []
    repeated: list[Record] = []
    for record, letter in letters:
        if letter.identity in claimed:
            claimed.remove(letter.identity)  # the same event a second time in a batch is a repeat
            new.append((record, letter))
        else:
            repeated.append(record)
    return new, repeated


def _bury(letters: Sequence[DeadLetter]) -> None:
    for letter in letters:
        record = letter.record
        key, raw_key = _as_text(record.key)
        headers = headers_to_json(letter.headers())
        request_id = (record.header("requestId") or "")[:128].replace("\0", "")
        values = (uuid.UUID(letter.id), topic_of(record.topic), key, raw_key, record.value, headers, request_id)
        with connections[settings.SERVICE_DATABASE].cursor() as cursor:
            cursor.execute(BURY, values)


def _as_text(key: bytes | None) -> tuple[str | None, bytes | None]:
    if key is None:
        return None, None
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return key.hex(), key
    return (key.hex(), key) if "\0" in text else (text, None)
