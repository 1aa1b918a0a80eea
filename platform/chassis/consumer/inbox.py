"""The inbox: an event is recorded in the transaction of its effects, so that a duplicate is recognised and skipped.

An event is identified by its source, id and topic (`Received.identity`).
"""

from collections.abc import Sequence
from typing import Any

import orjson
from django.conf import settings
from django.db import connections

from chassis.events.registry import Received
from chassis.observability import sql_spans

# Rows from before migration 0008 have no source: they match any event with that id on that topic. Once none is left, which
# the index inbox_without_source shows, there is no lookup per event.
# ON CONFLICT names no index, since the table has two while consumers of the previous version may run (inbox_key.py).
CLAIM = """
INSERT INTO inbox (event_id, topic, source, key, request_id)
SELECT * FROM json_to_recordset(%s) AS new (event_id text, topic text, source text, key text, request_id text)
WHERE (SELECT event_id FROM inbox WHERE source = '' ORDER BY event_id, topic LIMIT 1) IS NULL
OR NOT EXISTS (
    SELECT 1 FROM inbox AS old WHERE old.event_id = new.event_id AND old.topic = new.topic AND old.source = ''
)
ORDER BY event_id, topic, source
ON CONFLICT DO NOTHING
RETURNING event_id, topic, source
"""


def claim(events: Sequence[Received[Any]], mark: str) -> set[tuple[str, str, str]]:
    """Record these events, and return the identities of those that are new. `mark` is executed before, in the same round trip.

    If another transaction is recording the same event, this waits for it: the event is new only if that transaction rolls
    back. Rows are inserted in sorted order, so that two consumers with the same events cannot deadlock.
    """
    from psycopg import ClientCursor  # only in a service with a database

    rows = [
        {
            "event_id": one.id,
            "topic": one.event.topic,
            "source": one.source,
            "key": one.key,
            "request_id": one.request_id,
        }
        for one in events
    ]
    connection: Any = connections[settings.SERVICE_DATABASE]
    connection.send_postponed()
    # Several statements in one string require that the client inserts the parameters, as psycopg's ClientCursor does.
    with (
        sql_spans.statement(connection.alias, CLAIM),
        connection.wrap_database_errors,
        ClientCursor(connection.connection) as cursor,
    ):
        # One JSON text: the client takes four times as long for arrays.
        cursor.execute(f"{mark}; {CLAIM}".encode(), [orjson.dumps(rows).decode()])
        cursor.nextset()
        return set(cursor.fetchall())
