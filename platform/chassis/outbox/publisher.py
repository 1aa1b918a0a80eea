"""Publishing in a service with a database: an event is written to the outbox in the transaction of its cause."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import orjson
from django.conf import settings
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from chassis.database.callbacks import WithoutDatabase
from chassis.events.envelope import Envelope
from chassis.observability import metrics, sql_spans
from chassis.outbox import key_check

CHUNK = 2_000
"""Maximum number of events in one COPY."""

COPY = "COPY outbox (event_id, topic, key, payload, headers, request_id) FROM STDIN"
INSERT = "INSERT INTO outbox (event_id, topic, key, payload, headers, request_id) VALUES (%s, %s, %s, %s, %s, %s)"

Row = tuple[str, str, str, bytes, str, str]


class OutboxPublisher:
    """A `chassis.events.publishing.Publisher` that writes outbox rows, which the relay sends."""

    def in_transaction(self) -> bool:
        """Whether a transaction is open on the service's database."""
        return connections[settings.SERVICE_DATABASE].in_atomic_block

    def write(self, envelopes: Iterable[Envelope]) -> None:
        """Write events to the outbox, in chunks. Raises UnlockedAggregate."""
        # Without a savepoint, a failure leaves a transaction that can only be rolled back.
        with transaction.atomic(using=settings.SERVICE_DATABASE, savepoint=False):
            for chunk in _chunks(envelopes):
                _insert(chunk)

    def after_commit(self, callback: Callable[[], object]) -> None:
        """Call a function after the outermost transaction was committed."""
        transaction.on_commit(WithoutDatabase(callback), using=settings.SERVICE_DATABASE, robust=True)


def _chunks(envelopes: Iterable[Envelope]) -> Iterator[list[Envelope]]:
    """Split events into chunks, limited in number and in bytes."""
    chunk: list[Envelope] = []
    size = 0
    for envelope in envelopes:
        chunk.append(envelope)
        size += len(envelope.payload)
        if len(chunk) >= CHUNK or size >= settings.OUTBOX_BATCH_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _insert(envelopes: Sequence[Envelope]) -> None:
    connection: Any = connections[settings.SERVICE_DATABASE]
    key_check.check(connection, envelopes)
    if len(envelopes) == 1:
        connection.postpone(INSERT, _row(envelopes[0]))
    else:
        _copy(connection, map(_row, envelopes))
    for topic, number in Counter(envelope.topic for envelope in envelopes).items():
        metrics.OUTBOX_WRITTEN.labels(topic).inc(number)


def _row(e: Envelope) -> Row:
    return e.event_id, e.topic, e.key, e.payload, orjson.dumps(e.headers).decode(), e.request_id


def _copy(connection: BaseDatabaseWrapper, rows: Iterable[Row]) -> None:
    """Insert rows with COPY, which costs little more for many rows than for one."""
    # COPY is psycopg's own, so its errors must be converted to Django's, which `is_unavailable` recognises.
    with (
        sql_spans.statement(connection.alias, COPY),
        connection.wrap_database_errors,
        connection.cursor() as cursor,
        cursor.copy(COPY) as copy,
    ):
        for row in rows:
            copy.write_row(row)
