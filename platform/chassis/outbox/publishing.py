"""Publishing: an event is written to the outbox in the transaction that makes it true. Nothing else may send events."""

import base64
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import orjson
from django.conf import settings
from django.db import connections, transaction

from chassis.events.envelope import Envelope, Outgoing, seal_each
from chassis.events.event import Event
from chassis.events.registry import Received
from chassis.kafka.records import Headers
from chassis.observability import metrics
from chassis.outbox import key_check

CHUNK = 2_000
"""Most events in one COPY."""


class NotInTransaction(Exception):
    """publish() was called outside a transaction: wrap the change and its events in `transaction.atomic(using=…)`."""


def publish(event: Event, *, key: str, cause: Received[Any] | None = None) -> None:
    """Publish one event in the transaction that is open on the service's database.

    `key` is the aggregate's id: events of one key are sent in the order in which they were published. For that to be the
    order of the changes, lock the aggregate (`select_for_update`) before you change it and publish, unless this very
    transaction inserts it: of two transactions that change it at once the later one must wait here, and not commit first.
    Raises UnlockedAggregate where that is seen to be missing (OUTBOX_CHECK_KEYS, in development and tests).

    `cause` is the event that led to this one; without it the trace and the request at hand are its own. Raises
    NotInTransaction.
    """
    publish_all([Outgoing(event, key, cause)])


def publish_all(outgoing: Iterable[Outgoing]) -> None:
    """Publish many events, in their order, all or none. About locks see `publish`.

    From a generator they are taken as they are written, a few at a time: memory holds about OUTBOX_BATCH_BYTES of them. It
    may use the database. Raises NotInTransaction and UnlockedAggregate.
    """
    connection = connections[settings.SERVICE_DATABASE]
    if not connection.in_atomic_block:
        raise NotInTransaction(", ".join(sorted({one.event.topic for one in islice(outgoing, CHUNK)})))
    # What fails half-way leaves a transaction that can only be rolled back.
    with transaction.atomic(using=settings.SERVICE_DATABASE, savepoint=False):
        for chunk in _chunks(seal_each(outgoing)):
            write(chunk)


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


def write(envelopes: Sequence[Envelope]) -> None:
    """Add envelopes to the outbox of the service's database, by COPY: a set costs little more than a row."""
    connection = connections[settings.SERVICE_DATABASE]
    if not connection.in_atomic_block:
        raise NotInTransaction(", ".join(sorted({envelope.topic for envelope in envelopes})))
    if not envelopes:
        return
    key_check.check(connection, envelopes)
    command = "COPY outbox (event_id, topic, key, payload, headers, request_id) FROM STDIN"
    # COPY is psycopg's own: its errors are not Django's, and only Django's are known as a database that is away.
    with connection.wrap_database_errors, connection.cursor() as cursor, cursor.copy(command) as copy:
        for e in envelopes:
            copy.write_row((e.event_id, e.topic, e.key, e.payload, orjson.dumps(e.headers).decode(), e.request_id))
    for envelope in envelopes:
        metrics.OUTBOX_WRITTEN.labels(envelope.topic).inc()


def headers_to_json(headers: Headers) -> list[tuple[str, Any]]:
    """Headers as the outbox keeps them: text as text, other bytes as {"base64": …}, so that none is changed."""
    return [(name, _to_json(value)) for name, value in headers]


def _to_json(value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}
    return {"base64": base64.b64encode(value).decode()} if "\0" in text else text


def headers_from_json(headers: str) -> Headers:
    """The headers that `headers_to_json` kept, byte for byte, from the column's text."""
    return [(name, _from_json(value)) for name, value in orjson.loads(headers)]


def _from_json(value: Any) -> bytes | None:
    if isinstance(value, dict):
        return base64.b64decode(value["base64"])
    return None if value is None else value.encode()
