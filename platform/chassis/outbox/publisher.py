"""Publishing in a service with a database: an event is written to the outbox in the transaction that makes it true."""

from collections.abc import Iterable, Iterator, Sequence

import orjson
from django.conf import settings
from django.db import connections, transaction

from chassis.events.envelope import Envelope
from chassis.observability import metrics
from chassis.outbox import key_check

CHUNK = 2_000
"""Most events in one COPY."""


class OutboxPublisher:
    """A `chassis.events.publishing.Publisher`: the relay sends what it has written."""

    def in_transaction(self) -> bool:
        """Whether a transaction is open on the service's database."""
        return connections[settings.SERVICE_DATABASE].in_atomic_block

    def write(self, envelopes: Iterable[Envelope]) -> None:
        """Add events to the outbox, a few at a time. Raises UnlockedAggregate."""
        # What fails half-way leaves a transaction that can only be rolled back.
        with transaction.atomic(using=settings.SERVICE_DATABASE, savepoint=False):
            for chunk in _chunks(envelopes):
                _copy(chunk)


def _chunks(envelopes: Iterable[Envelope]) -> Iterator[list[Envelope]]:
    """Some thousand at a time, or fewer that are large."""
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


def _copy(envelopes: Sequence[Envelope]) -> None:
    """By COPY: a set costs little more than a row."""
    connection = connections[settings.SERVICE_DATABASE]
    key_check.check(connection, envelopes)
    command = "COPY outbox (event_id, topic, key, payload, headers, request_id) FROM STDIN"
    # COPY is psycopg's own: its errors are not Django's, and only Django's are known as a database that is away.
    with connection.wrap_database_errors, connection.cursor() as cursor, cursor.copy(command) as copy:
        for e in envelopes:
            copy.write_row((e.event_id, e.topic, e.key, e.payload, orjson.dumps(e.headers).decode(), e.request_id))
    for envelope in envelopes:
        metrics.OUTBOX_WRITTEN.labels(envelope.topic).inc()
