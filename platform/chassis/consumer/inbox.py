"""The inbox: an event is noted in the transaction of its effects, so a repeat finds it and does nothing.

An event is known by its source, its id and its topic (`Received.identity`).
"""

from collections.abc import Sequence
from typing import Any

import orjson
from django.conf import settings
from django.db import connections

from chassis.events.registry import Received

# Rows from before migration 0008 have no source: they are the event with that id on that topic, whatever its source. Once
# none is left, which an index of its own tells (inbox_without_source), nothing is looked up for each event.
# ON CONFLICT names no index, as the table has two while consumers of the version before may run (inbox_key.py).
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


def claim(events: Sequence[Received[Any]]) -> set[tuple[str, str, str]]:
    """Note these events and return the identities of those that were new.

    One that another transaction is just noting is waited for: it is new here only if that one rolls back. The rows
    go in sorted, so that two consumers with the same events wait for each other and never in a circle.
    """
    if not events:
        return set()
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
    with connections[settings.SERVICE_DATABASE].cursor() as cursor:
        # As one JSON text: arrays take the client four times as long.
        cursor.execute(CLAIM, [orjson.dumps(rows).decode()])
        return set(cursor.fetchall())
